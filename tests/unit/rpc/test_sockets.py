"""Addresses are claimed only where nobody answers."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from fedparty.errors import ConfigurationError
from fedparty.rpc import sockets


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_socket_is_private_and_its_folder_too(home: Path) -> None:
    with sockets.bind("unix:run/x.sock"):
        assert (home / "run/x.sock").stat().st_mode & 0o777 == 0o600
        assert (home / "run").stat().st_mode & 0o777 == 0o700
    sockets.release("unix:run/x.sock")
    assert not (home / "run/x.sock").exists()


def test_socket_of_a_dead_process_is_replaced(home: Path) -> None:
    sockets.bind("unix:x.sock").close()
    assert (home / "x.sock").exists()
    sockets.bind("unix:x.sock").close()


def test_socket_that_answers_is_left_alone(home: Path) -> None:
    with sockets.bind("unix:x.sock"), pytest.raises(ConfigurationError, match="already answers"):
        sockets.bind("unix:x.sock")
    assert (home / "x.sock").exists()


def test_file_that_is_no_socket_is_left_alone(home: Path) -> None:
    (home / "x.sock").write_text("precious")
    with pytest.raises(ConfigurationError, match="not a socket"):
        sockets.claim("unix:x.sock")
    assert (home / "x.sock").read_text() == "precious"


def test_path_that_the_system_cannot_hold(home: Path) -> None:
    with pytest.raises(ConfigurationError, match="107"):
        sockets.claim("unix:" + "x" * 108)


def test_port_that_is_taken() -> None:
    with sockets.bind("127.0.0.1:0") as listener:
        port = listener.getsockname()[1]
        with pytest.raises(ConfigurationError, match="cannot listen"):
            sockets.bind(f"127.0.0.1:{port}")
        with socket.create_connection(("127.0.0.1", port)):
            pass
