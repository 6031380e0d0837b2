"""What the guest of the toy example prints, in order: the lines that KubeFATE's users look for."""

from __future__ import annotations

GUEST_LINES = [
    "begin to init parameters of secure add example guest",
    "begin to make guest data",
    "split data into two random parts",
    "share one random part data to host",
    "get share of one random part data from host",
    "begin to get sum of guest and host",
    "receive host sum from guest",
    "success to calculate secure_sum, it is 2000.0",
]
