"""The mailbox as this party's flow uses it: register and close tasks.

Owns the calls. Does not own when they are made.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import TypeVar

from google.protobuf.message import Message

from fedparty.federation import names
from fedparty.rpc import calls, channels
from fedparty.rpc.v1 import local_pb2
from fedparty.types import JobId, Member, TaskRun

Reply = TypeVar("Reply", bound=Message)


class MailboxClient:
    """Calls this party's mailbox, again and again while it is being restarted.

    Parameters
    ----------
    channel
        To the mailbox's local listener; closed by whoever opened it.
    token
        Returns a service token for the scope ``mailbox``, at each call.
    timeout_s
        How long a call is repeated.
    """

    def __init__(self, channel: calls.Channel, token: Callable[[], str], timeout_s: float = 10.0) -> None:
        self._channel = channel
        self._token = token
        self._timeout_s = timeout_s

    async def register(self, run: TaskRun, members: Iterable[Member]) -> None:
        """Register an attempt with all its members.

        Raises
        ------
        RpcError
            ``STALE_ATTEMPT``, ``TASK_ENDED``, ``MAILBOX_DOWN``…
        """
        request = local_pb2.RegisterRequest(run=names.run_message_of(run), members=sorted(map(str, members)))
        await self._call("Register", request, local_pb2.RegisterReply)

    async def close(self, job: JobId, task: str) -> None:
        """End a task; unknown ones too.

        Raises
        ------
        RpcError
            ``MAILBOX_DOWN``…
        """
        await self._call("Close", local_pb2.CloseRequest(job=job, task=task), local_pb2.CloseReply)

    async def stats(self) -> local_pb2.StatsReply:
        """Return what the mailbox holds.

        Raises
        ------
        RpcError
            ``MAILBOX_DOWN``…
        """
        return await self._call("Stats", local_pb2.StatsRequest(), local_pb2.StatsReply)

    async def _call(self, method: str, request: Message, reply: type[Reply]) -> Reply:
        deadline = time.monotonic() + self._timeout_s

        async def attempt() -> Reply:
            return await calls.call(
                self._channel,
                f"/{names.LOCAL_SERVICE}/{method}",
                request,
                reply,
                metadata=channels.bearer(self._token()),
                timeout_s=channels.remaining_s(deadline),
                unavailable="MAILBOX_DOWN",
            )

        return await channels.retrying(attempt, deadline=deadline)
