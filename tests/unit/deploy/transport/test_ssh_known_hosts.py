"""The files that ssh writes, read as sshd(8) says."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fedparty.deploy.transport.ssh.known_hosts import HostKey, append, find

BLOB = "AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "dot_ssh" / "known_hosts"


@pytest.mark.parametrize(
    ("line", "name", "is_found"),
    [
        ("github.com", "github.com", True),
        ("github.com", "GitHub.com", True),
        ("a.org,192.0.2.1", "192.0.2.1", True),
        ("*.a.org,!b.a.org", "c.a.org", True),
        ("*.a.org,!b.a.org", "b.a.org", False),
        ("[a.org]:2222", "[a.org]:2222", True),
        ("[a.org]:2222", "a.org", False),
        ("[*]:2222", "[a.org]:2222", True),
        ("#a.org", "a.org", False),
        ("@cert-authority a.org", "a.org", False),
        ("|1|damaged", "a.org", False),
    ],
)
def test_names(file: Path, line: str, name: str, is_found: bool) -> None:
    file.parent.mkdir()
    file.write_text(f"damaged\n\n{line} ssh-ed25519 {BLOB} comment\na.org ssh-ed25519 not-base64!\n")
    assert bool(find(name, (file, file.with_name("absent")))) is is_found


def test_the_line_and_the_fingerprint_are_told(file: Path) -> None:
    file.parent.mkdir()
    file.write_text(f"# GitHub's\ngithub.com ssh-ed25519 {BLOB}\n")
    (key,) = find("github.com", (file,))
    # As GitHub publishes it.
    assert key.fingerprint == "SHA256:+DiY3wvvV6TuJJhbpZisF/zLDA0zPMSvHdkr4UvCOqU"
    assert key.place == f"{file}:2"


def test_many_writers_tear_no_line(file: Path) -> None:
    keys = [HostKey("ssh-ed25519", bytes([number]) * 51) for number in range(40)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda key: append(file, "a.org", key), keys))
    assert {key.blob for key in find("a.org", (file,))} == {key.blob for key in keys}
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700
