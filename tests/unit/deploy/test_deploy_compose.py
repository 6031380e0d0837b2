"""Docker's command lines, and its answers as they were seen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fedparty.deploy.containers import compose
from fedparty.deploy.home import Owner

BUNDLE = Path("/srv/confs-10000/bundle")


def record(**changes: Any) -> dict[str, Any]:
    """Return what ``docker inspect`` tells of one container."""
    state = {
        "Status": "running", "ExitCode": 0, "Pid": 42, "StartedAt": "2026-01-02T03:04:05.678901234Z",
        "OOMKilled": False,
    }  # fmt: skip
    labels = {
        "com.docker.compose.project.working_dir": str(BUNDLE),
        "com.docker.compose.config-hash": "d1g35t",
    }
    return {
        "Id": "c0ffee", "Name": "/confs-10000_flow_1", "Image": "sha256:1", "RestartCount": 0,
        "State": state | changes.pop("state", {}), "Config": {"Labels": labels},
        "HostConfig": {"PortBindings": {"9370/tcp": [{"HostIp": "", "HostPort": "9370"}], "1/tcp": None}}, **changes,
    }  # fmt: skip


def test_compose_knows_whose_the_files_are_and_where_they_lie() -> None:
    argv = compose.up(BUNDLE, Owner(1000, 1001))
    assert argv[:3] == ("env", "FEDPARTY_UID=1000", "FEDPARTY_GID=1001")
    assert argv[argv.index("--file") + 1] == "/srv/confs-10000/bundle/docker-compose.yml"
    assert argv[-4:] == ("up", "--detach", "--no-build", "--remove-orphans")


def test_one_service_is_started_without_ending_others() -> None:
    assert "--remove-orphans" not in compose.up(BUNDLE, Owner(1, 1), "mysql")


def test_both_streams_of_a_log_are_shown_and_names_are_arguments() -> None:
    script = ("sh", "-c", 'exec docker logs "$@" 2>&1', "sh")
    assert compose.logs("confs-1_flow_1", 5, follow=True) == (*script, "--tail", "5", "--follow", "confs-1_flow_1")
    assert compose.logs("confs-1_flow_1", 0, follow=False) == (*script, "--tail", "0", "confs-1_flow_1")


def test_a_running_container_is_read() -> None:
    (found,) = compose.parse_containers(json.dumps([record()])).values()
    assert (found.name, found.image_id, found.pid, found.definition) == ("confs-10000_flow_1", "sha256:1", 42, "d1g35t")
    assert found.started == 1767323045
    assert found.published == {9370}
    assert found.is_running


def test_why_a_container_ended_is_told() -> None:
    def end(**changes: Any) -> str:
        (found,) = compose.parse_containers(json.dumps([record(**changes)])).values()
        assert not found.is_running
        return found.describe_end()

    assert end(state={"Status": "exited", "ExitCode": 3}) == "its process ended with 3"
    assert "started again 4 times" in end(state={"Status": "restarting", "ExitCode": 1}, RestartCount=4)
    assert end(state={"Status": "exited", "OOMKilled": True}) == "it was killed: out of memory"
    never = {"Status": "created", "StartedAt": "0001-01-01T00:00:00Z"}
    assert end(state=never) == "it was never started"


def test_no_container_is_no_answer() -> None:
    assert compose.parse_containers("") == {}
    assert compose.parse_containers("[]\n") == {}


def test_images_are_read_and_a_missing_one_makes_an_empty_line() -> None:
    output = '\n["fedparty/party:1","team/party:1"] sha256:2\n[] sha256:3\n'
    names = {"fedparty/party:1": "sha256:2", "team/party:1": "sha256:2"}
    assert compose.parse_identities(output) == {**names, "sha256:3": "sha256:3"}


def test_definitions_are_read() -> None:
    assert compose.parse_definitions("flow abc\nmysql def\n\n") == {"flow": "abc", "mysql": "def"}
