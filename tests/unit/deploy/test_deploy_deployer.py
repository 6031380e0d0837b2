"""The deploy story, on parties in memory: success is claimed only after it was seen, every result is kept."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import pytest
from fake_engine import FakeEngine

from fedparty.deploy.deployer import Deployer
from fedparty.deploy.engine import Engine
from fedparty.deploy.report import UNSUPERVISED, ServiceState, Silence
from fedparty.deploy.transport.base import Completed
from fedparty.errors import DeployError


class Told(Silence):
    """Progress that remembers its steps."""

    def __init__(self) -> None:
        self.steps: list[tuple[str, str]] = []

    def step(self, party: str, text: str) -> None:
        self.steps.append((party, text))


def deployer(*engines: Engine, notes: tuple[str, ...] = ()) -> Deployer:
    return Deployer(engines, Silence(), notes=notes)


async def test_two_parties_are_started_and_verified_each_and_together() -> None:
    told = Told()
    report = await Deployer([FakeEngine("10000"), FakeEngine("9999")], told).deploy(is_verified=True)
    assert report.is_success
    assert report.sum == 2000.0
    assert [result.sum for result in report.parties] == [2000.0, 2000.0]
    assert told.steps[-1] == ("10000, 9999", "verified together: 2000.0")


async def test_three_parties_have_another_sum() -> None:
    report = await deployer(*map(FakeEngine, ("1", "2", "3"))).deploy(is_verified=True)
    assert report.sum == 3000.0


async def test_one_party_alone_is_verified_with_itself() -> None:
    report = await deployer(FakeEngine("10000")).deploy(is_verified=True)
    assert report.is_success
    assert report.sum == 2000.0


async def test_the_exchange_takes_part_in_no_job() -> None:
    report = await deployer(FakeEngine("10000"), FakeEngine("exchange", services=("proxy",))).deploy(is_verified=True)
    assert report.is_success
    assert [result.sum for result in report.parties] == [2000.0, None]


async def test_the_exchange_alone_is_a_success_without_a_sum() -> None:
    report = await deployer(FakeEngine("exchange", services=("proxy",))).deploy(is_verified=True)
    assert report.is_success
    assert report.sum is None


async def test_a_damaged_bundle_of_one_party_leaves_all_untouched() -> None:
    sound, damaged = FakeEngine("10000"), FakeEngine("9999", is_damaged=True)
    report = await deployer(sound, damaged).deploy(is_verified=True)
    assert not report.is_success
    assert not sound.is_installed
    assert str(report.parties[1].error) == "confs-9999: not as it was signed"
    assert "Nothing was changed." in report.notes


async def test_a_sick_service_is_a_failure_and_keeps_the_results_of_the_others() -> None:
    report = await deployer(FakeEngine("10000"), FakeEngine("9999", sick=("flow",))).deploy(is_verified=True)
    assert not report.is_success
    assert report.sum is None
    assert report.parties[0].sum == 2000.0
    assert str(report.parties[1].error) == "party 9999 is not healthy: flow is down"


async def test_a_job_that_fails_is_a_failure_with_its_last_lines() -> None:
    broken = FakeEngine("10000", sums={("10000", "9999"): "error"})
    report = await deployer(broken, FakeEngine("9999")).deploy(is_verified=True)
    assert not report.is_success
    assert "PEER_FLOW_DOWN" in str(report.error)


async def test_a_wrong_sum_is_a_failure() -> None:
    report = await deployer(FakeEngine("10000", sums={("10000", "10000"): "1999.0"})).deploy(is_verified=True)
    assert not report.is_success
    assert "gave 1999.0, not 2000.0" in str(report.parties[0].error)


async def test_without_verification_the_report_says_so() -> None:
    report = await deployer(FakeEngine("10000"), notes=("9999 is manual",)).deploy(is_verified=False)
    assert report.is_success
    assert report.sum is None
    assert report.notes == ("9999 is manual", "Not verified, as asked.")


async def test_what_does_not_run_cannot_be_verified() -> None:
    report = await deployer(FakeEngine("10000")).verify()
    assert str(report.parties[0].error) == "party 10000 does not run"
    assert report.parties[0].error.hint == "Run: python deploy.py 10000 --engine process"  # type: ignore[union-attr]


async def test_what_lost_its_supervisor_is_to_be_deployed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = FakeEngine("10000")

    async def states() -> tuple[ServiceState, ...]:
        return (ServiceState("proxy", UNSUPERVISED),)

    monkeypatch.setattr(engine, "states", states)
    report = await deployer(engine).verify()
    assert report.parties[0].error.hint == "Run: python deploy.py 10000 --engine process"  # type: ignore[union-attr]


async def test_a_plan_changes_nothing() -> None:
    engine = FakeEngine("10000")
    report = await deployer(engine).plan()
    assert report.parties[0].plan == ("new bundle",)
    assert not engine.is_installed


@pytest.mark.parametrize(("is_purged", "state"), [(False, "stopped"), (True, "not deployed")])
async def test_delete(is_purged: bool, state: str) -> None:
    engine = FakeEngine("10000")
    await deployer(engine).deploy(is_verified=False)
    report = await deployer(engine).delete(is_purged=is_purged)
    assert report.is_success
    assert {service.state for service in report.parties[0].services} == {state}


async def test_parties_in_one_place_share_one_lock() -> None:
    engines = [FakeEngine("10000"), FakeEngine("9999"), FakeEngine("8888", lock_place="there")]
    await deployer(*engines).deploy(is_verified=False)
    assert sum(engine.lock_count for engine in engines) == 2


async def test_a_report_is_json_with_errors_in_words() -> None:
    report = await deployer(FakeEngine("10000", sick=("proxy",))).deploy(is_verified=False)
    record = report.to_json()
    assert record["success"] is False
    assert record["parties"][0]["error"]["error"] == "party 10000 is not healthy: proxy is down"
    assert record["parties"][0]["healthy"] is False


async def test_a_party_that_is_not_healthy_goes_back_to_its_last_release_and_says_so() -> None:
    sick = FakeEngine("10000", sick=("flow",), releases=1)
    report = await deployer(sick, FakeEngine("9999")).deploy(is_verified=True)
    assert not report.is_success
    assert report.parties[0].recovery == "10000 went back to the release of yesterday, which is healthy."
    assert sick.audit == [
        "failed: party 10000 is not healthy: flow is down; went back to the release of yesterday, which is healthy"
    ]
    assert report.parties[1].sum == 2000.0


async def test_a_first_deploy_that_fails_is_left_to_be_looked_at() -> None:
    sick = FakeEngine("10000", sick=("flow",))
    report = await deployer(sick).deploy(is_verified=True)
    assert report.parties[0].recovery == ""
    assert sick.audit[0].endswith("; left as it is")


async def test_what_was_verified_is_kept_as_a_release() -> None:
    sound = FakeEngine("10000")
    await deployer(sound).deploy(is_verified=True)
    assert sound.releases == 1
    assert sound.audit == ["deployed and verified"]


async def test_the_neighbours_are_told_before_a_new_party_starts() -> None:
    told = Told()
    new, neighbour = FakeEngine("9998"), FakeEngine("10000", is_installed=True)
    await Deployer([new], told, neighbours=[neighbour]).deploy(is_verified=True)
    assert ("10000", "knows the new ways, nothing restarted") in told.steps
    assert not neighbour.is_running


async def test_the_place_of_a_neighbour_is_locked_while_it_is_told_and_the_own_one_not_twice() -> None:
    there = FakeEngine("10000", lock_place="there", is_installed=True)
    here = FakeEngine("9999", is_installed=True)
    report = await Deployer([FakeEngine("9998")], Silence(), neighbours=[there, here]).deploy(is_verified=True)
    assert report.is_success
    assert (there.lock_count, here.lock_count) == (1, 0)
    assert not there.is_held


async def test_a_neighbour_that_is_not_deployed_gets_no_lock() -> None:
    neighbour = FakeEngine("10000", lock_place="there", is_locked=True)
    report = await Deployer([FakeEngine("9998")], Silence(), neighbours=[neighbour]).deploy(is_verified=False)
    assert report.is_success
    assert report.notes == ("Not verified, as asked.",)


@pytest.mark.parametrize(
    ("neighbour", "why"),
    [
        (
            FakeEngine("10000", lock_place="there", is_installed=True, is_locked=True),
            "there: somebody is deploying here now",
        ),
        (
            FakeEngine("10000", lock_place="there", breaks={"is_deployed": DeployError("there: cannot be reached")}),
            "there: cannot be reached",
        ),
    ],
)
async def test_a_neighbour_that_cannot_be_told_is_a_note(neighbour: FakeEngine, why: str) -> None:
    report = await Deployer([FakeEngine("9998")], Silence(), neighbours=[neighbour]).deploy(is_verified=True)
    assert report.is_success
    note = f"10000 has not been told of the change: {why}. Once it is reached: python deploy.py 10000"
    assert report.notes == (note,)


async def test_live_files_are_pushed_under_lock_to_what_is_deployed_and_not_worked_at() -> None:
    deployed = FakeEngine("10000", is_installed=True)
    absent = FakeEngine("9999", lock_place="nowhere")
    busy = FakeEngine("9998", lock_place="there", is_installed=True, is_locked=True)
    report = await deployer(deployed, absent, busy).push_live()
    assert [result.party for result in report.parties] == ["10000", "9999", "9998"]
    assert [result.plan for result in report.parties] == [("proxy/live/cds.json",), (), ()]
    assert [str(result.error or "") for result in report.parties] == ["", "", "there: somebody is deploying here now"]
    assert (deployed.lock_count, absent.lock_count) == (1, 0)


async def test_a_place_that_is_locked_keeps_its_parties_and_only_them_from_being_changed() -> None:
    locked, free = FakeEngine("10000", lock_place="there", is_locked=True), FakeEngine("9999")
    report = await deployer(locked, free).deploy(is_verified=True)
    assert str(report.parties[0].error) == "there: somebody is deploying here now"
    assert report.parties[1].error is None
    assert not free.is_installed
    assert free.lock_count == 1


async def test_why_a_deploy_failed_is_told_even_if_going_back_and_its_record_fail(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sick = FakeEngine("10000", sick=("flow",), releases=1)

    async def roll_back(timeout_s: float) -> str | None:
        raise DeployError("the disk is full")

    async def record(what: str) -> None:
        raise DeployError("audit.jsonl cannot be written")

    monkeypatch.setattr(sick, "roll_back", roll_back)
    monkeypatch.setattr(sick, "record", record)
    report = await deployer(sick).deploy(is_verified=True)
    assert str(report.parties[0].error) == "party 10000 is not healthy: flow is down"
    assert "10000 could not go back to the release before: the disk is full." in report.parties[0].recovery
    assert "audit.jsonl cannot be written" in report.parties[0].recovery


class Loser(FakeEngine):
    """Loses its lock in the middle of `install`."""

    is_ended = False

    async def install(self, tell: Callable[[str], None]) -> str:
        self.lost.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.is_ended = True
        return "never"


async def test_who_loses_the_lock_is_ended_and_the_others_go_on() -> None:
    loser, other = Loser("10000", lock_place="there", releases=1), FakeEngine("9999")
    report = await deployer(loser, other).deploy(is_verified=True)
    assert str(report.parties[0].error) == "the lock was lost: there: somebody is deploying here now"
    assert loser.is_ended
    assert loser.audit == []  # nothing is done there any more, going back neither
    assert not loser.is_held
    assert report.parties[1].sum == 2000.0


async def test_parties_in_one_place_lose_its_lock_together() -> None:
    holder, other = FakeEngine("9999"), Loser("10000")
    other.lost = holder.lost
    report = await deployer(other, holder).deploy(is_verified=True)
    assert report.parties[0].error is not None
    assert not report.is_success


async def test_a_fault_at_one_party_is_its_error_with_the_cause_and_the_others_go_on() -> None:
    fault = ValueError("no digits")
    broken, sound = FakeEngine("10000", breaks={"install": fault}), FakeEngine("9999")
    report = await deployer(broken, sound).deploy(is_verified=True)
    error = report.parties[0].error
    assert str(error) == "party 10000: ValueError: no digits"
    assert error is not None
    assert error.__cause__ is fault
    assert error.hint == "This is a fault of fedparty: run it again with -v, and report what it shows."
    assert report.parties[1].sum == 2000.0


@pytest.mark.parametrize(
    ("exc", "message"),
    [
        (OSError(28, "No space left on device", "/data/x"), "party 10000: /data/x: No space left on device"),
        (TimeoutError(), "party 10000: TimeoutError"),
    ],
)
async def test_an_error_of_the_machine_is_told_in_words(exc: Exception, message: str) -> None:
    report = await deployer(FakeEngine("10000", breaks={"lock": exc})).deploy(is_verified=False)
    assert str(report.parties[0].error) == message
    assert report.notes == ("Nothing was changed.",)


async def test_a_fault_while_going_back_does_not_hide_why() -> None:
    sick = FakeEngine("10000", sick=("flow",), releases=1, breaks={"roll_back": KeyError("release")})
    report = await deployer(sick).deploy(is_verified=True)
    assert str(report.parties[0].error) == "party 10000 is not healthy: flow is down"
    assert report.parties[0].recovery == "10000 could not go back to the release before: KeyError: 'release'."


async def test_a_fault_of_the_job_over_all_keeps_the_results_of_the_parties(monkeypatch: pytest.MonkeyPatch) -> None:
    guest = FakeEngine("10000")
    alone = guest.execute

    async def execute(argv: Sequence[str], *, timeout_s: float) -> Completed:
        if "9999" in argv:
            raise ValueError("no digits")
        return await alone(argv, timeout_s=timeout_s)

    monkeypatch.setattr(guest, "execute", execute)
    report = await deployer(guest, FakeEngine("9999")).deploy(is_verified=True)
    assert str(report.error) == "the job of party 10000: ValueError: no digits"
    assert [result.sum for result in report.parties] == [2000.0, 2000.0]
