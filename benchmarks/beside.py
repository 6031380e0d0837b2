"""What the peers take for the same: from this run where they were measured, else from another machine, marked as such.

Owns the reference values and the notes beside our figures. Does not own measuring (`peers.py`).
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fedparty-benchmarks"
MEASURED = CACHE / "measured.json"
MAX_AGE_S = 4 * 3600.0
"""Older figures are of another run."""

REFERENCE: dict[str, dict[str, float]] = {
    "FLARE": {
        "up_s": 7.8, "up_10_s": 16.6, "down_s": 6.4, "job_s": 10.9, "round_s": 2.5, "large_round_s": 4.05,
        "large_peak_pss_bytes": 3.7e9, "list_s": 1.8, "idle_pss_bytes": 189e6,
    },
    "Flower": {"job_s": 17.5, "round_s": 6.1, "large_round_s": 7.0, "large_peak_pss_bytes": 3.7e9},
}  # fmt: skip
"""On another machine of two cores: NVIDIA FLARE 2.9.0, Flower 1.41.0."""


def measured() -> dict[str, dict[str, float]]:
    """Return what the peers took in this run."""
    if not MEASURED.exists() or time.time() - MEASURED.stat().st_mtime > MAX_AGE_S:
        return {}
    found: dict[str, dict[str, float]] = json.loads(MEASURED.read_text())
    return found


def note(key: str) -> str:
    """Return what the peers take, for one of the keys above."""
    now = measured()
    words = []
    for peer, reference in REFERENCE.items():
        value = now.get(peer, {}).get(key, reference.get(key))
        if value is not None:
            text = f"{value / 2**20:.0f} MiB" if key.endswith("_bytes") else f"{value:.3g} s"
            words.append(f"{peer} {text}" + ("" if key in now.get(peer, {}) else " (reference)"))
    return ", ".join(words)
