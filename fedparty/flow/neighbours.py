"""This party's other services, as its flow reaches them.

Owns one open channel to each, and whether they answer. Does not own what is asked of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from fedparty.rpc.calls import Channel
from fedparty.rpc.channels import open_channel
from fedparty.settings import FlowSettings

PROBE_S = 1.0
"""How long one is given to answer."""


@dataclass(frozen=True)
class Neighbours:
    """The channels."""

    egress: Channel
    mailbox: Channel
    worker: Channel

    async def missing(self) -> dict[str, str]:
        """Return who does not answer."""
        probed = {"proxy": self.egress, "mailbox": self.mailbox, "worker": self.worker}
        answers = await asyncio.gather(*map(_probe, probed.values()))
        return {name: answer for name, answer in zip(probed, answers, strict=True) if answer}


@asynccontextmanager
async def open_neighbours(settings: FlowSettings) -> AsyncIterator[Neighbours]:
    """Open the channels while the block runs."""
    async with (
        open_channel(settings.egress) as egress,
        open_channel(settings.mailbox) as mailbox,
        open_channel(settings.worker) as worker,
    ):
        yield Neighbours(egress, mailbox, worker)


async def _probe(channel: Channel) -> str:
    try:
        async with asyncio.timeout(PROBE_S):
            await channel.channel_ready()
    except TimeoutError:
        return "does not answer"
    return ""
