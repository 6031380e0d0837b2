"""The command lines of the process engine, in full."""

from __future__ import annotations

from pathlib import Path

from fedparty.deploy import commands
from fedparty.deploy.commands import Command
from fedparty.deploy.home import Home
from fedparty.deploy.programs import Programs

PROGRAMS = Programs(Path("/venv/bin/python"), Path("/venv/envoy"), Path("/repository/toy_example"))
HOME = Home(Path("/srv/confs-10000"))


def test_commands_in_full() -> None:
    lines = [
        commands.start_supervisor(),
        commands.shut_down(),
        commands.restart(["flow", "worker"]),
        commands.migrate(),
        commands.health(),
        commands.health(timeout_s=30),
        commands.toy(["10000", "9999"], timeout_s=60),
        commands.tail(Path("/srv/my logs/flow.log"), 100, follow=True),
    ]
    assert [str(Command(argv)) for argv in lines] == [
        "python3 -m supervisor.supervisord -c bundle/supervisord.conf",
        "python3 -m supervisor.supervisorctl -c bundle/supervisord.conf shutdown",
        "python3 -m supervisor.supervisorctl -c bundle/supervisord.conf restart party:flow party:worker",
        "python3 -m fedparty migrate",
        "python3 -m fedparty health --home . --output json",
        "python3 -m fedparty health --home . --wait --timeout 30 --output json",
        "run_toy_example.py 10000 9999 1 --partition 1 --timeout 60",
        "tail -n 100 -F '/srv/my logs/flow.log'",
    ]


def test_a_party_inherits_nothing_of_the_operators_secrets() -> None:
    inherited = {
        "LANG": "C.UTF-8",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "http_proxy": "http://proxy",
        "FEDPARTY_HOME": "/",
    }
    assert commands.environment(HOME, PROGRAMS, inherited) == {
        "LANG": "C.UTF-8",
        "PATH": "/venv/bin:/repository/toy_example:/usr/local/bin:/usr/bin:/bin",
        "FEDPARTY_HOME": "/srv/confs-10000",
        "FEDPARTY_RUN": "/srv/confs-10000/run",
        "FEDPARTY_PYTHON": "/venv/bin/python",
        "FEDPARTY_ENVOY": "/venv/envoy",
        "SPT_NOENV": "1",
    }
