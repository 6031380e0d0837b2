"""Whether the services of a party are healthy, each asked in its own container.

Owns the question, the wait, and what a container's end means. What healthy is, each image's ``healthy`` says.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import replace

from fedparty.deploy.containers import compose
from fedparty.deploy.containers.compose import Container
from fedparty.deploy.containers.place import Place
from fedparty.deploy.health import DOWN, HEALTHY, NO_ANSWER, Reading, with_one_leader
from fedparty.errors import DeployError

_ANSWER_S = 60.0
_LOOK_AGAIN_S = 0.5
_TOO_MANY_STARTS = 3
_LOG_LINES = 15

OnReading = Callable[[Reading], None]


async def read(place: Place, service: str, container: Container) -> Reading:
    """Return the state of a service now."""
    if not container.is_running:
        return Reading(service, DOWN, container.describe_end())
    done = await place.docker(compose.healthy(container.name), is_required=False)
    lines = [line for line in done.output.splitlines() if line.startswith("{")]
    reading = Reading.from_json(lines[-1]) if lines else Reading(service, DOWN, done.last_lines() or NO_ANSWER)
    return replace(reading, service=service, pid=container.pid, started=container.started)


async def wait(place: Place, service: str, timeout_s: float, on_reading: OnReading) -> Reading:
    """Ask a service until it is healthy, its container ends again and again, or time is over."""
    now = asyncio.get_running_loop().time
    deadline, before = now() + timeout_s, await _starts(place, service)
    while True:
        latest = await _ask(place, service, max(1.0, deadline - now()), on_reading)
        if latest.state == HEALTHY:
            return latest
        found = (await place.containers([service])).get(place.container(service))
        if found is None or not found.is_running:
            latest = Reading(service, DOWN, found.describe_end() if found else "its container does not exist")
        if now() > deadline or (found and found.restarts - before >= _TOO_MANY_STARTS):
            return latest
        await asyncio.sleep(_LOOK_AGAIN_S)  # Docker starts it again, later and later


async def wait_for_leader(place: Place, readings: Sequence[Reading], timeout_s: float) -> tuple[Reading, ...]:
    """Return readings of services that were each waited for, as soon as exactly one of several job servers leads.

    One that was healthy before the other was asked may have said another role.
    """
    now = asyncio.get_running_loop().time
    deadline, found = now() + timeout_s, {reading.service: reading for reading in readings}
    flows = [reading.service for reading in readings if reading.role]
    while (judged := with_one_leader(list(found.values()))) != tuple(found.values()) and now() < deadline:
        containers = await place.containers(flows)
        for flow in flows:
            if container := containers.get(place.container(flow)):
                found[flow] = await read(place, flow, container)
    return judged


async def require_healthy(place: Place, service: str, timeout_s: float) -> None:
    """Wait until a service is healthy.

    Raises
    ------
    DeployError
        It is not, in time; the end of its log is told.
    """
    reading = await wait(place, service, timeout_s, lambda _: None)
    if reading.state != HEALTHY:
        tail = await log_tail(place, service)
        raise DeployError(f"party {place.party}: {service} is {reading.state}: {reading.detail}\n{tail}")


async def log_tail(place: Place, service: str) -> str:
    """Return the last lines of a service's log."""
    argv = compose.logs(place.container(service), _LOG_LINES, follow=False)
    return (await place.docker(argv, is_required=False)).output.rstrip()


async def _starts(place: Place, service: str) -> int:
    """Return how often Docker has started a service again until now."""
    found = (await place.containers([service])).get(place.container(service))
    return found.restarts if found else 0


async def _ask(place: Place, service: str, timeout_s: float, on_reading: OnReading) -> Reading:
    """Let a service tell each change of its state until it is healthy, its container ends, or time is over."""
    latest = Reading(service, DOWN, NO_ANSWER)

    def take(line: str) -> None:
        nonlocal latest
        with contextlib.suppress(ValueError):  # Docker's own words when a container ends meanwhile
            latest = Reading.from_json(line)
            on_reading(latest)

    command = await place.command(compose.healthy(place.container(service), timeout_s=timeout_s))
    done = await place.transport.run(command, timeout_s=timeout_s + _ANSWER_S, on_line=take)
    if done.code != 0 and latest.detail == NO_ANSWER and done.errors.strip():
        return Reading(service, DOWN, done.errors.strip().splitlines()[-1])
    return latest
