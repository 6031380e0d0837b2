"""What crosses the wire between two parties: TLS only. The same capture on a plaintext twin finds the canary."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import select
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from laboratory import Laboratory, laboratory

ETHERNET_ALL = 0x0003
"""ETH_P_ALL, linux/if_ether.h."""


class Capture:
    """Every byte that crosses the loopback interface while it is entered (packet(7))."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETHERNET_ALL))
        self._socket.bind(("lo", 0))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024**2)
        self._wake, self._end = os.pipe()
        self._thread = threading.Thread(target=self._take)
        self.packets: list[bytes] = []

    def _take(self) -> None:
        while True:
            ready, _, _ = select.select([self._socket, self._wake], [], [])
            if self._socket in ready:
                self.packets.append(self._socket.recv(1 << 17))
            elif self._wake in ready:
                return

    def __enter__(self) -> Capture:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        os.write(self._end, b"x")
        self._thread.join()
        self._socket.close()
        os.close(self._wake)
        os.close(self._end)

    def to_port(self, port: int) -> bytes:
        """Return the TCP bytes that went to a port (20 bytes IPv4 header and more, RFC 791; RFC 9293)."""
        found = []
        for packet in self.packets:
            ip = packet[14:]
            if len(ip) < 40 or ip[0] >> 4 != 4 or ip[9] != socket.IPPROTO_TCP:
                continue
            tcp = ip[(ip[0] & 15) * 4 :]
            if int.from_bytes(tcp[2:4], "big") == port:
                found.append(tcp[(tcp[12] >> 4) * 4 :])
        return b"".join(found)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laboratory]:
    with contextlib.suppress(PermissionError):
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close()
        with laboratory(tmp_path_factory.mktemp("lab"), layout="together") as lab:
            lab.up("--no-verify")
            yield lab
        return
    if os.environ.get("CI"):
        pytest.fail("capturing packets takes CAP_NET_RAW: run CI as root")
    pytest.skip("capturing packets takes CAP_NET_RAW: run as root")


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
