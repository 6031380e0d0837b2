"""What the operations listener answers."""

from __future__ import annotations

import json
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Counter

from fedparty.rpc.operations import _Operations, new_registry


async def answer(
    path: str, waiting_for: dict[str, str], *, method: str = "GET", leads: bool | None = None
) -> tuple[int, str]:
    registry = CollectorRegistry()
    Counter("calls", "Calls", registry=registry).inc()

    async def readiness() -> dict[str, str]:
        return waiting_for

    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    asked = None if leads is None else lambda: leads
    await _Operations(readiness, registry, asked)({"method": method, "path": path}, None, send)
    return sent[0]["status"], sent[1]["body"].decode()


async def test_ready() -> None:
    status, body = await answer("/readyz", {})
    assert (status, json.loads(body)) == (200, {"ready": True})


async def test_waiting() -> None:
    status, body = await answer("/readyz", {"mailbox": "no answer"})
    assert (status, json.loads(body)) == (503, {"ready": False, "waiting_for": {"mailbox": "no answer"}})


async def test_healthy_whatever_it_waits_for() -> None:
    assert (await answer("/healthz", {"mailbox": "no answer"}))[0] == 200


async def test_metrics() -> None:
    status, body = await answer("/metrics", {})
    assert status == 200
    assert "calls_total 1.0" in body


@pytest.mark.parametrize(("path", "method", "status"), [("/other", "GET", 404), ("/metrics", "POST", 405)])
async def test_nothing_else(path: str, method: str, status: int) -> None:
    assert (await answer(path, {}, method=method))[0] == status


async def test_head_has_no_body() -> None:
    assert await answer("/healthz", {}, method="HEAD") == (200, "")


def test_two_services_of_one_process_have_registries_of_their_own() -> None:
    assert new_registry() is not new_registry()


@pytest.mark.parametrize(("leads", "status", "role"), [(True, 200, "leader"), (False, 503, "standby")])
async def test_leader(leads: bool, status: int, role: str) -> None:
    assert await answer("/leader", {}, leads=leads) == (status, json.dumps({"role": role}))
    assert json.loads((await answer("/readyz", {}, leads=leads))[1]) == {"ready": True, "role": role}
    waiting = {"database": "does not answer"}
    assert await answer("/leader", waiting, leads=leads) == (status, json.dumps({"role": role}))
    ready, body = await answer("/readyz", waiting, leads=leads)
    assert (ready, json.loads(body)) == (503, {"ready": False, "waiting_for": waiting, "role": role})


async def test_a_service_without_replicas_has_no_leader() -> None:
    assert (await answer("/leader", {}))[0] == 404
