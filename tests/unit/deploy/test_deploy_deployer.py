"""The deploy story, on parties in memory: success is claimed only after it was seen, every result is kept."""

from __future__ import annotations

import pytest
from fake_engine import FakeEngine

from fedparty.deploy.deployer import Deployer
from fedparty.deploy.engine import Engine
from fedparty.deploy.report import UNSUPERVISED, ServiceState, Silence
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
    new, neighbour = FakeEngine("9998"), FakeEngine("10000")
    await Deployer([new], told, neighbours=[neighbour]).deploy(is_verified=True)
    assert ("10000", "knows the new ways, nothing restarted") in told.steps
    assert not neighbour.is_running


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
