"""What a task and its children print, on its way from their pipe to the task's ``output.log``.

Owns the file's size limit: what is printed beyond it is read, so that nobody waits, and dropped. Does not own when it
is read (`nursery`).
"""

from __future__ import annotations

import os
from pathlib import Path

from fedparty.worker.spec import OUTPUT

_READ_BYTES = 1 << 16
"""As much as a pipe holds (pipe(7))."""


class Printed:
    """A task's pipe, as the fork server reads it.

    Parameters
    ----------
    folder
        The task's.
    limit_bytes
        How much is kept.

    Raises
    ------
    OSError
        No file or pipe can be opened.
    """

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self._file = os.open(folder / OUTPUT, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            self.reader, self.writer = os.pipe()
        except OSError:
            os.close(self._file)
            raise
        os.set_blocking(self.reader, False)
        self._room = limit_bytes
        self._full = f"\n[fedparty: {limit_bytes} bytes were printed; the rest is dropped]\n".encode()

    def close_writer(self) -> None:
        """Leave the writing end to the task alone."""
        os.close(self.writer)

    def copy(self) -> bool:
        """Copy what has been printed, at most one read of it; return whether there may be more now."""
        try:
            data = os.read(self.reader, _READ_BYTES)
        except BlockingIOError:
            return False
        if self._room and data:
            self._write(data)
        return bool(data)

    def close(self) -> None:
        """Copy what is left, and end."""
        self.copy()
        os.close(self.reader)
        os.close(self._file)

    def _write(self, data: bytes) -> None:
        kept, self._room = data[: self._room], max(0, self._room - len(data))
        try:
            os.write(self._file, kept)
            if not self._room:
                os.write(self._file, self._full)
        except OSError:  # a full disk ends the task by its own writes; what it prints must not end the fork server
            self._room = 0
