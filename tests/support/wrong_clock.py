"""A clock that is wrong, for one process and its children.

Owns building what is preloaded. Does not own who gets it.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest


def wrong_clock(folder: Path, shift_s: float) -> dict[str, str]:
    """Return the environment of a process whose time of day is `shift_s` ahead; what it needs is built in `folder`."""
    if shutil.which("cc") is None:
        pytest.skip("no C compiler: no process can be given a wrong clock")
    library = folder / "wrong_clock.so"
    if not library.exists():
        source = Path(__file__).with_suffix(".c")
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
    return {"LD_PRELOAD": str(library), "WRONG_CLOCK_S": str(round(shift_s))}
