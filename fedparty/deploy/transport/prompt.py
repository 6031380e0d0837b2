"""Asking whoever runs the deployer, one question at a time.

Owns the order of questions and how a terminal is asked. Does not own what is asked.
"""

from __future__ import annotations

import asyncio
import getpass
import threading
from collections.abc import Callable

from fedparty.types import Secret


class Prompt:
    """A person, or nobody.

    Parameters
    ----------
    is_there
        Whether somebody can be asked at all.
    ask
        Asks a question and returns the answer; called in a thread.
    ask_secret
        The same, and the answer is not shown.

    Attributes
    ----------
    turn
        To be held from the look whether a question is still open to its answer.
    """

    def __init__(
        self,
        *,
        is_there: bool,
        ask: Callable[[str], str] = input,
        ask_secret: Callable[[str], str] = getpass.getpass,
    ) -> None:
        self.is_there = is_there
        self.turn = asyncio.Lock()
        self._ask = ask
        self._ask_secret = ask_secret

    async def confirm(self, question: str) -> bool:
        """Ask a question whose answer is yes or no; hold `turn`."""
        return (await _in_daemon_thread(self._ask, f"{question} [y/N]")).strip().lower() in ("y", "yes")

    async def secret(self, question: str) -> Secret:
        """Ask for a password; hold `turn`."""
        return Secret(await _in_daemon_thread(self._ask_secret, f"{question}: "))


async def _in_daemon_thread(function: Callable[[str], str], question: str) -> str:
    """Call a function that may wait for ever: Ctrl-C ends the deployer without an answer."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[str] = loop.create_future()

    def call() -> None:
        try:
            result, error = function(question), None
        except (EOFError, OSError) as exc:
            result, error = "", exc
        loop.call_soon_threadsafe(_settle, answer, result, error)

    threading.Thread(target=call, daemon=True, name="prompt").start()
    return await answer


def _settle(answer: asyncio.Future[str], result: str, error: Exception | None) -> None:
    if answer.done():
        return
    if error is None:
        answer.set_result(result)
    else:
        answer.set_exception(error)
