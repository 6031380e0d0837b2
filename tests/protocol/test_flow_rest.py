"""REST as a person meets it: the token, malformed requests, long polls, logs, and the client on top."""

from __future__ import annotations

import asyncio
import gc
import json
import ssl
import stat
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from flow_party import TOKEN, FlowParty, description, flow_lab

from fedparty.client import PartyStatus, Session
from fedparty.client.streams import _line
from fedparty.crypto.keys import generate_key, key_to_pem
from fedparty.errors import CertificateError, ConfigurationError, JobError, RpcError, TokenError
from fedparty.pki.authority import Authority
from fedparty.types import Secret

UNKNOWN = "10000-01JD3M00000000000000000000"

forgets_sockets = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
"""httpcore leaves a Unix socket that could not be connected to the garbage collector."""


async def _ask(party: FlowParty, method: str, path: str, token: str | None = TOKEN, **options: Any) -> httpx.Response:
    transport = httpx.AsyncHTTPTransport(uds=str(party.home / "run" / "flow-rest.sock"))
    headers = {"authorization": f"Bearer {token}"} if token is not None else {}
    async with httpx.AsyncClient(transport=transport, base_url="http://flow", headers=headers) as client:
        return await client.request(method, path, timeout=20, **options)


def _with_parameters(value: str) -> dict[str, Any]:
    """A job whose parameter ``a`` is this JSON, whether a Python value has it or not."""
    job = description()
    next(iter(job["tasks"].values()))["parameters"] = {"a": "VALUE"}
    content = json.dumps(job).replace('"VALUE"', value)
    return {"content": content.encode(), "headers": {"content-type": "application/json"}}


def _about(party: FlowParty, token: str) -> PartyStatus:
    with party.session(token) as session:
        return session.party()


async def test_every_error_says_what_and_what_to_do() -> None:
    async with flow_lab("10000") as lab:
        party = lab.parties["10000"]
        cases: list[tuple[int, str, str, dict[str, Any]]] = [
            (400, "POST", "/v1/jobs", {"content": b"{", "headers": {"content-type": "application/json"}}),
            (422, "POST", "/v1/jobs", {"json": {"name": "x"}}),
            (422, "POST", "/v1/jobs", {"json": description(host="0123")}),
            (422, "POST", "/v1/jobs", {"json": []}),
            (413, "POST", "/v1/jobs", {"content": b" " * (2**20 + 1)}),
            (400, "POST", "/v1/jobs", {"content": b"[" * 100_000, "headers": {"content-type": "application/json"}}),
            (422, "POST", "/v1/jobs", _with_parameters("[" * 300 + "]" * 300)),
            (422, "POST", "/v1/jobs", _with_parameters("NaN")),
            (422, "POST", "/v1/jobs", _with_parameters('"\\ud800"')),
            (422, "POST", "/v1/jobs", _with_parameters('{"\\ud800": 1}')),
            (422, "POST", "/v1/jobs", {"content": b'{"\\ud800": 1}', "headers": {"content-type": "application/json"}}),
            (404, "GET", f"/v1/jobs/{UNKNOWN}", {}),
            (404, "GET", "/v1/jobs/nonsense", {}),
            (404, "GET", f"/v1/jobs/{UNKNOWN}/logs", {}),
            (404, "POST", f"/v1/jobs/{UNKNOWN}/stop", {}),
            (404, "GET", "/v1/nothing", {}),
            (405, "DELETE", "/v1/jobs", {}),
            (422, "GET", "/v1/jobs?limit=0", {}),
            (422, "GET", f"/v1/jobs/{UNKNOWN}?wait_s=nan", {}),
            (422, "GET", f"/v1/jobs/{UNKNOWN}?known_state=asleep", {}),
            (422, "GET", "/v1/party/ping?to=x", {}),
            (404, "GET", "/v1/party/ping?to=77", {}),
        ]
        for status, method, path, options in cases:
            answer = await _ask(party, method, path, **options)
            assert answer.status_code == status, (method, path, answer.text)
            assert set(answer.json()) == {"error", "hint", "code"}
            assert answer.json()["error"]
            assert answer.json()["hint"]
        assert await party.call(lambda session: session.jobs()) == ()


async def test_the_token_is_needed_and_the_hint_says_where_it_lies() -> None:
    async with flow_lab("10000") as lab:
        party = lab.parties["10000"]
        for token in (None, "wrong", TOKEN + "x", "\N{LATIN SMALL LETTER E WITH ACUTE}"):
            headers = {} if token is None else {"authorization": f"Bearer {token}".encode()}
            answer = await _ask(party, "POST", "/v1/jobs", None, content=b"{", headers=headers)
            assert answer.status_code == 401
            assert str(party.settings.api_token) in answer.json()["hint"]
        assert (await _ask(party, "GET", "/healthz", None)).json() == {"healthy": True}
        assert "/v1/jobs/{job_id}/logs" in (await _ask(party, "GET", "/openapi.json", None)).json()["paths"]
        assert (await _ask(party, "GET", "/docs", None)).status_code == 404
        with pytest.raises(TokenError, match="token is wrong") as raised:
            await asyncio.to_thread(_about, party, "wrong")
        assert "api-token" in raised.value.hint


async def test_the_socket_is_private() -> None:
    async with flow_lab("10000") as lab:
        home = lab.parties["10000"].home
        for name in ("run/flow-rest.sock", "run/flow-peer.sock", "run/flow-operations.sock", "data/flow.db"):
            assert stat.S_IMODE((home / name).stat().st_mode) == 0o600, name


async def test_a_long_poll_answers_at_the_change() -> None:
    async with flow_lab("10000") as lab:
        party = lab.parties["10000"]
        job = await party.submit(description("hang", host="10000"))
        await party.until(job, "running")
        path = f"/v1/jobs/{job}?wait_s=10&known_state=running"
        polling = asyncio.create_task(_ask(party, "GET", path))
        await asyncio.wait((polling,), timeout=0.2)
        assert not polling.done()
        await party.worker.end("guest", "success")
        await party.worker.end("host", "success")
        began = time.monotonic()
        assert (await polling).json()["state"] == "success"
        assert time.monotonic() - began < 2
        assert (await _ask(party, "GET", f"/v1/jobs/{job}?wait_s=10")).json()["state"] == "success"
        assert time.monotonic() - began < 2


async def test_a_long_poll_ends_with_its_time_and_with_the_service() -> None:
    async with flow_lab("10000") as lab:
        party = lab.parties["10000"]
        job = await party.submit(description("hang", host="10000"))
        await party.until(job, "running")
        assert (await _ask(party, "GET", f"/v1/jobs/{job}?wait_s=0.1")).json()["state"] == "running"
        polling = asyncio.create_task(_ask(party, "GET", f"/v1/jobs/{job}?wait_s=30"))
        await asyncio.wait((polling,), timeout=0.1)
        await party.stop_flow()
        assert (await polling).json()["state"] == "running"


async def test_logs() -> None:
    async with flow_lab("10000", "9999") as lab:
        guest, host = lab.parties["10000"], lab.parties["9999"]
        job = await guest.submit(description("hang"))
        following = asyncio.create_task(guest.call(lambda session: list(session.logs(job, "guest", follow=True))))
        await guest.until(job, "running")
        await guest.worker.end("guest", "success")
        await host.worker.end("host", "success")
        assert [line.get("message") for line in await following] == [None, "ended"]
        await guest.until(job)
        assert await guest.call(lambda session: list(session.logs(job))) == [{"role": "guest", "attempt": 1}]
        with pytest.raises(RpcError, match="has no role 'host'") as raised:
            await guest.call(lambda session: list(session.logs(job, "host")))
        assert raised.value.hint.startswith("It is played by party 9999: --party shows")


async def test_logs_of_two_own_roles_and_a_worker_that_is_down() -> None:
    async with flow_lab("10000") as lab:
        party = lab.parties["10000"]
        job = await party.submit(description("hang", host="10000"))
        following = asyncio.create_task(party.call(lambda session: list(session.logs(job, follow=True))))
        await party.worker.until_running(2)
        await party.until(job, "running")
        await party.worker.end("guest", "success")
        await party.worker.end("host", "success")
        assert sorted(line["role"] for line in await following if "role" in line) == ["guest", "host"]
        await party.worker.close()
        (line,) = await party.call(lambda session: list(session.logs(job, "guest")))
        assert (line["level"], "worker service of party 10000 does not answer" in line["message"]) == ("ERROR", True)


async def test_a_follower_goes_on_with_the_next_attempt() -> None:
    async with flow_lab("10000") as lab:
        party = lab.parties["10000"]
        job = await party.submit(description("hang", host="10000"))
        lines: list[dict[str, Any]] = []

        def follow(session: Session) -> None:
            for line in session.logs(job, "guest", follow=True):
                lines.append(line)  # one by one: they are looked at meanwhile

        following = asyncio.create_task(party.call(follow))
        await party.until(job, "running")
        await party.worker.end("guest", "lost")
        async with asyncio.timeout(10):
            while not any(line.get("attempt") == 2 for line in lines):  # noqa: ASYNC110 - a thread adds to them
                await asyncio.sleep(0.02)
        await party.worker.close()
        party.worker.states.clear()
        await party.worker.listen(party.settings.worker)
        await party.until_started(job, 3)
        await party.worker.end("guest", "success")
        await party.worker.end("host", "success")
        await following
        assert [line["attempt"] for line in lines if "level" not in line and "attempt" in line] == [1, 2, 3]
        assert any("breaks off" in line.get("message", "") for line in lines)


async def test_a_follower_that_leaves_is_no_burden() -> None:
    async with flow_lab("10000") as lab:
        party = lab.parties["10000"]
        party.worker.logs["guest"] = b'{"message": "x"}\n' * 200_000
        job = await party.submit(description("hang", host="10000"))
        await party.until(job, "running")
        assert await party.call(lambda session: next(iter(session.logs(job, "guest", follow=True)))) == {"message": "x"}
        began = time.monotonic()
        await party.stop_flow()
        assert time.monotonic() - began < 3


async def test_the_client() -> None:
    async with flow_lab("10000", "9999") as lab:
        party = lab.parties["10000"]

        def story() -> None:
            with party.session() as session:
                seen: list[str] = []
                job = session.submit(description())
                ended = session.wait(job.id, timeout_s=10, on_change=lambda status: seen.append(status.state))
                assert ended.require_success().result("sum", "guest") == {"role": "guest"}
                assert seen[-1] == "success"
                assert [each.id for each in session.jobs()] == [job.id]
                about = session.party()
                assert (about.id, about.federation, about.cores) == ("10000", "lab", 4)
                hanging = session.submit(description("hang"))
                with pytest.raises(JobError, match="goes on"):
                    session.wait(hanging.id, timeout_s=0.3)
                with pytest.raises(JobError, match="was canceled"):
                    session.stop(hanging.id).require_success()
                with pytest.raises(JobError, match=r"roles.host.0"):
                    session.submit(description(host="x"))
                with pytest.raises(RpcError, match="knows no job") as raised:
                    session.job(UNKNOWN)
                assert raised.value.code == "NOT_KNOWN"

        await asyncio.to_thread(story)


@forgets_sockets
async def test_waiting_bears_a_restart_of_the_flow() -> None:
    async with flow_lab("10000") as lab:
        party = lab.parties["10000"]
        job = await party.submit(description("hang", host="10000"))
        await party.until(job, "running")
        waiting = asyncio.create_task(party.call(lambda session: session.wait(job)))
        await party.stop_flow()
        await party.start_flow()
        await party.worker.end("guest", "success")
        await party.worker.end("host", "success")
        assert (await waiting).state == "success"
    del waiting
    gc.collect()


@forgets_sockets
def test_a_flow_that_is_not_there(tmp_path: Path) -> None:
    with Session(f"unix:{tmp_path}/none.sock", Secret("x")) as session, pytest.raises(RpcError) as raised:
        session.party()
    assert (raised.value.code, "deploy.py status" in raised.value.hint) == ("FLOW_DOWN", True)
    del raised
    gc.collect()
    with pytest.raises(ConfigurationError, match="no address of a flow"):
        Session("http://127.0.0.1:1", Secret("x"))
    with pytest.raises(ConfigurationError, match="CA is needed"):
        Session("https://127.0.0.1:1", Secret("x"))
    with pytest.raises(ConfigurationError, match="is not a party's home"):
        Session.at_home(tmp_path)


def test_a_home_whose_party_does_not_run_or_whose_token_is_not_mine(tmp_path: Path) -> None:
    (tmp_path / "bundle").mkdir()
    about = tmp_path / "bundle" / "bundle.json"
    about.write_text('{"party": "10000", "rest_url": null}')
    with pytest.raises(RpcError, match="party 10000 is not running here"):
        Session.at_home(tmp_path)
    about.write_text('{"party": "10000", "rest_url": "https://127.0.0.1:1"}')
    with pytest.raises(ConfigurationError, match="api-token"):
        Session.at_home(tmp_path)


async def test_a_home_is_reached_by_its_socket(tmp_path: Path) -> None:
    async with flow_lab("10000") as lab:
        long_home = tmp_path / ("long" * 30)
        (long_home / "bundle" / "secrets").mkdir(parents=True)
        (long_home / "bundle" / "bundle.json").write_text('{"party": "10000", "rest_url": null}')
        (long_home / "bundle" / "secrets" / "api-token").write_text(TOKEN)
        (long_home / "run").symlink_to(lab.parties["10000"].home / "run")

        def ask() -> str:
            with Session.at_home(long_home) as session:
                return session.party().id

        assert await asyncio.to_thread(ask) == "10000"


async def test_https_with_the_pinned_ca_alone() -> None:
    async with flow_lab("10000") as lab:
        authority, root = lab.authority, lab.root
        key = generate_key()
        (root / "tls.key").write_bytes(key_to_pem(key))
        (root / "tls.crt").write_bytes(authority.issue_tls("10000", key.public_key(), ("127.0.0.1",)))
        (root / "ca.crt").write_bytes(authority.certificate_pem)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(root / "tls.crt", root / "tls.key")
        front = await asyncio.start_server(_forward(lab.parties["10000"]), "127.0.0.1", 0, ssl=context)
        port = front.sockets[0].getsockname()[1]

        def about(ca: Path, host: str = "127.0.0.1") -> str:
            with Session(f"https://{host}:{port}", Secret(TOKEN), ca_certificate=ca) as session:
                return session.party().id

        async with front:
            assert await asyncio.to_thread(about, root / "ca.crt") == "10000"
            (root / "other.crt").write_bytes(Authority.open_or_create(root / "other", "other", 30).certificate_pem)
            with pytest.raises(CertificateError, match="does not prove to be this party"):
                await asyncio.to_thread(about, root / "other.crt")


def _forward(party: FlowParty) -> Any:
    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_unix_connection(party.home / "run" / "flow-rest.sock")
        await asyncio.gather(pipe(reader, inner_writer), pipe(inner_reader, writer), return_exceptions=True)

    return forward


def test_log_lines_that_are_no_json_are_kept() -> None:
    assert _line("oops") == {"message": "oops"}
    assert _line(json.dumps(["x"])) == {"message": '["x"]'}
