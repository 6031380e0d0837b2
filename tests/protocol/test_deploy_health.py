"""Health as it is read in a party, from real sockets."""

from __future__ import annotations

import json
import os
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from fedparty.cli.main import main
from fedparty.deploy.health import DOWN, HEALTHY, WAITING, Reading, Watcher

Answer = tuple[int, bytes]
Serve = Callable[..., None]

READY: Answer = (200, b'{"ready": true}')
NOT_READY: Answer = (503, b'{"ready": false, "waiting_for": {"mailbox": "no answer", "proxy": "no answer"}}')


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with a proxy and a flow, which is the working directory as it is in a party."""
    files = {
        "bundle/bundle.json": {"services": ["proxy", "flow"]},
        "bundle/proxy/bootstrap.json": {"admin": {"address": {"pipe": {"path": "run/envoy-admin.sock"}}}},
        "bundle/proxy/live/lds.json": {"resources": [{"name": "ingress"}]},
        "bundle/flow/settings.json": {"operations": "unix:run/flow-operations.sock"},
    }
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(json.dumps(content))
    (tmp_path / "run").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def serve(home: Path) -> Iterator[Serve]:
    """Return a function that answers at a socket: each answer once, the last one for ever."""
    with ExitStack() as stack:

        def serve(path: str, answers: list[Answer], listeners: bytes = b"ingress::127.0.0.1:9370\n") -> None:
            server = stack.enter_context(_Server(path, _handler(answers, listeners)))
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
            thread.start()
            stack.callback(thread.join)
            stack.callback(server.shutdown)

        yield serve


class _Server(socketserver.UnixStreamServer):
    def get_request(self) -> tuple[object, tuple[str, int]]:
        request, _ = super().get_request()
        return request, ("local", 0)


def _handler(answers: list[Answer], listeners: bytes) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/listeners":
                self._answer(200, listeners)
                return
            status, body = answers.pop(0) if len(answers) > 1 else answers[0]
            self._answer(status if self.path in ("/ready", "/readyz") else 404, body)

        def _answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Stay silent."""

    return Handler


def test_a_proxy_that_cannot_listen_is_not_healthy(serve: Serve, home: Path) -> None:
    serve("run/envoy-admin.sock", [(200, b"LIVE\n")], b"egress::unix\n")
    reading = Watcher(Path()).read()[0]
    assert (reading.state, reading.detail) == (
        WAITING,
        "cannot listen: ingress; is the port taken by another program?",
    )


def test_a_service_that_does_not_answer_is_down(home: Path) -> None:
    assert [reading.state for reading in Watcher(Path()).read()] == [DOWN, DOWN]


def test_each_service_says_what_it_waits_for(serve: Serve) -> None:
    serve("run/envoy-admin.sock", [(503, b"PRE_INITIALIZING\n")])
    serve("run/flow-operations.sock", [NOT_READY])
    assert Watcher(Path()).read() == (
        Reading("proxy", WAITING, "PRE_INITIALIZING"),
        Reading("flow", WAITING, "mailbox: no answer, proxy: no answer"),
    )


def test_waiting_tells_each_change_once_and_ends_when_all_are_healthy(serve: Serve) -> None:
    serve("run/envoy-admin.sock", [(200, b"LIVE\n")])
    serve("run/flow-operations.sock", [NOT_READY, NOT_READY, READY])
    changes = [(reading.service, reading.state) for reading in Watcher(Path()).wait(10)]
    assert changes == [("proxy", HEALTHY), ("flow", WAITING), ("flow", HEALTHY)]


def test_waiting_ends_with_the_time(serve: Serve) -> None:
    serve("run/envoy-admin.sock", [(200, b"LIVE\n")])
    changes = [(reading.service, reading.state) for reading in Watcher(Path()).wait(0.1)]
    assert changes == [("proxy", HEALTHY), ("flow", DOWN)]


def test_a_network_address_is_asked_over_the_network(home: Path) -> None:
    bootstrap = {"admin": {"address": {"socket_address": {"address": "0.0.0.0", "port_value": 1}}}}
    (home / "bundle/proxy/bootstrap.json").write_text(json.dumps(bootstrap))
    assert Watcher(Path()).read()[0].state == DOWN


def test_the_command_prints_lines_and_its_exit_code_is_the_truth(
    home: Path, serve: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    serve("run/envoy-admin.sock", [(200, b"LIVE\n")])
    assert main(["health", "--home", str(home), "--output", "json"]) == 1
    lines = [Reading.from_json(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line.service, line.state) for line in lines] == [("proxy", HEALTHY), ("flow", DOWN)]
    serve("run/flow-operations.sock", [READY])
    assert main(["health", "--wait", "--timeout", "5"]) == 0
    assert capsys.readouterr().out == "proxy        healthy\nflow         healthy\n"


def test_a_folder_that_is_no_home_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = Path.cwd()
    try:
        assert main(["health", "--home", str(tmp_path)]) == 1
    finally:
        os.chdir(where)
    assert "is not a party's home" in capsys.readouterr().err


def test_a_line_that_is_no_reading_is_refused() -> None:
    with pytest.raises(ValueError, match="not a reading"):
        Reading.from_json('{"other": 1}')
