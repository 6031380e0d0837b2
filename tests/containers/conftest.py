"""Machines and images for the container tests, made once for all of them, and their times, told at the end."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from available import require
from deployment import IMAGES, REPOSITORY, TAG, image
from machines import Machines, running

_SECONDS: dict[str, float] = {}


@pytest.fixture(scope="session")
def images() -> tuple[str, ...]:
    """The images of this tree, in the outer engine; Debian's, which the machines are made from, comes with them."""
    require("compose")
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "deploy.py", "images", "build", *IMAGES, "--tag", TAG],
        cwd=REPOSITORY,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    _SECONDS["images built"] = time.monotonic() - began
    return tuple(map(image, IMAGES))


@pytest.fixture(scope="session")
def machines(images: tuple[str, ...]) -> Iterator[Machines]:
    """Three machines that have the images."""
    require("machines")
    with running() as machines:
        machines.load(images)
        yield machines
        _SECONDS.update(machines.seconds)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a module's federation has its files."""
    return tmp_path_factory.mktemp("federation")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print how long it took to have machines."""
    for what, seconds in _SECONDS.items():
        terminalreporter.write_line(f"{what}: {seconds:.1f} s")
