"""TCP ports for what the tests start.

Owns choosing them: below the range from which the kernel takes the ports of outgoing connections, and another slice in
each test process, so that no test takes the port that another has chosen and not yet opened.
"""

from __future__ import annotations

import itertools
import os
import socket

_FIRST, _SLICE = 15000, 1500
_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_BEGIN = os.getpid() * 7 % _SLICE  # another one in each run, for two may go on at once
_numbers = itertools.cycle(_FIRST + _WORKER * _SLICE + (_BEGIN + number) % _SLICE for number in range(_SLICE))


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on, and that this process has not returned lately."""
    for port in itertools.islice(_numbers, _SLICE):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError("no port is free")


def free_ports(count: int) -> list[int]:
    """Return several such ports."""
    return [free_port() for _ in range(count)]
