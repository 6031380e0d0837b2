"""Who is kept out of a job between 10000 and 9999: party 9998 in every disguise, and members who overstep."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from mailbox_party import (
    FEDERATION,
    GUEST,
    HOST,
    INTRUDER,
    MIB,
    RUN,
    FederationKeys,
    MailboxParty,
    header_of,
    object_name,
)

from fedparty.crypto.leaving import Leaving
from fedparty.crypto.tokens import TokenSigner
from fedparty.errors import RpcError
from fedparty.federation.client import MailboxClient
from fedparty.rpc import channels, encoding, stream
from fedparty.types import JobId, Member, ObjectName, PartyId, TaskRun, party_uri

OTHER_RUNS = [
    TaskRun(RUN.job, RUN.task, 2),
    TaskRun(RUN.job, "other", 1),
    TaskRun(JobId("10000-01JD3M00000000000000000001"), RUN.task, 1),
]
FAKE_GUEST = Member("guest", PartyId("9998"))
OTHER_ROLE = Member("arbiter", GUEST.party)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> FederationKeys:
    return FederationKeys(tmp_path_factory.mktemp("keys"))


@pytest.fixture
async def host(keys: FederationKeys) -> AsyncIterator[MailboxParty]:
    party = MailboxParty(keys, "9999")
    async with party.serving():
        await party.register()
        yield party


async def refused(attempt: object, *codes: str) -> None:
    with pytest.raises(RpcError) as caught:
        await attempt  # type: ignore[misc]
    assert caught.value.code in codes, caught.value


async def assert_nothing_arrived(host: MailboxParty) -> None:
    async with host.client() as client:
        assert (await client.stats()).objects == 0


class TestWriting:
    async def test_what_the_senders_site_does_not_let_leave(self, host: MailboxParty) -> None:
        """Its limits are in the token that it signed: a task that passes by its context is refused here."""
        token = host.keys.signers["10000"].task(RUN, GUEST, 60, Leaving(("sum*",), object_bytes=4))
        await refused(host.deliver(object_name("rows"), b"1", token=token), "NOT_ALLOWED")
        await refused(host.deliver(object_name("sums"), b"12345", token=token), "NOT_ALLOWED")
        await assert_nothing_arrived(host)
        await host.deliver(object_name("sums"), b"1234", token=token)
        async with host.client() as client:
            assert (await client.stats()).objects == 1

    @pytest.mark.parametrize("sender", [GUEST, HOST, INTRUDER, FAKE_GUEST], ids=str)
    @pytest.mark.parametrize("signed_for", [GUEST, HOST, INTRUDER, FAKE_GUEST], ids=str)
    async def test_9998_through_the_proxy(self, host: MailboxParty, sender: Member, signed_for: Member) -> None:
        """Whatever name and whatever (even stolen) token it shows, the proxy says that it is 9998."""
        token = host.keys.task_token(RUN, signed_for)
        attempt = host.deliver(object_name("x", sender), b"evil", caller="9998", token=token)
        await refused(attempt, "NOT_ALLOWED", "TOKEN_REFUSED")
        await assert_nothing_arrived(host)

    @pytest.mark.parametrize("secret", ["", "guess"], ids=["absent", "wrong"])
    async def test_9998_past_the_proxy(self, host: MailboxParty, secret: str) -> None:
        """On the same machine, with a stolen token and forged headers, but without the proxy's secret."""
        attempt = host.deliver(object_name(), b"evil", headers={"x-fedparty-proxy": secret})
        await refused(attempt, "NOT_THROUGH_PROXY")
        await assert_nothing_arrived(host)

    @pytest.mark.parametrize(
        "uri",
        [
            party_uri(FEDERATION, "9998") + "," + party_uri(FEDERATION, "10000"),
            party_uri("other", "10000"),
            party_uri(FEDERATION, "exchange"),
            "",
        ],
        ids=["two names", "other federation", "exchange", "none"],
    )
    async def test_certificate_that_names_no_party(self, host: MailboxParty, uri: str) -> None:
        await refused(host.deliver(object_name(), b"evil", headers={"x-fedparty-from": uri}), "NOT_ALLOWED")

    @pytest.mark.parametrize("run", OTHER_RUNS, ids=str)
    async def test_token_of_another_run(self, host: MailboxParty, run: TaskRun) -> None:
        token = host.keys.task_token(run, GUEST)
        await refused(host.deliver(object_name(), b"evil", token=token), "NOT_ALLOWED")

    async def test_token_of_another_role(self, host: MailboxParty) -> None:
        token = host.keys.task_token(RUN, OTHER_ROLE)
        await refused(host.deliver(object_name(), b"evil", token=token), "NOT_ALLOWED")

    async def test_role_that_is_no_member(self, host: MailboxParty) -> None:
        await refused(host.deliver(object_name("x", OTHER_ROLE), b"evil"), "NOT_ALLOWED")

    async def test_expired_token(self, host: MailboxParty) -> None:
        token = host.keys.task_token(RUN, GUEST, lifetime_s=-1000)
        await refused(host.deliver(object_name(), b"evil", token=token), "TOKEN_REFUSED")

    @pytest.mark.parametrize("token", ["", "nonsense", "a.b.c"])
    async def test_no_token(self, host: MailboxParty, token: str) -> None:
        await refused(host.deliver(object_name(), b"evil", token=token), "TOKEN_REFUSED")

    async def test_service_token(self, host: MailboxParty) -> None:
        token = host.keys.signers["10000"].service("mailbox")
        await refused(host.deliver(object_name(), b"evil", token=token), "TOKEN_REFUSED")

    async def test_object_for_another_party(self, host: MailboxParty) -> None:
        await refused(host.deliver(object_name("x", GUEST, INTRUDER), b""), "WRONG_PARTY")


class TestReading:
    @pytest.mark.parametrize("receiver", [HOST, GUEST, INTRUDER, FAKE_GUEST], ids=str)
    @pytest.mark.parametrize("signed_for", [GUEST, INTRUDER, FAKE_GUEST, Member("other", HOST.party)], ids=str)
    async def test_token_that_is_not_the_receivers(
        self, host: MailboxParty, receiver: Member, signed_for: Member
    ) -> None:
        await host.deliver(object_name(), b"secret")
        token = host.keys.task_token(RUN, signed_for)
        attempt = host.receive(object_name("x", GUEST, receiver), token=token)
        await refused(attempt, "NOT_ALLOWED", "TOKEN_REFUSED")

    @pytest.mark.parametrize("run", OTHER_RUNS, ids=str)
    async def test_receivers_token_of_another_run(self, host: MailboxParty, run: TaskRun) -> None:
        await host.deliver(object_name(), b"secret")
        await refused(host.receive(object_name(), token=host.keys.task_token(run, HOST)), "NOT_ALLOWED")

    @pytest.mark.parametrize("token", ["", "nonsense"])
    async def test_no_token(self, host: MailboxParty, token: str) -> None:
        await refused(host.receive(object_name(), token=token), "TOKEN_REFUSED")

    @pytest.mark.parametrize("party", ["9999", "9998"])
    async def test_service_token(self, host: MailboxParty, party: str) -> None:
        token = host.keys.signers[party].service("mailbox")
        await refused(host.receive(object_name(), token=token), "TOKEN_REFUSED")

    async def test_peer_listener_has_no_receive(self, host: MailboxParty) -> None:
        async with channels.open_channel(host.settings.peer) as channel:
            client = MailboxClient(channel, lambda: host.keys.signers["9999"].service("mailbox"), timeout_s=1)
            await refused(client.stats(), "NOT_SUPPORTED")


class TestAdministration:
    @pytest.mark.parametrize(
        ("party", "scope"), [("9998", "mailbox"), ("10000", "mailbox"), ("9999", "worker")], ids=str
    )
    @pytest.mark.parametrize("method", ["register", "close", "stats"])
    async def test_only_its_own_flow(self, host: MailboxParty, party: str, scope: str, method: str) -> None:
        async with host.client(party, scope) as client:
            await refused(call(client, method), "TOKEN_REFUSED")

    @pytest.mark.parametrize("method", ["register", "close", "stats"])
    async def test_not_a_task(self, host: MailboxParty, method: str) -> None:
        async with channels.open_channel(host.settings.local) as channel:
            client = MailboxClient(channel, lambda: host.keys.task_token(RUN, HOST), timeout_s=2)
            await refused(call(client, method), "TOKEN_REFUSED")

    async def test_not_a_flow_that_leads_no_more_also_after_a_restart(self, keys: FederationKeys) -> None:
        host = MailboxParty(keys, "9999")
        former, newest = (keys.leader("9999", epoch) for epoch in (7, 8))

        async def at(signer: TokenSigner, method: str) -> None:
            async with channels.open_channel(host.settings.local) as channel:
                await call(MailboxClient(channel, lambda: signer.service("mailbox"), timeout_s=2), method)

        async with host.serving():
            for signer in (former, newest):
                await at(signer, "register")
            await refused(at(former, "close"), "STALE_LEADER")
        async with host.serving():
            for method in ("register", "close", "stats"):
                await refused(at(former, method), "STALE_LEADER")
            await at(newest, "close")

    async def test_a_job_without_this_party(self, host: MailboxParty) -> None:
        await refused(host.register(RUN, GUEST, INTRUDER), "BAD_REQUEST")


class TestRevocation:
    @pytest.fixture
    def own_keys(self, tmp_path: Path) -> FederationKeys:
        return FederationKeys(tmp_path)

    async def test_open_delivery_of_a_revoked_party_is_ended(self, own_keys: FederationKeys) -> None:
        host = MailboxParty(own_keys, "9999")
        started = asyncio.Event()
        async with host.serving(), host.delivering("10000") as deliver:
            await host.register()
            reading = asyncio.create_task(read(host, started))
            sending = asyncio.create_task(deliver(unfinished(host)))
            await asyncio.wait_for(started.wait(), 10)
            own_keys.revoke("10000")
            async with asyncio.timeout(10):
                await refused(sending, "CERTIFICATE_REVOKED")
                await refused(reading, "DELIVERY_BROKEN")
            await refused(host.deliver(object_name(), b""), "CERTIFICATE_REVOKED")

    async def test_other_parties_go_on(self, own_keys: FederationKeys) -> None:
        host = MailboxParty(own_keys, "9999")
        async with host.serving():
            await host.register()
            own_keys.revoke("9998")
            await host.deliver(object_name(), b"fine")
            assert await host.receive(object_name()) == b"fine"


async def call(client: MailboxClient, method: str) -> None:
    match method:
        case "register":
            await client.register(RUN, [GUEST, HOST])
        case "close":
            await client.close(RUN.job, RUN.task)
        case "stats":
            await client.stats()


async def read(host: MailboxParty, started: asyncio.Event) -> None:
    async for _ in host.receiving(object_name()):
        started.set()


async def unfinished(host: MailboxParty, name: ObjectName | None = None) -> AsyncIterator[bytes]:
    name = name or object_name()
    encoded = encoding.encode(b"x" * MIB)
    header = header_of(name, encoded, host.keys.task_token(RUN, GUEST))
    for message in list(stream.messages(header, encoded.data))[:-1]:
        yield message
    await asyncio.Event().wait()
