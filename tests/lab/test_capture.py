"""What crosses the wire between two parties: TLS only. The same capture on a plaintext twin finds the canary."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from available import require
from capture import Capture
from laboratory import Laboratory, laboratory


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laboratory]:
    require("capture")
    with laboratory(tmp_path_factory.mktemp("lab"), layout="together") as lab:
        lab.up("--no-verify")
        yield lab


def submit(lab: Laboratory, name: str) -> str:
    """Run a job of this name to its end; its name travels to the host in the job's description."""
    home = lab.home("10000")
    transport = httpx.HTTPTransport(uds=str((home / "run").resolve() / "flow-rest.sock"))
    token = (home / "bundle" / "secrets" / "api-token").read_text().strip()
    job = {
        "name": name,
        "roles": {"guest": ["10000"], "host": ["9999"]},
        "tasks": {"sum": {"component": "secure_sum", "cores": 0.1}},
        "timeout_s": 8,
    }
    headers = {"Authorization": f"Bearer {token}"}
    with httpx.Client(transport=transport, base_url="http://flow", headers=headers, timeout=30) as client:
        reply = client.post("/v1/jobs", json=job)
        assert reply.status_code == 201, reply.text
        path, state = f"/v1/jobs/{reply.json()['id']}", reply.json()["state"]
        while state in ("waiting", "running"):
            state = client.get(path, params={"wait_s": 20, "known_state": state}).json()["state"]
    return str(state)


def plain(value: Any) -> Any:
    """Return an Envoy resource without TLS, and without the checks that need a certificate."""
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items() if not key.startswith("transport_socket")}
    if isinstance(value, list):
        return [plain(each) for each in value if not (isinstance(each, dict) and "rbac" in str(each.get("name")))]
    if value == "%DOWNSTREAM_PEER_URI_SAN%":
        return "spiffe://fedparty.internal/party/10000"
    return value


def make_plaintext(live: Path) -> None:
    for name in ("cds.json", "lds.json"):
        content = plain(json.loads((live / name).read_text()))
        (live / f".{name}").write_text(json.dumps(content))
        (live / f".{name}").rename(live / name)


def test_a_canary_is_only_seen_on_the_plaintext_twin(lab: Laboratory) -> None:
    port = lab.ports["9999"][0]
    canary = f"canary-{secrets.token_hex(12)}"
    with Capture() as capture:
        assert submit(lab, canary) == "success"
    captured = capture.to_port(port)
    assert len(captured) > 1000
    assert canary.encode() not in captured

    for party in lab.parties:
        make_plaintext(lab.home(party) / "bundle" / "proxy" / "live")
        lab.control(party, "restart", "party:proxy")
    lab.wait_healthy()
    with Capture() as capture:
        submit(lab, canary)
    assert canary.encode() in capture.to_port(port)
