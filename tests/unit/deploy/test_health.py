"""Health in a container, where only one service's files are."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import UnixStreamServer

import pytest

from fedparty.cli.main import main
from fedparty.deploy.health import DOWN, HEALTHY, Reading, Watcher


class Ready(BaseHTTPRequestHandler):
    """Is always ready."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Stay silent."""


class Server(UnixStreamServer):
    def get_request(self) -> tuple[object, tuple[str, int]]:
        request, _ = super().get_request()
        return request, ("local", 0)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The worker's container: its settings and no other's, nor what the bundle is."""
    settings = tmp_path / "bundle/worker/settings.json"
    settings.parent.mkdir(parents=True)
    settings.write_text(json.dumps({"operations": "unix:run/worker-operations.sock"}))
    (tmp_path / "run").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def ready(home: Path) -> Iterator[None]:
    with Server("run/worker-operations.sock", Ready) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield
        server.shutdown()
        thread.join()


def test_one_service_is_read_from_its_own_files_alone(home: Path) -> None:
    assert Watcher(Path(), "worker").read() == (Reading("worker", DOWN, "does not answer"),)


@pytest.mark.usefixtures("ready")
def test_it_is_waited_for(home: Path) -> None:
    assert list(Watcher(Path(), "worker").wait(5)) == [Reading("worker", HEALTHY)]


@pytest.mark.usefixtures("ready")
@pytest.mark.parametrize("words", [["--service", "worker"], []])
def test_the_command_looks_at_the_service_that_is_named(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    monkeypatch.setenv("FEDPARTY_SERVICE", "flow" if words else "worker")
    assert main(["health", "--home", str(home), *words, "--output", "json"]) == 0
    assert Reading.from_json(capsys.readouterr().out) == Reading("worker", HEALTHY)


def test_a_service_that_is_not_there_is_named(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["health", "--service", "flow"]) == 1
    assert f"{home}: has no service flow: " in capsys.readouterr().err
