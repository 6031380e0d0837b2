"""The two implementations of `Context` behave alike: one class of tests for both."""

from __future__ import annotations

import asyncio
import json
import logging
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from worker_party import FEDERATION, JOB, WorkerParty

from fedparty.context import Context, ReceiveTimeoutError, run_in_process
from fedparty.errors import ComponentError, FedpartyError, JobError, RpcError
from fedparty.pki.authority import Authority
from fedparty.storage.reading import describe, read_file
from fedparty.types import Member, PartyId, TaskRun
from fedparty.worker.context import SENDS_AT_ONCE, WorkerContext
from fedparty.worker.spec import TaskSpec

GUEST = Member("guest", PartyId("10000"))
HOST, HOST_2 = Member("host", PartyId("9999")), Member("host", PartyId("10000"))
Play = Callable[[Context], Any]


@dataclass
class InProcess:
    """Plays roles by `run_in_process`."""

    folder: tempfile.TemporaryDirectory[str] = field(default_factory=tempfile.TemporaryDirectory)
    outputs: Path | None = None

    def play(
        self,
        members: list[Member],
        guest: Play,
        host: Play,
        parameters: dict[str, Any] | None = None,
        tables: dict[str, Path] | None = None,
    ) -> Any:
        class Component:
            pass

        Component.guest = lambda _, ctx: guest(ctx)  # type: ignore[attr-defined]
        Component.host = lambda _, ctx: host(ctx)  # type: ignore[attr-defined]
        self.outputs = Path(self.folder.name)
        read = {name: read_file(path, name) for name, path in (tables or {}).items()}
        given = dict.fromkeys(members, read)
        return run_in_process(Component, "test", members, parameters, tables=given, outputs=self.outputs, timeout_s=30)

    def kept(self, member: Member, name: str) -> Path:
        assert self.outputs
        return self.outputs / f"{member.role}-{member.party}" / name


@dataclass
class Worker:
    """Plays roles in `WorkerContext`s of this process, between two real mailboxes."""

    root: Path
    parties: dict[str, WorkerParty]
    runs: int = 0
    tables: dict[str, Path] = field(default_factory=dict)
    threads: list[threading.Thread] = field(default_factory=list)

    def play(
        self,
        members: list[Member],
        guest: Play,
        host: Play,
        parameters: dict[str, Any] | None = None,
        tables: dict[str, Path] | None = None,
    ) -> Any:
        self.tables = tables or {}
        self.runs += 1
        run = TaskRun(JOB, f"t{self.runs}", 1)
        for party in {member.party for member in members}:
            asyncio.run(self.parties[party].register(run, members))
        results: dict[Member, Any] = {}
        failures: list[tuple[Member, Exception]] = []

        def one(member: Member) -> None:
            spec = self._spec(run, member, members, parameters or {})
            try:
                with WorkerContext(spec, logging.getLogger("test")) as ctx:
                    results[member] = (guest if member.role == "guest" else host)(ctx)
            except (FedpartyError, ArithmeticError) as exc:
                failures.append((member, exc))

        threads = [threading.Thread(target=one, args=(member,)) for member in members]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failures:
            raise JobError(str(failures[0][1])) from failures[0][1]
        return results

    def kept(self, member: Member, name: str) -> Path:
        return self.root / f"t{self.runs}" / f"{member.role}-{member.party}" / "outputs" / name

    def _spec(self, run: TaskRun, member: Member, members: list[Member], parameters: dict[str, Any]) -> TaskSpec:

        party = self.parties[member.party]
        folder = self.root / run.task / f"{member.role}-{member.party}"
        folder.mkdir(parents=True)
        sources = [describe(path.parent, name, path.name, None).to_json() for name, path in self.tables.items()]
        return TaskSpec(
            tables=json.dumps(sources),
            tables_folder=str(next((path.parent for path in self.tables.values()), "")),
            run=run,
            member=member,
            members=tuple(members),
            component="test",
            parameters=json.dumps(parameters),
            token=party.signer().task(run, member, 60),
            deadline=time.monotonic() + 30,
            cores=1,
            folder=folder,
            egress=party.address("egress"),
            mailbox=party.address("mailbox"),
        )


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    with ExitStack() as stack:
        root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fp-", dir="/tmp")))
        authority = Authority.open_or_create(root / "ca", FEDERATION)
        parties = {name: WorkerParty(root, name, authority) for name in ("10000", "9999")}
        for party in parties.values():
            party.write()
            party.start()
            stack.callback(party.stop)
        yield Worker(root, parties)


@pytest.fixture(params=["in-process", "worker"])
def player(request: pytest.FixtureRequest) -> Iterator[Any]:
    if request.param != "in-process":
        yield request.getfixturevalue("worker")
        return
    player = InProcess()
    with player.folder:
        yield player


class TestContext:
    """What a component may rely on."""

    def test_a_context_says_who_it_is(self, player: Any):
        results = player.play(
            [GUEST, HOST],
            lambda ctx: (ctx.role, ctx.party, ctx.member, ctx.members, dict(ctx.parameters)),
            lambda ctx: (ctx.role, ctx.party),
            {"rounds": 3},
        )
        assert results == {
            GUEST: ("guest", "10000", GUEST, (GUEST, HOST), {"rounds": 3}),
            HOST: ("host", "9999"),
        }

    @pytest.mark.parametrize(
        "value",
        [
            b"",
            b"\x00bytes",
            None,
            True,
            -1,
            2**64 - 1,
            1.5,
            "text \N{SNOWMAN}",
            [1, [2.5, "x"], None],
            {"a": {"b": [1, 2]}, "c": b"raw"},
        ],
    )
    def test_a_value_arrives_as_it_was_sent(self, player: Any, value: Any):
        results = player.play(
            [GUEST, HOST], lambda ctx: ctx.send("v", value, to="host"), lambda ctx: ctx.receive("v", source="guest")
        )
        assert results[HOST] == value
        assert type(results[HOST]) is type(value)

    @pytest.mark.parametrize(
        "array",
        [
            np.arange(12, dtype=np.uint64).reshape(3, 4),
            np.array(2.5),
            np.empty((0, 3), np.float32),
            np.array([True, False]),
            np.arange(20, dtype=np.int32)[::3],
            np.asfortranarray(np.arange(6.0).reshape(2, 3)),
            np.arange(700_000, dtype=np.float64),
        ],
    )
    def test_an_array_arrives_with_its_type_and_shape(self, player: Any, array: np.ndarray[Any, Any]):
        results = player.play(
            [GUEST, HOST], lambda ctx: ctx.send("a", array, to="host"), lambda ctx: ctx.receive("a", source="guest")
        )
        received = results[HOST]
        assert received.dtype == array.dtype
        np.testing.assert_array_equal(received, array)

    def test_a_received_array_is_the_receivers_own(self, player: Any):
        sent = np.zeros(3)

        def host(ctx: Context) -> float:
            ctx.receive("a", source="guest")[:] = 7
            return float(ctx.receive("a", source="guest").sum())

        assert player.play([GUEST, HOST], lambda ctx: ctx.send("a", sent, to="host"), host)[HOST] == 0.0
        assert sent.sum() == 0

    def test_both_ways_and_many_tags(self, player: Any):
        many = 3 * SENDS_AT_ONCE

        def guest(ctx: Context) -> list[int]:
            for number in range(many):
                ctx.send(f"question.{number}", number, to="host")
            return [ctx.receive(f"answer.{number}", source="host") for number in reversed(range(many))]

        def host(ctx: Context) -> None:
            for number in range(many):
                ctx.send(f"answer.{number}", ctx.receive(f"question.{number}", source="guest") * 2, to=GUEST)

        assert player.play([GUEST, HOST], guest, host)[GUEST] == [2 * number for number in reversed(range(many))]

    def test_a_role_with_several_members(self, player: Any):
        def guest(ctx: Context) -> tuple[Any, Any]:
            ctx.send("hello", "all", to="host")
            return ctx.receive("who", source="host"), ctx.receive("who", source="host:10000")

        def host(ctx: Context) -> Any:
            ctx.send("who", str(ctx.member), to="guest")
            ctx.send("sibling", ctx.party, to="host")
            return ctx.receive("hello", source=GUEST), ctx.receive("sibling", source="host")

        assert player.play([GUEST, HOST, HOST_2], guest, host) == {
            GUEST: (["host:9999", "host:10000"], "host:10000"),
            HOST: ("all", "10000"),
            HOST_2: ("all", "9999"),
        }

    def test_two_roles_of_one_party(self, player: Any):
        results = player.play(
            [GUEST, HOST_2], lambda ctx: ctx.send("v", 5, to="host"), lambda ctx: ctx.receive("v", source="guest")
        )
        assert results[HOST_2] == 5

    @pytest.mark.parametrize("wanted", ["arbiter", "host:9998", "guest", "guest:10000", GUEST, ""])
    def test_nobody_of_that_name(self, player: Any, wanted: Any):
        def guest(ctx: Context) -> None:
            with pytest.raises(ComponentError, match="guest:10000: nobody else is") as told:
                ctx.send("v", 1, to=wanted)
            assert told.value.hint == "The others of this task are host:9999."
            with pytest.raises(ComponentError, match="nobody else is"):
                ctx.receive("v", source=wanted)

        player.play([GUEST, HOST], guest, lambda ctx: None)

    @pytest.mark.parametrize("value", [object(), {1, 2}, np.array([object()]), 2**70])
    def test_what_has_no_form_on_the_wire_is_refused_at_once(self, player: Any, value: Any):
        def guest(ctx: Context) -> None:
            with pytest.raises(ComponentError, match="cannot be sent"):
                ctx.send("v", value, to="host")
            ctx.send("v", "something else", to="host")

        results = player.play([GUEST, HOST], guest, lambda ctx: ctx.receive("v", source="guest"))
        assert results[HOST] == "something else"

    def test_a_wait_that_is_too_long_names_tag_and_sender(self, player: Any):
        def guest(ctx: Context) -> None:
            with pytest.raises(ReceiveTimeoutError, match="waiting for tag 'never' from host:9999") as told:
                ctx.receive("never", source="host", timeout_s=0.05)
            assert "party 9999" in told.value.hint

        player.play([GUEST, HOST], guest, lambda ctx: None)

    def test_the_same_value_may_be_sent_again_but_no_other(self, player: Any):
        def guest(ctx: Context) -> None:
            ctx.send("v", "one", to="host")
            ctx.send("v", "one", to="host")
            ctx.receive("have it", source="host")
            ctx.send("v", "two", to="host")
            ctx.receive("never", source="host")

        def host(ctx: Context) -> None:
            ctx.receive("v", source="guest")
            ctx.send("have it", True, to="guest")

        with pytest.raises(JobError) as told:
            player.play([GUEST, HOST], guest, host)
        cause = told.value.__cause__
        assert isinstance(cause, ComponentError) or (isinstance(cause, RpcError) and cause.code == "OBJECT_CONFLICT")

    def test_an_error_of_the_component_comes_through(self, player: Any):
        with pytest.raises(JobError, match="division by zero"):
            player.play([GUEST, HOST], lambda ctx: 1 / 0, lambda ctx: None)

    def test_figures_are_recorded(self, player: Any):
        def guest(ctx: Context) -> None:
            ctx.metric("loss", 0.5, 1)
            ctx.metric("auc", 0.9)

        player.play([GUEST, HOST], guest, lambda ctx: None)

    def test_a_table_that_was_given_is_read_and_no_other(self, player: Any, tmp_path: Path):
        (tmp_path / "people.csv").write_text("age,city\n50,Bonn\n,\n")

        def guest(ctx: Context) -> Any:
            table = ctx.table("people")
            with pytest.raises(ComponentError, match="the task may not read a table 'others'"):
                ctx.table("others")
            return (
                table.rows,
                [column.name for column in table.columns],
                table.numbers("age")[0],
                table.column("city")[1],
            )

        results = player.play([GUEST, HOST], guest, lambda ctx: None, tables={"people": tmp_path / "people.csv"})
        assert results[GUEST] == (2, ["age", "city"], 50.0, None)

    def test_outputs_are_kept_where_they_are_looked_for(self, player: Any):
        def guest(ctx: Context) -> None:
            ctx.output("models/final.bin").write_bytes(b"weights")
            for name in ("", "/etc/x", "../x", "a/../b", ".hidden", "a//b", "x" * 500):
                with pytest.raises(ComponentError, match="is no name for an output"):
                    ctx.output(name)

        player.play([GUEST, HOST], guest, lambda ctx: None)
        assert player.kept(GUEST, "models/final.bin").read_bytes() == b"weights"


def test_a_send_that_fails_ends_a_wait(worker: Worker):
    stranger = Member("host", PartyId("77"))
    worker.parties["77"] = worker.parties["9999"]  # knows of the task, but no proxy leads to it

    def guest(ctx: Context) -> None:
        ctx.send("v", 1, to="host")
        ctx.receive("never", source="host")

    try:
        spec_of = worker._spec
        run = TaskRun(JOB, "strange", 1)
        asyncio.run(worker.parties["10000"].register(run, [GUEST, stranger]))
        spec = spec_of(run, GUEST, [GUEST, stranger], {})
        with (
            pytest.raises(RpcError, match="sending tag 'v' to host:77: 10000's proxy has no route to party 77") as told,
            WorkerContext(spec, logging.getLogger("test")) as ctx,
        ):
            guest(ctx)
        assert told.value.code == "UNKNOWN_PARTY"
    finally:
        del worker.parties["77"]


def test_in_process_the_first_failure_is_told_and_ends_the_others():
    def guest(ctx: Context) -> None:
        ctx.receive("never", source="host")

    def host(ctx: Context) -> None:
        raise ValueError("no data here")

    player = InProcess()
    with player.folder, pytest.raises(JobError, match=r"^test \(host:9999\): ValueError: no data here$"):
        player.play([GUEST, HOST], guest, host)
