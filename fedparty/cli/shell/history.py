"""What was typed before: ``~/.local/state/fedparty/console-history`` (``XDG_STATE_HOME``), 0600.

Owns that file: it does not grow without end, and a line with a token or a password in it is never written.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from prompt_toolkit.history import FileHistory

from fedparty.crypto.files import SECRET_MODE, make_private_folder, replace_file

LARGEST_BYTES = 1 << 20
_SECRET = re.compile(r"token|password|secret", re.IGNORECASE)


def open_history() -> FileHistory:
    """Return the history, its file made if there is none."""
    path = place()
    make_private_folder(path.parent)
    os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, SECRET_MODE))
    path.chmod(SECRET_MODE)
    _shorten(path)
    return _History(str(path))


def place() -> Path:
    """Return where the history is kept."""
    base = Path(os.environ.get("XDG_STATE_HOME", ""))  # one that is not absolute does not count (XDG, basedir)
    return (base if base.is_absolute() else Path.home() / ".local/state") / "fedparty" / "console-history"


def _shorten(path: Path) -> None:
    """Drop the older half of a file that has grown too large; an entry begins after an empty line."""
    content = path.read_bytes()
    if len(content) > LARGEST_BYTES:
        _, _, newer = content[-LARGEST_BYTES // 2 :].partition(b"\n\n")
        replace_file(path, b"\n" + newer, mode=SECRET_MODE)


class _History(FileHistory):
    def store_string(self, string: str) -> None:
        if not _SECRET.search(string):
            super().store_string(string)
