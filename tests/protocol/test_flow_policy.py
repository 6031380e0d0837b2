"""What sites allow, between real flows: refused with its reason, taken over live, signed, and written down."""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from click.testing import CliRunner, Result
from flow_party import TOKEN, Databases, FlowLab, FlowParty, description, flow_lab

from fedparty.cli.main import cli
from fedparty.client import Session
from fedparty.crypto import submissions
from fedparty.crypto.user_keys import make_pair, read_private_key, text_of
from fedparty.errors import ConfigurationError, FedpartyError, RpcError, TokenError
from fedparty.federation.names import run_message_of
from fedparty.flow.api.access import ACCESS
from fedparty.flow.messages import PROTOCOL
from fedparty.rpc.v1 import peer_pb2
from fedparty.types import JobId, Member, Secret, TaskRun

NOTHING = "version: 1\n"
FOR_ALICE = """\
version: 1
rules:
  - name: alice's sums
    parties: [10000]
    users: [alice]
    components: [succeed]
    roles: [host]
"""


def _two(lab: FlowLab) -> tuple[FlowParty, FlowParty]:
    return lab.parties["10000"], lab.parties["9999"]


async def _audit(party: FlowParty, what: str) -> list[tuple[str, str, str]]:
    entries = await party.call(lambda session: session.audit(1000))
    return [(each["who"], each["decision"], each["why"]) for each in entries if each["what"] == what]


async def _token(party: FlowParty, name: str, role: str = "researcher", public_key: str = "") -> str:
    def make(session: Session) -> str:
        session.add_user(name, role, public_key)
        return str(session.new_token(name, 3600)["token"])

    return str(await party.call(make))


async def _as(party: FlowParty, token: str, ask: Any) -> Any:
    def asked() -> Any:
        with Session(party.settings.rest, Secret(token)) as session:
            return ask(session)

    return await asyncio.to_thread(asked)


async def _refusal(party: FlowParty, token: str, ask: Any) -> RpcError | TokenError:
    with pytest.raises((RpcError, TokenError)) as raised:
        await _as(party, token, ask)
    return raised.value


async def test_a_job_is_refused_at_the_other_site_with_its_reason_and_allowed_without_a_restart(
    database: Databases,
) -> None:
    async with flow_lab("10000", "9999", database=database) as lab:
        guest, host = _two(lab)
        host.allow(FOR_ALICE)
        job = await guest.submit(description())
        ended = await guest.until(job)
        assert ended.state == "failed"
        refused = "party 9999 refuses task sum: no rule allows component succeed in role host to admin@10000"
        assert refused in ended.error
        assert 'the nearest rule, "alice\'s sums", is not for user admin' in ended.error
        assert "Ask the people of party 9999 for a rule in their policy.yaml" in ended.hint
        assert guest.worker.starts == []
        assert host.worker.starts == []
        ((who, decision, why),) = await _audit(host, "prepare")
        assert (who, decision, "party 9999 refuses task sum" in why) == ("admin@10000", "refused", True)
        token = await _token(guest, "alice")
        job = (await _as(guest, token, lambda session: session.submit(description()))).id
        assert (await guest.until(job)).state == "success"
        assert [(await party.until(job)).submitter for party in (guest, host)] == 2 * ["alice@10000 (token)"]
        (listed,) = await guest.call(lambda session: session.jobs(1))
        assert listed.submitter == "alice@10000 (token)"
        host.allow(NOTHING)
        ended = await guest.until((await _as(guest, token, lambda session: session.submit(description()))).id)
        assert "party 9999 refuses" in ended.error
        await _reloaded(host, "allowed")


async def _reloaded(party: FlowParty, decision: str) -> None:
    async with asyncio.timeout(10):
        while decision not in {each[1] for each in await _audit(party, "reload policy")}:  # noqa: ASYNC110 - a file
            await asyncio.sleep(0.05)


async def test_a_job_is_refused_at_the_own_site_before_anything_is_sent() -> None:
    async with flow_lab("10000", "9999") as lab:
        guest, host = _two(lab)
        guest.allow(NOTHING)
        with pytest.raises(RpcError, match="party 10000 refuses task sum") as raised:
            await guest.submit(description())
        assert raised.value.code == "POLICY_REFUSED"
        assert await guest.call(lambda session: session.jobs()) == ()
        assert (await guest.until(await guest.submit(description(guest="9999")))).state == "success"
        assert await _audit(host, "submit") == []
        assert [each[1] for each in await _audit(guest, "submit")] == ["refused", "allowed"]


async def test_a_broken_policy_leaves_the_one_before_in_force_and_says_so() -> None:
    async with flow_lab("10000") as lab:
        party = lab.parties["10000"]
        party.allow("version: 1\nrules:\n  - nmae: x\n")
        assert (await party.until(await party.submit(description(host="10000")))).state == "success"
        status, waits = await party.readiness()
        assert status == 503
        assert "policy.yaml:3:5: rules.0.nmae: there is no such key" in waits["waiting_for"]["policy"]
        shown = await party.call(lambda session: session.policy())
        assert "there is no such key" in shown["fault"]
        await _reloaded(party, "refused")
        party.allow("version: 1\nrules: [{name: all, parties: all, components: all}]\n")
        assert (await party.call(lambda session: session.policy()))["fault"] == ""
        assert (await party.readiness())[0] == 200


async def test_a_flow_that_starts_with_a_broken_policy_allows_nothing() -> None:
    async with flow_lab("10000", start=False) as lab:
        party = lab.parties["10000"]
        party.allow("version: [")
        await party.start_flow()
        with pytest.raises(RpcError, match="refuses task sum"):
            await party.submit(description(host="10000"))


async def test_without_a_policy_the_toy_runs_and_nothing_else() -> None:
    async with flow_lab("10000") as lab:
        party = lab.parties["10000"]
        (party.home / "policy" / "policy.yaml").unlink()
        with pytest.raises(RpcError, match="component succeed"):
            await party.submit(description(host="10000"))
        question = {"description": description("secure_sum", host="10000")}
        decisions = await party.call(lambda session: session.decisions(question))
        assert [(each["role"], each["allowed"], each["why"]) for each in decisions] == [
            ("guest", True, "rule 'default'"), ("host", True, "rule 'default'"),
        ]  # fmt: skip


async def test_roles_decide_who_may_do_what(database: Databases) -> None:
    async with flow_lab("10000", database=database) as lab:
        party = lab.parties["10000"]
        tokens = {
            name: await _token(party, name, role)
            for name, role in (("v", "viewer"), ("alice", "researcher"), ("bob", "researcher"), ("o", "operator"))
        }
        hanging = description("hang", host="10000")
        refused = await _refusal(party, tokens["v"], lambda session: session.submit(hanging))
        assert (refused.code, "needs the role researcher, v is viewer" in refused.message) == ("ROLE_TOO_LOW", True)  # type: ignore[union-attr]
        first, second = [(await _as(party, tokens["alice"], lambda s: s.submit(hanging))).id for _ in range(2)]
        refused = await _refusal(party, tokens["bob"], lambda session: session.stop(first))
        assert "was submitted by alice@10000 (token), not by bob" in refused.message
        assert (await _as(party, tokens["v"], lambda session: session.job(first))).submitter == "alice@10000 (token)"
        assert (await _as(party, tokens["alice"], lambda session: session.stop(first))).state == "canceled"
        assert (await _as(party, tokens["o"], lambda session: session.stop(second))).state == "canceled"
        for ask in (lambda s: s.users(), lambda s: s.audit(), lambda s: s.add_user("x", "viewer")):
            assert (await _refusal(party, tokens["o"], ask)).code == "ROLE_TOO_LOW"  # type: ignore[union-attr]
        assert [each[0] for each in await _audit(party, "stop")] == ["alice@10000", "o@10000"]
        assert (await party.call(lambda session: session.verify_audit()))["fault"] == ""


async def test_tokens_are_shown_once_revoked_at_once_and_expire(database: Databases) -> None:
    async with flow_lab("10000", database=database) as lab:
        party = lab.parties["10000"]
        token = await _token(party, "alice")
        assert (await _as(party, token, lambda session: session.me()))["role"] == "researcher"
        assert all(token not in path.read_text(errors="replace") for path in party.home.rglob("*") if path.is_file())
        (admin, alice) = await party.call(lambda session: session.users())
        assert (admin["name"], alice["name"], alice["tokens"]) == ("admin", "alice", 1)
        await party.call(lambda session: session.revoke_tokens("alice"))
        assert "revoked" in (await _refusal(party, token, lambda session: session.me())).message
        short = await party.call(lambda session: session.new_token("alice", 0.05)["token"])
        await asyncio.sleep(0.06)
        assert "expired" in (await _refusal(party, short, lambda session: session.me())).message
        token = await party.call(lambda session: session.new_token("alice", 60)["token"])
        await party.call(lambda session: session.remove_user("alice"))
        await _refusal(party, token, lambda session: session.me())
        entries = await _audit(party, "login")
        assert len(entries) == 1, "who guesses does not fill the disk"
        for name in ("alice", "nobody"):
            with pytest.raises(RpcError, match="there is no user"):
                await party.call(lambda session, name=name: session.remove_user(name))
        await party.call(lambda session: session.add_user("bob", "viewer"))
        for name, code in (("bob", "USER_EXISTS"), ("admin", "BAD_REQUEST"), ("Bob", "BAD_REQUEST")):
            with pytest.raises(FedpartyError) as raised:
                await party.call(lambda session, name=name: session.add_user(name, "viewer"))
            assert getattr(raised.value, "code", "BAD_REQUEST") == code


async def test_signed_submissions(database: Databases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_pair(tmp_path / "key")
    key = read_private_key(tmp_path / "key")
    async with flow_lab("10000", "9999", database=database) as lab:
        guest, host = _two(lab)
        host.allow("version: 1\nsigned: true\nrules: [{name: all, parties: all, components: all}]\n")
        ended = await guest.until(await guest.submit(description()))
        assert "takes submissions with the user's own signature only" in ended.error
        token = await _token(guest, "alice", public_key=text_of(key.public_key()))
        refused = await _refusal(guest, token, lambda session: session.submit(description()))
        assert "has registered a key, and this submission is not signed" in refused.message
        monkeypatch.setenv("FEDPARTY_KEY", str(tmp_path / "key"))
        job = (await _as(guest, token, lambda session: session.submit(description()))).id
        ended = await guest.until(job)
        assert (ended.state, ended.submitter) == ("success", "alice@10000 (signed)")
        assert (await host.until(job)).submitter == "alice@10000 (signed)"
        make_pair(tmp_path / "other")
        monkeypatch.setenv("FEDPARTY_KEY", str(tmp_path / "other"))
        with pytest.raises(FedpartyError, match="is not the key that alice registered"):
            await _as(guest, token, lambda session: session.submit(description()))


async def test_a_replayed_submission_and_one_for_another_party_are_refused(database: Databases, tmp_path: Path) -> None:
    make_pair(tmp_path / "key")
    key = read_private_key(tmp_path / "key")
    async with flow_lab("10000", "9999", database=database) as lab:
        guest, host = _two(lab)
        tokens = {each: await _token(each, "alice", public_key=text_of(key.public_key())) for each in (guest, host)}
        text = json.dumps(description()).encode()
        signature = submissions.sign(key, "alice", "10000", text)

        def send(session: Session, content: bytes = text) -> Any:
            headers = {"content-type": "application/json", "x-fedparty-signature": signature}
            return session._call("POST", "/v1/jobs", content=content, headers=headers)

        assert (await _refusal(host, tokens[host], send)).message.endswith("it is for party 10000, not for party 9999")
        job = (await _as(guest, tokens[guest], send))["id"]
        assert "was submitted before" in (await _refusal(guest, tokens[guest], send)).message
        changed = await _refusal(guest, tokens[guest], lambda session: send(session, text + b" "))
        assert "another description" in changed.message
        assert (await guest.until(job)).state == "success"
        await guest.stop_flow()
        await guest.start_flow()
        assert "was submitted before" in (await _refusal(guest, tokens[guest], send)).message


async def test_a_voucher_that_does_not_fit_is_refused_by_every_site() -> None:
    async with flow_lab("10000", "9999") as lab:
        guest, host = _two(lab)
        run = TaskRun(JobId("10000-01JD3M00000000000000000000"), "sum", 1)
        for voucher in ("x", "a.b.c", "\N{LATIN SMALL LETTER E WITH ACUTE}" * 5000):
            request = peer_pb2.PrepareRequest(
                run=run_message_of(run), description=json.dumps(description()), protocol=PROTOCOL, remaining_s=60,
                voucher=voucher,
            )  # fmt: skip
            with pytest.raises(RpcError, match="does not believe who submitted the job") as raised:
                await guest.coordinate(host, "Prepare", request, peer_pb2.PrepareReply)
            assert raised.value.code == "TOKEN_REFUSED"
        assert Member("host", "9999") not in {member for _, member in host.worker.starts}  # type: ignore[arg-type]


async def test_nothing_happens_that_is_not_written_down() -> None:
    async with flow_lab("10000") as lab:
        party = lab.parties["10000"]
        log = party.home / "data" / "audit.jsonl"
        log.unlink(missing_ok=True)
        log.mkdir()
        with pytest.raises(RpcError, match="audit log"):
            await party.submit(description(host="10000"))
        with pytest.raises(RpcError, match="audit log"):
            await party.call(lambda session: session.add_user("alice", "viewer"))
        assert len(await party.call(lambda session: session.users())) == 1
        log.rmdir()
        job = await party.submit(description(host="10000"))
        assert (await party.until(job)).state == "success"


async def test_a_changed_audit_log_is_found_and_said() -> None:
    async with flow_lab("10000") as lab:
        party = lab.parties["10000"]
        await party.until(await party.submit(description(host="10000")))
        log = party.home / "data" / "audit.jsonl"
        log.write_bytes(log.read_bytes().replace(b"admin", b"other", 1))
        assert "was changed" in (await party.call(lambda session: session.verify_audit()))["fault"]
        assert "audit log" in (await party.readiness())[1]["waiting_for"]


WORDS = ["x", "", "admin", "me", "\N{SNOWMAN}", "..", "%00", "a" * 300, "'; --", "{name}", "-1", "null"]
VALUES = [None, 1, -1, 1e308, True, "", "x", [], [[]], {}, {"name": "x"}, "\ud800", "A" * 10_000, float("nan")]


async def test_hostile_requests_are_answered_and_change_nothing() -> None:
    async with flow_lab("10000") as lab:
        party = lab.parties["10000"]
        token = await _token(party, "alice", "viewer")
        transport = httpx.AsyncHTTPTransport(uds=str(party.home / "run" / "flow-rest.sock"))
        async with httpx.AsyncClient(transport=transport, base_url="http://flow", timeout=20) as client:
            chance = random.Random(4)
            templates = [path for _, path in ACCESS if path.startswith(("/v1/users", "/v1/policy", "/v1/audit"))]
            before = await party.call(lambda session: session.users())
            for _ in range(400):
                path = chance.choice(templates).replace("{name}", quote(chance.choice(WORDS), safe=""))
                method = chance.choice(["GET", "POST", "DELETE", "PUT", "PATCH", "HEAD", "OPTIONS"])
                bearer = chance.choice(
                    [TOKEN, token, "x", "fedparty_" + "A" * 43, "\N{LATIN SMALL LETTER E WITH ACUTE}"]
                )
                keys = ("name", "role", "public_key", "lifetime_s", "description", "party", "user", "zzz")
                body = {key: chance.choice(VALUES) for key in chance.sample(keys, 3)}
                content = chance.choice([json.dumps(body).encode(), b"{", b"\xff", b"", b"[" * 5000])
                headers = {"authorization": f"Bearer {bearer}".encode(), "content-type": "application/json"}
                params = {"limit": chance.choice(WORDS)}
                answer = await client.request(method, path, content=content, headers=headers, params=params)
                assert answer.status_code < 500, (method, path, content, answer.text)
                if bearer not in (TOKEN, token):
                    assert answer.status_code == 401
                elif bearer == token and method != "GET":
                    assert answer.status_code in (403, 404, 405, 422, 400), (method, path)
                if answer.is_error and method != "HEAD":
                    assert set(answer.json()) == {"error", "hint", "code"}
        after = await party.call(lambda session: session.users())
        assert {each["name"] for each in before} <= {each["name"] for each in after} | {"alice"}
        assert (await party.call(lambda session: session.verify_audit()))["fault"] == ""


def _home(party: FlowParty) -> Path:
    """Return a folder in which commands find a party, as after a deploy."""
    home = party.home / "as-deployed"
    (home / "bundle" / "secrets").mkdir(parents=True)
    (home / "bundle" / "bundle.json").write_text('{"party": "10000", "rest_url": null}')
    (home / "bundle" / "secrets" / "api-token").write_text(TOKEN)
    (home / "run").symlink_to(party.home / "run")
    return home


async def test_the_commands(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async with flow_lab("10000") as lab:
        party = lab.parties["10000"]
        monkeypatch.setenv("FEDPARTY_HOME", str(_home(party)))
        monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))

        async def run(*words: str) -> Result:
            return await asyncio.to_thread(lambda: CliRunner().invoke(cli, words, standalone_mode=False))

        assert "ed25519.pub: public" in (await run("user", "key")).output
        assert isinstance((await run("user", "key")).exception, ConfigurationError)
        public = str(tmp_path / "fedparty" / "ed25519.pub")
        assert (
            "added alice as researcher"
            in (await run("user", "add", "alice", "--role", "researcher", "--key", public)).output
        )
        token = (await run("user", "token", "alice", "--expires", "2h")).stdout.strip()
        assert (await _as(party, token, lambda session: session.me()))["name"] == "alice"
        assert isinstance((await run("user", "token", "alice", "--expires", "soon")).exception, ConfigurationError)
        listed = (await run("user", "list")).output.splitlines()
        assert [line.split()[:4] for line in listed[1:]] == [
            ["admin", "site-admin", "-", "1"],
            ["alice", "researcher", "yes", "1"],
        ]
        assert "void" in (await run("user", "token", "alice", "--revoke")).output
        assert "removed alice" in (await run("user", "remove", "alice")).output
        shown = await run("party", "policy")
        assert (shown.return_value, "everything:" in shown.output, "policy.yaml" in shown.output) == (0, True, True)
        job = tmp_path / "job"
        job.mkdir()
        (job / "job.yaml").write_text(json.dumps(description(host="10000")))
        explained = await run("party", "policy", "--explain", str(job))
        assert (explained.return_value, explained.output.count("allowed  sum as ")) == (0, 2)
        party.allow(NOTHING)
        explained = await run("party", "policy", "--explain", str(job), "--as-party", "9999", "--as-user", "bob")
        assert (explained.return_value, "REFUSED  sum as host (succeed)" in explained.output) == (1, True)
        (tmp_path / "new.yaml").write_text("version: 1\nrules: [x]\n")
        assert isinstance(
            (await run("party", "policy", "--check", str(tmp_path / "new.yaml"))).exception, ConfigurationError
        )
        assert "remove user" in (await run("audit", "show", "-n", "5")).output
        verified = await run("audit", "verify")
        assert (verified.return_value, verified.output.startswith("whole: ")) == (0, True)
        log = party.home / "data" / "audit.jsonl"
        log.write_bytes(log.read_bytes()[:-1])
        verified = await run("audit", "verify")
        assert (verified.return_value, "CHANGED" in verified.output) == (1, True)
