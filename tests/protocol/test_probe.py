"""What a party's probe says of itself and of the others, with a real flow, mailbox and database."""

from __future__ import annotations

import asyncio
import json
import resource
import sqlite3
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import closing

from flow_party import FlowParty, flow_lab

from fedparty.deploy.doctor import asking
from fedparty.flow.probe.answers import FAIL, OK, WARN, Answers, Check
from fedparty.flow.probe.own import _spool, examine
from fedparty.flow.probe.probe import probe
from fedparty.types import PartyId

EVERYTHING = [
    "proxy", "flow", "mailbox", "token", "spool", "worker", "database", "signing certificate", "api token",
    "proxy secret", "offered cores",
]  # fmt: skip


async def probed(party: FlowParty, *peers: str, is_throughput_wanted: bool = False) -> Answers:
    return await probe(party.settings, [PartyId(peer) for peer in peers], is_throughput_wanted=is_throughput_wanted)


async def checked(party: FlowParty) -> dict[str, Check]:
    """Return what failed."""
    return {check.name: check for check in await examine(party.settings) if check.state == FAIL}


async def test_a_party_that_is_well() -> None:
    async with flow_lab("10000", "9999") as lab:
        answers = await probed(lab.parties["10000"], "9999", "10000", is_throughput_wanted=True)
        assert [check.name for check in answers.checks] == EVERYTHING
        assert answers.is_sound, answers
        for way in answers.ways:
            assert way.latency_ms is not None
            assert 0 < way.latency_ms < 1000
            assert way.throughput_mib_s is not None
            assert way.throughput_mib_s > 1


async def test_the_doctor_reads_what_a_probe_says() -> None:
    async with flow_lab("10000", "9999") as lab:
        lab.unreachable.add("9999")
        answers = await probed(lab.parties["10000"], "9999", "77")
        read = asking.read(json.dumps(answers.to_json()))
        assert [(way.sender, way.receiver, way.hop, way.at) for way in read.ways] == [
            ("10000", "9999", "tcp", "peer"),
            ("10000", "77", "route", "own"),
        ]
        assert [check.name for check in read.checks] == EVERYTHING
        assert "[PEER_UNREACHABLE]" in read.ways[0].detail


async def test_no_secret_is_told() -> None:
    async with flow_lab("10000") as lab:
        party = lab.parties["10000"]
        told = json.dumps((await probed(party, "10000")).to_json())
        secrets = [party.proxy_secret, party.settings.api_token.read_text().strip()]
        assert all(secrets)
        assert not any(secret in told for secret in secrets)


async def test_each_service_that_is_down_is_told_at_once() -> None:
    async with flow_lab("10000") as lab:
        party = lab.parties["10000"]
        await party.worker.close()
        assert list(await checked(party)) == ["worker"]
        await party.stop_mailbox()
        found = await checked(party)
        assert list(found) == ["mailbox", "worker"]
        assert found["mailbox"].remedy == "python deploy.py logs 10000 federation"
        await party.stop_flow()
        await party.egress_server.stop(0)
        began = time.monotonic()
        answers = await probed(party, "10000")
        assert time.monotonic() - began < 8
        assert [check.name for check in answers.checks if check.state == FAIL] == ["proxy", "flow", "mailbox", "worker"]
        assert (answers.ways[0].hop, answers.ways[0].at) == ("proxy", "own")


async def test_a_peers_flow_that_is_down() -> None:
    async with flow_lab("10000", "9999") as lab:
        await lab.parties["9999"].stop_flow()
        (way,) = (await probed(lab.parties["10000"], "9999")).ways
        assert (way.hop, way.at) == ("flow", "peer")


async def test_a_revoked_party_learns_it_at_once() -> None:
    async with flow_lab("10000", "9999") as lab:
        guest = lab.parties["10000"]
        lab.authority.revoke("10000")
        lab.publish_revocations()
        answers = await probed(guest, "9999")
        assert (answers.ways[0].hop, answers.ways[0].at) == ("tls", "own")
        failed = {check.name: check.remedy for check in answers.checks if check.state == FAIL}
        assert failed["signing certificate"] == "fedparty pki renew 10000 && python deploy.py 10000"
        assert failed.keys() <= {"signing certificate", "token"}


async def test_files_that_are_wrong() -> None:
    async with flow_lab("10000", "9999") as lab:
        party, other = lab.parties["10000"], lab.parties["9999"]
        party.settings.api_token.chmod(0o644)
        party.settings.proxy_secret.write_text("\n")
        (party.home / "signing.key").write_bytes((other.home / "signing.key").read_bytes())
        found = {check.name: check.state for check in await examine(party.settings)}
        assert (found["token"], found["api token"], found["proxy secret"]) == (FAIL, WARN, FAIL)


def test_a_spool_that_fills() -> None:
    assert [_spool(used, 100).state for used in (0, 79, 80, 97, 98, 100)] == [OK, OK, WARN, WARN, FAIL, FAIL]


async def test_a_database_that_somebody_holds_is_told_in_time() -> None:
    async with flow_lab("10000") as lab:
        party = lab.parties["10000"]
        with closing(sqlite3.connect(party.home / "data" / "flow.db")) as database:
            database.execute("BEGIN IMMEDIATE")
            began = time.monotonic()
            found = await checked(party)
            assert time.monotonic() - began < 10
            database.rollback()
        assert list(found) == ["database"]
        assert await checked(party) == {}


async def test_a_database_of_an_older_release() -> None:
    async with flow_lab("10000") as lab:
        party = lab.parties["10000"]
        with closing(sqlite3.connect(party.home / "data" / "flow.db")) as database:
            database.execute("UPDATE alembic_version SET version_num = '0000'")
            database.commit()
        found = await checked(party)
        assert "revision 0000" in found["database"].detail
        assert "migrate" in found["database"].remedy


def command_line(party: FlowParty, *arguments: str, is_disk_full: bool = False) -> subprocess.CompletedProcess[str]:
    """Run the program in the party's home, as the deployer does."""
    settings = party.home / "bundle" / "flow" / "settings.json"
    settings.parent.mkdir(parents=True, exist_ok=True)
    settings.write_text(party.settings.model_dump_json())
    return subprocess.run(
        [sys.executable, "-m", "fedparty", "probe", "--home", str(party.home), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        preexec_fn=_fill_disk if is_disk_full else None,
    )


def _fill_disk() -> None:
    """Let no file grow, which programs meet like a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


async def test_the_program_ends_with_its_verdict() -> None:
    async with flow_lab("10000") as lab:
        party = lab.parties["10000"]
        done = await asyncio.to_thread(command_line, party, "--peers", "10000", "--output", "json")
        assert done.returncode == 0, done.stdout + done.stderr
        told: Mapping[str, object] = json.loads(done.stdout)
        assert set(told) == {"party", "version", "checks", "peers"}
        done = await asyncio.to_thread(command_line, party, "--peers", "77")
        assert done.returncode == 1
        assert "to 77                fail  route: " in done.stdout, done.stdout
        assert "parties.conf" in done.stdout
        done = await asyncio.to_thread(command_line, party, "--peers", "x")
        assert done.returncode == 2


async def test_a_full_disk_is_the_databases_fault() -> None:
    async with flow_lab("10000") as lab:
        done = await asyncio.to_thread(command_line, lab.parties["10000"], "--output", "json", is_disk_full=True)
        failed = [check for check in json.loads(done.stdout)["checks"] if check["state"] == FAIL]
        assert [check["name"] for check in failed] == ["database"], failed
        assert done.returncode == 1
