"""``run_toy_example.py`` as a user runs it, against a flow that only answers REST as told."""

from __future__ import annotations

import json
import shutil
import signal
import socketserver
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[2] / "toy_example" / "run_toy_example.py"
LINE = {"time": "2026-01-02T03:04:05.678+00:00", "level": "INFO", "source": "secure_sum.py:96"}
SUCCESS = "success to calculate secure_sum, it is 2000.0"


class Flow(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """Serves one job, which ends as `job` says when `may_end` is set."""

    daemon_threads = True

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), Handler)
        self.submitted: list[dict[str, Any]] = []
        self.stopped = threading.Event()
        self.is_told = threading.Event()
        self.may_end = threading.Event()
        self.may_end.set()
        self.lines = [{**LINE, "message": "begin to make guest data"}, {**LINE, "message": SUCCESS}]
        self.job: dict[str, Any] = job("success", {"secure_sum": 2000.0})


def job(state: str, result: Any = None, error: str = "", hint: str = "", **member: str) -> dict[str, Any]:
    task = {"task": "sum", "attempt": 1, "role": "guest", "party": "10000", "state": state, "error": "", "hint": ""}
    common = {"id": "10000-X", "name": "toy", "initiator": "10000", "created_at": ""}
    return common | {"state": state, "error": error, "hint": hint, "tasks": [task | {"result": result} | member]}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Flow

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        if self.headers["authorization"] != "Bearer right":
            return self.answer(401, {"error": "the token is wrong", "hint": "Show it.", "code": "TOKEN_REFUSED"})
        if self.path.endswith("/stop"):
            self.server.stopped.set()
            self.server.may_end.set()
            return self.answer(200, job("canceled"))
        self.server.submitted.append(json.loads(body))
        return self.answer(201, job("waiting"))

    def do_GET(self) -> None:
        if "/logs" in self.path:
            text = "".join(json.dumps(line) + "\n" for line in self.server.lines).encode()
            self.server.is_told.set()
            return self.write(200, "application/x-ndjson", text)
        if "known_state" not in self.path:
            is_over = self.server.is_told.is_set() and self.server.may_end.is_set()
            return self.answer(200, self.server.job if is_over else job("running"))
        self.server.may_end.wait(20)
        return self.answer(200, self.server.job)

    def answer(self, status: int, body: Any) -> None:
        self.write(status, "application/json", json.dumps(body).encode())

    def write(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass

    def address_string(self) -> str:
        return "client"


@pytest.fixture
def home() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="fp-", dir="/tmp"))
    for name in ("run", "bundle/secrets"):
        (folder / name).mkdir(parents=True)
    (folder / "bundle" / "bundle.json").write_text(json.dumps({"party": "10000", "rest_url": None}))
    (folder / "bundle" / "secrets" / "api-token").write_text("right\n")
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def flow(home: Path) -> Iterator[Flow]:
    with Flow(home / "run" / "flow-rest.sock") as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


def run(home: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, SCRIPT, "10000", "9999", "1", *options]
    return subprocess.run(command, cwd=home, capture_output=True, text=True, timeout=30, check=False)


def test_a_job_that_succeeds(home: Path, flow: Flow):
    done = run(home, "--timeout", "7", "--partition", "3")
    assert done.returncode == 0, done.stderr
    printed = done.stdout.splitlines()
    assert len(printed) == 2
    assert printed[-1].endswith(f" - secure_sum.py[line:96] - INFO: {SUCCESS}")
    assert flow.submitted == [
        {
            "name": "toy",
            "roles": {"guest": ["10000"], "host": ["9999"]},
            "tasks": {
                "sum": {"component": "secure_sum", "parameters": {"data_num": 1000, "partition": 3}, "cores": 0.1}
            },
            "timeout_s": 7.0,
        }
    ]


def test_the_sum_is_told_even_if_the_log_is_not(home: Path, flow: Flow):
    flow.lines = []
    done = run(home)
    assert (done.returncode, done.stdout) == (0, f"{SUCCESS}\n")


def test_a_success_with_a_wrong_sum_is_none(home: Path, flow: Flow):
    flow.job = job("success", {"secure_sum": 1999.0})
    flow.lines = []
    done = run(home)
    assert done.returncode == 1
    assert "the job ended with {'secure_sum': 1999.0}, and should have with the sum 2000.0" in done.stderr
    assert "success" not in done.stdout


def test_a_failure_names_the_hop_and_what_to_do(home: Path, flow: Flow):
    flow.job = job("failed", None, "prepare at party 9999: its flow does not answer", "Ask party 9999.")
    flow.lines = []
    done = run(home)
    assert done.returncode == 1
    assert done.stderr == ("job 10000-X failed: prepare at party 9999: its flow does not answer\nAsk party 9999.\n")


def test_what_a_member_says_is_told_too(home: Path, flow: Flow):
    waiting = "secure_sum (guest:10000): waiting for tag 'share.0' from host:9999: nothing came in time"
    flow.job = job("timeout", None, "the job did not end within 5 s", "General.")
    flow.job["tasks"][0] |= {"error": waiting, "hint": "Look at host:9999."}
    done = run(home)
    assert done.returncode == 1
    assert done.stderr.splitlines()[1:] == [f"  {waiting}", "Look at host:9999."]


def test_a_refused_token(home: Path, flow: Flow):
    (home / "bundle" / "secrets" / "api-token").write_text("wrong")
    done = run(home)
    assert done.returncode == 1
    assert done.stderr == "the flow refused the request: the token is wrong\nShow it.\n"


def test_a_flow_that_died_leaving_its_socket(home: Path, flow: Flow):
    flow.shutdown()
    flow.server_close()
    done = run(home)
    assert done.returncode == 1
    assert "does not answer" in done.stderr
    assert "deploy.py status" in done.stderr


def test_ctrl_c_stops_the_job(home: Path, flow: Flow):
    flow.may_end.clear()
    command = [sys.executable, SCRIPT, "10000", "9999", "1"]
    with subprocess.Popen(command, cwd=home, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        assert running.stdout
        running.stdout.readline()  # the log is followed: the job was submitted
        running.send_signal(signal.SIGINT)
        _, told = running.communicate(timeout=20)
    assert running.returncode == 130
    assert flow.stopped.is_set()
    assert "job 10000-X was stopped" in told
