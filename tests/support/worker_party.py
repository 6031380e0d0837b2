"""A party with its mailbox and its worker as one real process, and a relay in the place of the two proxies.

Owns homes, keys and the process of the worker's tests. The relay does what Envoy does to a call, without TLS: the real
proxies have tests of their own. Run as a program, it is that process.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from fedparty.types import JobId, Member, PartyId, TaskRun, party_uri

FEDERATION = "lab"
LOG_LIMIT_BYTES = 1 << 20
JOB = JobId("10000-01JD3MZZZZZZZZZZZZZZZZZZZZ")
DELIVER = "/fedparty.v1.peer.Mailbox/Deliver"


class WorkerParty:
    """A party in a folder of its own; all parties of a test lie side by side.

    Parameters
    ----------
    root
        Where the homes are; short, for sockets.
    authority
        The federation's `fedparty.pki.authority.Authority`.
    """

    def __init__(self, root: Path, party: str, authority: Any) -> None:
        self.home = root / f"confs-{party}"
        self.party = PartyId(party)
        self._authority = authority
        self._process: subprocess.Popen[bytes] | None = None

    def write(self) -> None:
        """Make the home."""
        from fedparty.crypto.files import replace_file
        from fedparty.crypto.keys import generate_key, key_to_pem

        for folder in ("run", "logs", "bundle/federation", "bundle/worker"):
            (self.home / folder).mkdir(parents=True)
        key = generate_key()
        replace_file(self.home / "signing.key", key_to_pem(key), mode=0o600)
        replace_file(self.home / "signing.crt", self._authority.issue_signing(self.party, key.public_key()))
        replace_file(self.home / "ca.crt", self._authority.certificate_pem)
        replace_file(self.home / "crl.pem", self._authority.crl_pem())
        replace_file(self.home / "proxy-secret", f"secret-of-{self.party}".encode(), mode=0o600)
        for service, settings in self._settings().items():
            (self.home / "bundle" / service / "settings.json").write_text(json.dumps(settings))

    def start(self, environment: dict[str, str] | None = None) -> None:
        """Start the process; returns when both services answer."""
        with (self.home / "logs" / "party.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, __file__, self.home], stdout=log, stderr=log, env=os.environ | (environment or {})
            )
        deadline = time.monotonic() + 20
        while not all((self.home / "run" / name).exists() for name in ("worker.sock", "egress.sock", "mailbox.sock")):
            assert self._process.poll() is None, (self.home / "logs" / "party.log").read_text()
            assert time.monotonic() < deadline, "the party did not start"
            time.sleep(0.01)

    @property
    def pid(self) -> int:
        assert self._process
        return self._process.pid

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End the process and return its exit code."""
        assert self._process
        with suppress(ProcessLookupError):
            self._process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        """Return the exit code of the process when it has ended."""
        assert self._process
        return self._process.wait(20)

    def signer(self, epoch: int = 0) -> Any:
        from fedparty.crypto.tokens import TokenSigner

        return TokenSigner(self.home / "signing.key", self.home / "signing.crt", FEDERATION, self.party, epoch)

    def address(self, name: str) -> str:
        return f"unix:{self.home}/run/{name}.sock"

    async def register(self, run: TaskRun, members: list[Member]) -> None:
        """Do what flow does before it starts an attempt."""
        from fedparty.federation.client import MailboxClient
        from fedparty.rpc.channels import open_channel

        async with open_channel(self.address("mailbox")) as channel:
            signer = self.signer()
            await MailboxClient(channel, lambda: signer.service("mailbox")).register(run, members)

    def _settings(self) -> dict[str, dict[str, Any]]:
        common = {"party": self.party, "federation": FEDERATION, "ca_certificate": "ca.crt", "revocations": "crl.pem"}
        return {
            "federation": common
            | {
                "operations": "unix:run/federation-operations.sock",
                "local": "unix:run/mailbox.sock",
                "peer": "unix:run/federation-peer.sock",
                "proxy_secret": "proxy-secret",
                "spool": "data/spool",
                "spool_quota_bytes": 1 << 30,
            },
            "worker": common
            | {
                "operations": "unix:run/worker-operations.sock",
                "address": "unix:run/worker.sock",
                "jobs": "data/worker/jobs",
                "log_limit_bytes": LOG_LIMIT_BYTES,
                "egress": "unix:run/egress.sock",
                "mailbox": "unix:run/mailbox.sock",
                "signer": party_uri(FEDERATION, self.party),
            },
        }


async def _relay(party: str, stop: asyncio.Event) -> None:
    """Stand in for this party's egress and the other's ingress."""
    import grpc

    from fedparty.rpc import channels, server

    opened: dict[str, Any] = {}

    async def deliver(messages: AsyncIterator[bytes], context: server.Context) -> bytes:
        called = dict(context.invocation_metadata() or ())
        to = str(called["x-fedparty-to"])
        address = _peer_of(to)
        if address is None:
            text = f"[UNKNOWN_PARTY] {party}'s proxy has no route to party {to}"
            await context.abort(grpc.StatusCode.NOT_FOUND, text)
        channel = opened.setdefault(to, channels.open_channel(address))
        metadata = (
            ("x-fedparty-from", party_uri(FEDERATION, party)),
            ("x-fedparty-serial", "01"),
            ("x-fedparty-proxy", f"secret-of-{to}"),
        )
        try:
            return bytes(await channel.stream_unary(DELIVER, None, None)(messages, metadata=metadata))
        except grpc.aio.AioRpcError as exc:
            await context.abort(exc.code(), exc.details() or "")

    handler = grpc.stream_unary_rpc_method_handler(deliver)
    service = grpc.method_handlers_generic_handler("fedparty.v1.peer.Mailbox", {"Deliver": handler})
    running = await server.start_server("unix:run/egress.sock", [service])
    await stop.wait()
    await running.stop()


def _peer_of(party: str) -> str | None:
    home = Path("..", f"confs-{party}")
    return f"unix:{home.resolve()}/run/federation-peer.sock" if home.exists() else None


async def _serve(home: Path, fork_server: Any) -> None:
    from fedparty.federation.service import serve as serve_federation
    from fedparty.settings import FederationSettings, WorkerSettings, load
    from fedparty.worker.service import serve as serve_worker

    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    federation = load(FederationSettings, Path("bundle/federation/settings.json"))
    worker = load(WorkerSettings, Path("bundle/worker/settings.json"))
    async with asyncio.TaskGroup() as group:
        group.create_task(serve_federation(federation, stop))
        group.create_task(_relay(worker.party, stop))
        group.create_task(serve_worker(worker, stop, fork_server))


if __name__ == "__main__":
    os.chdir(sys.argv[1])
    from fedparty.worker import forkserver

    started = forkserver.start()
    from fedparty.rpc.logging import configure

    configure()
    asyncio.run(_serve(Path(sys.argv[1]), started))
