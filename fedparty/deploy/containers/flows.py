"""A party's job servers as containers: one leads at any time, and one that is to be alone never runs beside another.

Owns the order in which they are ended and started anew. Does not own who leads: those that know of each other agree.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fedparty.deploy.bundle import FLOW, PROXY, standby_first
from fedparty.deploy.containers import watching

if TYPE_CHECKING:
    from fedparty.deploy.containers.compose import Container
    from fedparty.deploy.containers.place import Place

READY_TIMEOUT_S = 60.0
_FLOWS = (FLOW, f"{FLOW}-2")
_STOP_TIMEOUT_S = 60.0


async def settle(place: Place, wanted: Sequence[str], stale: Sequence[str], *, is_anew: bool = False) -> None:
    """Do with job servers what must be done before everything else is started as the bundle in place says.

    Parameters
    ----------
    wanted
        The job servers of that bundle.
    stale
        Those that Compose would make anew.
    is_anew
        Make them anew, whatever Compose thinks.

    Raises
    ------
    DeployError
        One does not become healthy; another one goes on as before.
    """
    running = await _running(place)
    if not running or not wanted:
        return
    if len(running) > len(wanted):
        await place.docker(("docker", "stop", *(each.name for each in running.values())), timeout_s=_STOP_TIMEOUT_S)
        await place.up(PROXY)  # it held the socket of the one that will be alone
    elif len(running) < len(wanted) and FLOW in running:
        await _start_anew(place, FLOW, is_anew=is_anew)
    elif len(stale) > 1:
        for flow in standby_first(stale, await _roles(place, running))[:-1]:
            await _start_anew(place, flow, is_anew=is_anew)


async def _start_anew(place: Place, flow: str, *, is_anew: bool) -> None:
    await place.up(flow, is_anew=is_anew)
    await watching.require_healthy(place, flow, READY_TIMEOUT_S)


async def _running(place: Place) -> dict[str, Container]:
    found = await place.containers(_FLOWS)
    return {flow: each for flow in _FLOWS if (each := found.get(place.container(flow))) and each.is_running}


async def _roles(place: Place, running: dict[str, Container]) -> dict[str, str]:
    readings = await asyncio.gather(*(watching.read(place, flow, each) for flow, each in running.items()))
    return {reading.service: reading.role for reading in readings}


async def way_in(place: Place, flows: Sequence[str]) -> str:
    """Return the container in which commands of the party are run: that of a job server, if one runs."""
    running = await _running(place) if len(flows) > 1 else {}
    return next((each.name for each in running.values()), place.container(FLOW))
