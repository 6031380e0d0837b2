"""Tables, components, figures and outputs as a party's people meet them, over REST and with the client."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from flow_party import EVERYTHING, Databases, FlowParty, description, flow_lab

from fedparty.cli import job_metrics
from fedparty.components import registry
from fedparty.errors import FedpartyError, JobError, RpcError

FILE = {
    "path": "people.csv",
    "size_bytes": 10,
    "modified_ns": 1,
    "rows": 3,
    "columns": [{"name": "age", "type": "integer"}],
}


async def bind(party: FlowParty, name: str, **more: Any) -> Any:
    party.worker.files["people.csv"] = FILE
    return await party.call(lambda session: session.bind_table(name, "people.csv", **more))


async def test_a_table_is_bound_shown_bound_anew_and_forgotten(database: Databases) -> None:
    async with flow_lab("10000", database=database) as lab:
        party = lab.parties["10000"]
        bound = await bind(party, "people", id_column="age")
        assert (bound["rows"], bound["id_column"], bound["columns"]) == (3, "age", FILE["columns"])
        party.worker.files["new.csv"] = FILE | {"path": "new.csv", "rows": 4}
        again = await party.call(lambda session: session.bind_table("people", "new.csv"))
        assert again["rows"] == 4
        assert [each["path"] for each in await party.call(lambda session: session.tables())] == ["new.csv"]
        assert await party.call(lambda session: session.table("people")) == again
        await party.stop_flow()
        await party.start_flow()
        assert await party.call(lambda session: session.table("people")) == again
        await party.call(lambda session: session.unbind_table("people"))
        with pytest.raises(RpcError, match="party 10000 has no table 'people'"):
            await party.call(lambda session: session.unbind_table("people"))


async def test_what_cannot_be_bound_is_named() -> None:
    async with flow_lab("10000") as lab:
        party = lab.parties["10000"]
        with pytest.raises(FedpartyError, match=r"table file 'absent\.csv': No such file") as told:
            await party.call(lambda session: session.bind_table("people", "absent.csv"))
        assert told.value.hint == "Put it there."
        for name in ("a/b", "-x", "x" * 65, "ä"):
            with pytest.raises(FedpartyError):
                await bind(party, name)
        await bind(party, "people")
        with pytest.raises(RpcError, match="no table 'poeple'") as told:
            await party.call(lambda session: session.table("poeple"))
        assert told.value.hint.startswith("Did you mean 'people'?")


async def test_a_task_gets_the_tables_that_its_parameters_name_and_no_others() -> None:
    async with flow_lab("10000", "9999") as lab:
        guest, host = lab.parties["10000"], lab.parties["9999"]
        await bind(guest, "people")
        await bind(guest, "other")
        await bind(host, "patients")
        job = description(parameters={"table": "people"}, party_parameters={"9999": {"table": "patients"}})
        assert (await guest.until(await guest.submit(job))).state == "success"
        [given], [taken] = guest.worker.tables.values(), host.worker.tables.values()
        assert [each["name"] for each in given] == ["people"]
        assert [each["name"] for each in taken] == ["patients"]


async def test_a_task_that_names_a_table_that_is_not_there_fails_with_the_party() -> None:
    async with flow_lab("10000", "9999") as lab:
        guest = lab.parties["10000"]
        await bind(guest, "people")
        job = await guest.until(await guest.submit(description(parameters={"table": "people"})))
        assert job.state == "failed"
        assert "party 9999 has no table 'people'" in job.error
        assert "At party 9999" in job.hint
        assert lab.parties["9999"].worker.starts == []


async def test_a_job_with_unknown_components_and_parameters_is_refused_at_once() -> None:
    async with flow_lab("10000", "9999") as lab:
        guest = lab.parties["10000"]
        job = description("secure_sun") | {"roles": {"guest": ["10000"], "host": ["9999"]}}
        with pytest.raises(JobError, match=r"tasks\.sum: there is no component 'secure_sun' here") as told:
            await guest.submit(job)
        assert "Did you mean 'secure_sum'?" in told.value.hint
        with pytest.raises(JobError, match=r"tasks\.sum: secure_sum: unknown parameter 'datanum'"):
            await guest.submit(description("secure_sum", parameters={"datanum": 1}))
        with pytest.raises(JobError, match="secure_sum: there is no role 'hots'"):
            await guest.submit(description("secure_sum") | {"roles": {"guest": ["10000"], "hots": ["9999"]}})
        assert await guest.call(lambda session: session.jobs()) == ()


async def test_components_are_told_as_the_registry_knows_them() -> None:
    async with flow_lab("10000") as lab:
        party = lab.parties["10000"]
        found = await party.call(lambda session: session.components())
        assert [each["name"] for each in found] == list(registry.names())
        told = await party.call(lambda session: session.component("statistics"))
        assert told["roles"] == ["guest", "host"]
        assert [each["name"] for each in told["parameters"] if each["is_required"]] == ["table", "columns"]
        assert set(told["parameters_schema"]["required"]) == {"table", "columns"}
        with pytest.raises(RpcError, match="there is no component 'xy'"):
            await party.call(lambda session: session.component("xy"))


def figure(value: float, step: int | None) -> dict[str, Any]:
    where = {"task": "sum", "attempt": 1, "role": "guest"}
    return {"time": "2024-05-01T12:00:00.250+00:00", **where, "name": "loss", "value": value, "step": step}


async def test_figures_and_outputs_of_own_roles_are_read(tmp_path: Path) -> None:
    async with flow_lab("10000", "9999") as lab:
        party = lab.parties["10000"]
        figures = [figure(0.5, 1), figure(0.25, 2)]
        party.worker.metrics["guest"] = b"".join(json.dumps(each).encode() + b"\n" for each in figures)
        party.worker.outputs = {"models/final.bin": bytes(range(256)) * 1000, "notes.txt": b""}
        job = await party.submit(description())
        await party.until(job)
        assert await party.call(lambda session: list(session.metrics(job))) == figures
        assert await party.call(lambda session: list(session.metrics(job, "guest", follow=True))) == figures
        with pytest.raises(RpcError, match="has no role 'host'"):
            await party.call(lambda session: list(session.metrics(job, "host")))
        outputs = await party.call(lambda session: session.outputs(job))
        assert [(each["task"], each["role"], each["name"], each["size_bytes"]) for each in outputs] == [
            ("sum", "guest", "models/final.bin", 256_000),
            ("sum", "guest", "notes.txt", 0),
        ]
        read = await party.call(
            lambda session: b"".join(session.read_output(job, "sum", 1, "guest", "models/final.bin"))
        )
        assert read == party.worker.outputs["models/final.bin"]
        for place in (("sum", 1, "guest", "absent"), ("sum", 2, "guest", "notes.txt"), ("sum", 1, "host", "notes.txt")):
            with pytest.raises(RpcError) as told:
                await party.call(lambda session, place=place: list(session.read_output(job, *place)))
            assert told.value.code == "NOT_KNOWN"


def test_figures_become_event_files_that_can_be_read_back(tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX", reason="the extra fedparty[tensorboard] is not installed")
    from tensorboardX.proto.event_pb2 import Event

    figures = [figure(0.5, 1), figure(0.25, 2), figure(4, None) | {"name": "rows", "role": "host"}]
    assert job_metrics.write_events(figures, tmp_path) == 3
    found = {}
    for role in ("guest", "host"):
        [path] = (tmp_path / "sum" / "1" / role).iterdir()
        data, events = path.read_bytes(), []
        while data:
            length = int.from_bytes(data[:8], "little")
            events.append(Event.FromString(data[12 : 12 + length]))
            data = data[16 + length :]
        found[role] = [(v.tag, v.simple_value, e.step, e.wall_time) for e in events for v in e.summary.value]
    assert found["guest"] == [("loss", 0.5, 1, 1714564800.25), ("loss", 0.25, 2, 1714564800.25)]
    assert [each[:3] for each in found["host"]] == [("rows", 4.0, 0)]


def test_a_figure_is_a_line() -> None:
    assert job_metrics.line(figure(0.5, 3)) == "12:00:00.250 sum/1/guest step 3 loss 0.5"


async def test_a_table_with_too_few_rows_is_not_read() -> None:
    async with flow_lab("10000", "9999") as lab:
        guest, host = lab.parties["10000"], lab.parties["9999"]
        for party in (guest, host):
            await bind(party, "people")
        host.allow(EVERYTHING.replace("custom: true", "min_rows: 4"))
        job = await guest.submit(description(parameters={"table": "people"}))
        ended = await guest.until(job)
        assert "party 9999 refuses task sum: table people has fewer rows than the" in ended.error
        assert host.worker.starts == []
        host.allow(EVERYTHING.replace("custom: true", "min_rows: 3"))
        job = await guest.submit(description(parameters={"table": "people"}))
        assert (await guest.until(job)).state == "success"
