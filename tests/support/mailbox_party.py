"""The mailboxes of a small federation: real certificates and tokens; without a proxy, callers set its headers.

Owns making a federation's keys, the settings of a mailbox, and the calls that other parties' proxies would let in.
"""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import sys
import tempfile
import time
import weakref
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc.aio
import httpx
from cryptography import x509
from proxy_party import ProxyHome, eventually

from fedparty.crypto.keys import generate_key, key_to_pem
from fedparty.crypto.tokens import TokenSigner
from fedparty.errors import RpcError
from fedparty.federation import names
from fedparty.federation.client import MailboxClient
from fedparty.federation.service import serve
from fedparty.pki.authority import Authority
from fedparty.rpc import catalogue, channels, encoding, stream
from fedparty.rpc.v1 import local_pb2
from fedparty.rpc.v1.peer_pb2 import DeliverHeader
from fedparty.settings import FederationSettings
from fedparty.types import JobId, Member, ObjectName, PartyId, TaskRun, party_uri

FEDERATION = "lab"
PARTIES = ("10000", "9999", "9998")
GUEST = Member("guest", PartyId("10000"))
HOST = Member("host", PartyId("9999"))
INTRUDER = Member("host", PartyId("9998"))
RUN = TaskRun(JobId("10000-01JD3M00000000000000000000"), "sum", 1)
MIB = 1 << 20

_SERVE = """
import asyncio, sys
from pathlib import Path
from fedparty.federation.service import serve
from fedparty.settings import FederationSettings, load
asyncio.run(serve(load(FederationSettings, Path(sys.argv[1])), asyncio.Event()))
"""


class FederationKeys:
    """A CA, and a signing key and a TLS certificate for each party."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = Authority.open_or_create(folder / "ca", FEDERATION, 30)
        (folder / "ca.crt").write_bytes(self.authority.certificate_pem)
        self.signers: dict[str, TokenSigner] = {}
        self.serials: dict[str, str] = {}
        for party in PARTIES:
            self._admit(party)
        self.publish_revocations()

    def publish_revocations(self) -> None:
        """Replace the live list."""
        new = self.folder / "crl.new"
        new.write_bytes(self.authority.crl_pem())
        new.rename(self.folder / "crl.pem")

    def revoke(self, party: str) -> None:
        """Revoke all certificates of a party, and publish it."""
        self.authority.revoke(party)
        self.publish_revocations()

    def task_token(self, run: TaskRun, member: Member, lifetime_s: float = 60) -> str:
        return self.signers[member.party].task(run, member, lifetime_s)

    def leader(self, party: str, epoch: int) -> TokenSigner:
        """Return what the flow of a party signs with that leads in an epoch."""
        files = (self.folder / f"{party}.key", self.folder / f"{party}.crt")
        return TokenSigner(*files, FEDERATION, PartyId(party), epoch)

    def _admit(self, party: str) -> None:
        key = generate_key()
        key_file, certificate_file = self.folder / f"{party}.key", self.folder / f"{party}.crt"
        key_file.write_bytes(key_to_pem(key))
        certificate_file.write_bytes(self.authority.issue_signing(party, key.public_key()))
        tls_key = generate_key()
        tls = self.authority.issue_tls(party, tls_key.public_key())
        (self.folder / f"{party}.tls.key").write_bytes(key_to_pem(tls_key))
        (self.folder / f"{party}.tls.crt").write_bytes(tls)
        serial = x509.load_pem_x509_certificate(tls).serial_number
        self.serials[party] = serial.to_bytes((serial.bit_length() + 7) // 8).hex()
        self.signers[party] = TokenSigner(key_file, certificate_file, FEDERATION, PartyId(party))


class MailboxParty:
    """One party's mailbox in a home of its own, and calls to it."""

    def __init__(
        self, keys: FederationKeys, party: str, quota_bytes: int = 4096 * MIB, proxy: ProxyHome | None = None
    ) -> None:
        self.keys = keys
        self.party = PartyId(party)
        self.secret = proxy.secret if proxy else hashlib.sha256(party.encode()).hexdigest()
        self.home = Path(tempfile.mkdtemp(prefix=f"fp-{party}-", dir="/tmp"))
        weakref.finalize(self, shutil.rmtree, self.home, ignore_errors=True)
        (self.home / "proxy-secret").write_text(self.secret)
        self.settings = FederationSettings(
            party=self.party,
            federation=FEDERATION,
            operations=f"unix:{self.home}/operations.sock",
            ca_certificate=keys.folder / "ca.crt",
            revocations=keys.folder / "crl.pem",
            local=f"unix:{self.home}/local.sock",
            peer=f"unix:{proxy.socket_path('federation_peer') if proxy else self.home / 'peer.sock'}",
            proxy_secret=self.home / "proxy-secret",
            spool=self.home / "spool",
            spool_quota_bytes=quota_bytes,
        )

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Run the service until the block ends."""
        stop = asyncio.Event()
        task = asyncio.create_task(serve(self.settings, stop))
        try:
            await self._until_ready(task)
            yield
        finally:
            stop.set()
            await task

    @asynccontextmanager
    async def process(self, prepare: Callable[[], None] | None = None) -> AsyncIterator[asyncio.subprocess.Process]:
        """Run the service as a process of its own, killed at the end; `prepare` runs in it before it starts."""
        await asyncio.to_thread((self.home / "settings.json").write_text, self.settings.model_dump_json())
        started = await asyncio.create_subprocess_exec(
            sys.executable, "-c", _SERVE, "settings.json", cwd=self.home, preexec_fn=prepare
        )
        try:
            await eventually(self.is_ready, "the mailbox is ready")
            yield started
        finally:
            if started.returncode is None:
                started.kill()
            await started.wait()

    @asynccontextmanager
    async def client(self, party: str | None = None, scope: str = "mailbox") -> AsyncIterator[MailboxClient]:
        """Open what a flow uses; of `party` (default: this one)."""
        signer = self.keys.signers[party or self.party]
        async with channels.open_channel(self.settings.local) as channel:
            yield MailboxClient(channel, lambda: signer.service(scope), timeout_s=2)

    async def register(self, run: TaskRun = RUN, *members: Member) -> None:
        async with self.client() as client:
            await client.register(run, members or (GUEST, HOST))

    async def deliver(
        self,
        name: ObjectName,
        value: object,
        *,
        caller: str | None = None,
        token: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        """Deliver as the proxy of `caller` (default: the sender's party) would; errors are of the catalogue."""
        caller = caller or name.sender.party
        encoded = encoding.encode(value)
        header = header_of(name, encoded, self.keys.task_token(name.run, name.sender) if token is None else token)
        async with self.delivering(caller, headers) as call:
            await call(list(stream.messages(header, encoded.data)))

    @asynccontextmanager
    async def delivering(self, caller: str, headers: dict[str, str] | None = None) -> AsyncIterator[DeliverCall]:
        """Open the raw call, with the headers that this party's proxy sets for `caller`."""
        sent = {
            "x-fedparty-proxy": self.secret,
            "x-fedparty-from": party_uri(FEDERATION, caller),
            "x-fedparty-serial": self.keys.serials[caller],
            **(headers or {}),
        }
        async with channels.open_channel(self.settings.peer) as channel:
            yield DeliverCall(channel, tuple((key, value) for key, value in sent.items() if value))

    async def receive(self, name: ObjectName, *, token: str | None = None, timeout_s: float = 30) -> object:
        """Receive as the receiver's task (or with another token); errors are of the catalogue."""
        return await stream.read_value(self.receiving(name, token=token, timeout_s=timeout_s))

    async def receiving(
        self, name: ObjectName, *, token: str | None = None, timeout_s: float = 30
    ) -> AsyncIterator[bytes]:
        """Receive the raw messages."""
        token = self.keys.task_token(name.run, name.receiver) if token is None else token
        request = local_pb2.ReceiveRequest(name=names.message_of(name)).SerializeToString()
        async with channels.open_channel(self.settings.local) as channel:
            call = channel.unary_stream(f"/{names.LOCAL_SERVICE}/Receive", None, None)
            try:
                async for message in call(request, metadata=channels.bearer(token), timeout=timeout_s):
                    yield message
            except grpc.aio.AioRpcError as exc:
                raise catalogue.from_rpc_error(exc) from exc

    async def until_waiting(self, count: int) -> None:
        """Return as soon as so many receives wait for an object."""
        async with self._operations() as client:

            async def is_waiting() -> bool:
                return f"fedparty_mailbox_waiting_receives {count}.0" in (await client.get("/metrics")).text

            await eventually(is_waiting, f"{count} receives wait")

    async def _until_ready(self, task: asyncio.Task[None]) -> None:
        await eventually(lambda: task.done() or self.is_ready(), "the mailbox is ready")
        if task.done():
            await task

    async def is_ready(self) -> bool:
        """Return whether a mailbox answers."""
        try:
            async with self._operations() as client:
                return (await client.get("/readyz")).is_success
        except httpx.TransportError:
            return False

    def _operations(self) -> httpx.AsyncClient:
        transport = httpx.AsyncHTTPTransport(uds=str(self.home / "operations.sock"))
        return httpx.AsyncClient(transport=transport, base_url="http://mailbox")


@dataclass
class DeliverCall:
    """A raw call of peer.Mailbox/Deliver."""

    channel: grpc.aio.Channel
    metadata: tuple[tuple[str, str], ...]

    async def __call__(self, messages: AsyncIterator[bytes] | Sequence[bytes], timeout_s: float = 30) -> None:
        """Call once; where the messages can be sent again, until gRPC shows the server's own status."""
        while True:
            try:
                return await self._call(messages, timeout_s)
            except RpcError as exc:
                if exc.code != "CONNECTION_LOST" or not isinstance(messages, Sequence):
                    raise

    async def _call(self, messages: object, timeout_s: float) -> None:
        call = self.channel.stream_unary(f"/{names.PEER_SERVICE}/Deliver", None, None)
        try:
            await call(messages, metadata=self.metadata, timeout=timeout_s)
        except grpc.aio.AioRpcError as exc:
            raise catalogue.from_rpc_error(exc) from exc


def object_name(tag: str = "x", sender: Member = GUEST, receiver: Member = HOST, run: TaskRun = RUN) -> ObjectName:
    return ObjectName(run, tag, sender, receiver)


def header_of(name: ObjectName, encoded: encoding.Encoded, token: str) -> DeliverHeader:
    return DeliverHeader(
        name=names.message_of(name),
        size_bytes=len(encoded.data),
        encoding=encoded.encoding,
        dtype=encoded.dtype,
        shape=encoded.shape,
        token=token,
    )


def deadline(seconds: float = 10) -> float:
    return time.monotonic() + seconds
