"""The image of a party's worker, and keys that an engine does not read."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fedparty.config import Loaded, Unused, unused_keys
from fedparty.config.images import worker_base, worker_image

Read = Callable[[str], Loaded]
TWO = "party_list=(1 2)\nparty_ip_list=(a b)\ntag=1.0\n"


@pytest.mark.parametrize(
    ("key", "base"),
    [
        ("", "fedparty/party:1.0"),
        ("image=worker-torch", "fedparty/worker-torch:1.0"),
        ("image=r.example.org:5000/team/own:7", "r.example.org:5000/team/own:7"),
        ("image=own@sha256:" + "0" * 64, "own@sha256:" + "0" * 64),
    ],
)
def test_the_workers_image_is_the_partys_choice(read: Read, key: str, base: str) -> None:
    federation = read(f"{TWO}[2]\n{key}\n").federation
    assert worker_base(federation, federation.parties[1]) == base
    assert worker_image(federation, federation.parties[1]) == base
    assert worker_image(federation, federation.parties[0]) == "fedparty/party:1.0"


def test_own_requirements_make_an_image_of_the_site(read: Read) -> None:
    federation = read(f"{TWO}registry=r.org\n[2]\nimage=worker-torch\nrequirements=/r.txt\n").federation
    assert worker_base(federation, federation.parties[1]) == "r.org/fedparty/worker-torch:1.0"
    assert worker_image(federation, federation.parties[1]) == "r.org/fedparty/site-2:1.0"


@pytest.mark.parametrize("word", ["Own", "a b", "https://r.org/own", "-x", "own:", "own@sha256:12", "a//b"])
def test_what_is_no_image_is_refused(faults_of: Callable[[str], list[str]], word: str) -> None:
    (fault,) = faults_of(f"{TWO}[2]\nimage='{word}'\n")
    assert fault.startswith("parties.conf:5: image: ")
    assert "is not an image. Write e.g. worker-torch" in fault


def test_keys_for_another_engine_are_found(read: Read) -> None:
    text = "exchange_ip=c\nengine=process\nssh_port=2022\n[2]\nengine=docker\nservice_layout=together\nimage=own\n"
    assert unused_keys(read(f"{TWO}{text}").federation) == (
        Unused("ssh_port", "docker", ("1", "exchange")),
        Unused("service_layout", "process", ("2",)),
    )


def test_defaults_and_what_is_read_are_not_mentioned(read: Read) -> None:
    assert unused_keys(read(f"{TWO}ssh_port=22\nimage=own\ncores=2\n").federation) == ()
