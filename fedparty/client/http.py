"""httpx, without the command line of its own that it loads otherwise.

Owns that trick: a third of the time that a command of ours takes would go into its terminal libraries.
"""

from __future__ import annotations

import sys

_COMMAND_LINE = "httpx._main"

if "httpx" not in sys.modules:
    sys.modules[_COMMAND_LINE] = None  # type: ignore[assignment] # httpx does without where it cannot be imported
    import httpx

    del sys.modules[_COMMAND_LINE]
else:
    import httpx

__all__ = ["httpx"]
