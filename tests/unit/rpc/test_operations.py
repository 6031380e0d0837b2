"""What the operations listener answers."""

from __future__ import annotations

import json
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Counter

from fedparty.rpc.operations import _Operations, new_registry


async def answer(path: str, waiting_for: dict[str, str], *, method: str = "GET") -> tuple[int, str]:
    registry = CollectorRegistry()
    Counter("calls", "Calls", registry=registry).inc()

    async def readiness() -> dict[str, str]:
        return waiting_for

    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await _Operations(readiness, registry)({"method": method, "path": path}, None, send)
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
