"""What goes to a task's process, and its verdict."""

import json
from pathlib import Path

import pytest

from fedparty.types import JobId, Member, PartyId, TaskRun
from fedparty.worker.spec import LOST, SUCCESS, Outcome, TaskSpec, folder_of

GUEST, HOST = Member("guest", PartyId("10000")), Member("host", PartyId("9999"))
RUN = TaskRun(JobId("10000-01JD3MZZZZZZZZZZZZZZZZZZZZ"), "sum", 2)


def spec(folder: Path = Path("/jobs/x")) -> TaskSpec:
    return TaskSpec(RUN, GUEST, (GUEST, HOST), "secure_sum", "{}", "secret", 12.5, 0.1, folder, "unix:e", "unix:m")


def test_a_spec_survives_the_socket():
    assert TaskSpec.from_json(json.loads(json.dumps(spec().to_json()))) == spec()


def test_a_spec_does_not_print_its_token():
    assert "secret" not in repr(spec())
    assert repr(spec()) == "TaskSpec(10000-01JD3MZZZZZZZZZZZZZZZZZZZZ/sum#2 guest:10000)"


def test_the_folder_names_job_task_attempt_and_role():
    assert folder_of(Path("jobs"), RUN, GUEST) == Path("jobs/10000-01JD3MZZZZZZZZZZZZZZZZZZZZ/sum/2/guest-10000")


def test_a_verdict_is_read_as_written(tmp_path: Path):
    Outcome(SUCCESS, result="[1]").write(tmp_path)
    assert Outcome.read(tmp_path) == Outcome(SUCCESS, result="[1]")
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]


@pytest.mark.parametrize("content", [None, "", "{", "[]", '{"stat": "success"}', "\x00"])
def test_no_verdict_is_none_at_all(tmp_path: Path, content: str | None):
    if content is not None:
        (tmp_path / "result.json").write_text(content)
    assert Outcome.read(tmp_path) is None
    assert Outcome(LOST).state == "lost"
