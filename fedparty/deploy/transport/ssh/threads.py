"""Where paramiko's blocking calls wait.

Owns the threads of one connection. Knows nothing of SSH.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

_MOST = 64
"""More than the sessions of a connection can ever have waiting, so that none waits for a thread."""


class Threads:
    """Threads that end with `close`."""

    def __init__(self, name: str) -> None:
        self._executor = ThreadPoolExecutor(_MOST, thread_name_prefix=name)

    async def call(
        self, function: Callable[Parameters, Result], *args: Parameters.args, **kwargs: Parameters.kwargs
    ) -> Result:
        """Call a function in a thread; it runs on when this is cancelled."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, lambda: function(*args, **kwargs))

    async def close(self) -> None:
        """Wait until every call has ended."""
        await asyncio.to_thread(self._executor.shutdown)
