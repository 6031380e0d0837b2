"""A site's ``policy.yaml``: a live file, taken over when it is replaced.

Owns reading it when it changed, and which policy is in force where it is broken. Does not own its form (`reading`).
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from pathlib import Path

from watchfiles import awatch

from fedparty.errors import ConfigurationError
from fedparty.flow.policy.model import CLOSED, DEFAULT, Policy
from fedparty.flow.policy.reading import read

logger = logging.getLogger(__name__)

_Stamp = tuple[int, int, int] | None  # None: there is no file
_POLL_MS = 5_000  # file systems without events (network, some containers), and a folder that is made later
_DEBOUNCE_MS = 50


class PolicyFile:
    """The policy in force.

    A file that cannot be read leaves the policy before it in force. At the start there is none before it: then nothing
    is allowed.

    Parameters
    ----------
    path
        The file; where there is none, the default policy is in force.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fault = ""
        """Why the file as it is now is not in force; empty: it is."""
        self.digest = ""
        """SHA-256 of the file that is in force; empty: the default is."""
        self._policy = CLOSED
        self._stamp: _Stamp = self._read_stamp()
        self._take_over()

    @property
    def policy(self) -> Policy:
        """What is allowed now: a file that was replaced is read first."""
        stamp = self._read_stamp()
        if stamp != self._stamp:
            self._stamp = stamp
            self._take_over()
        return self._policy

    @property
    def source(self) -> str:
        """Where the policy in force comes from, for people."""
        if self._policy is DEFAULT:
            return f"the default: there is no {self.path}"
        if self._policy is CLOSED:
            return f"nothing is allowed: {self.path} could not be read since the start"
        return f"{self.path}, SHA-256 {self.digest[:16]}…"

    async def changes(self) -> AsyncIterator[None]:
        """Yield each time that the file was replaced, until the caller's task is cancelled."""
        seen = self._stamp
        while True:
            async with aclosing(self._looks()) as looks:
                async for folder in looks:
                    _ = self.policy
                    if self._stamp != seen:
                        seen = self._stamp
                        yield
                    if folder != self._folder():
                        break

    async def _looks(self) -> AsyncGenerator[Path]:
        """Yield the watched folder when it is time to look: now, and whenever something in it changed."""
        folder = self._folder()
        yield folder
        events = awatch(
            folder, watch_filter=None, debounce=_DEBOUNCE_MS, rust_timeout=_POLL_MS, yield_on_timeout=True,
            recursive=False,
        )  # fmt: skip
        async with aclosing(events):
            async for _ in events:
                yield folder

    def _folder(self) -> Path:
        """Return the nearest folder that exists."""
        return next(folder for folder in self.path.absolute().parents if folder.is_dir())

    def _read_stamp(self) -> _Stamp:
        try:
            status = self.path.stat()
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns, status.st_size

    def _take_over(self) -> None:
        try:
            content = self.path.read_bytes()
            policy, digest = read(content, str(self.path)), hashlib.sha256(content).hexdigest()
        except FileNotFoundError:
            policy, digest = DEFAULT, ""
        except OSError as exc:
            self._keep(f"{self.path}: {exc.strerror}")
            return
        except ConfigurationError as exc:
            self._keep(exc.message)
            return
        self._policy, self.digest, self.fault = policy, digest, ""
        logger.info("the policy in force: %s", self.source)

    def _keep(self, fault: str) -> None:
        self.fault = fault
        logger.error("%s; in force stays: %s", fault, self.source)
