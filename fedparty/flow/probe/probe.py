"""One probe, from start to end.

Owns the order: the party itself and the ways to the others at the same time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from fedparty import __version__
from fedparty.flow.peers import Peers
from fedparty.flow.probe.answers import Answers, Way
from fedparty.flow.probe.own import examine
from fedparty.flow.probe.ways import Ways
from fedparty.rpc.channels import open_channel
from fedparty.settings import FlowSettings
from fedparty.types import PartyId


async def probe(settings: FlowSettings, parties: Sequence[PartyId], *, is_throughput_wanted: bool) -> Answers:
    """Examine this party, and the ways from it to `parties`."""
    checks, ways = await asyncio.gather(
        examine(settings), _ways(settings, parties, is_throughput_wanted=is_throughput_wanted)
    )
    return Answers(settings.party, __version__, checks, ways)


async def _ways(settings: FlowSettings, parties: Sequence[PartyId], *, is_throughput_wanted: bool) -> tuple[Way, ...]:
    async with open_channel(settings.egress) as egress:
        peers = Peers(egress, settings.peer_timeout_s)
        return await Ways(peers, is_throughput_wanted=is_throughput_wanted).measure(parties)
