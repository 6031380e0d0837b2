"""What a lab is made of, before anything of it runs."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from fedparty.config import load
from fedparty.deploy import processes
from fedparty.deploy.lab import Lab
from fedparty.deploy.lab_conf import Shape, free_ports, new_conf
from fedparty.deploy.report import Silence
from fedparty.errors import ConfigurationError, DeployError


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path / "lab")


def make(lab: Lab, **shape: object) -> None:
    lab._write(new_conf(Shape(**shape)))  # type: ignore[arg-type]


def up(lab: Lab, **shape: object) -> None:
    asyncio.run(lab.up(Shape(**shape), Silence()))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("n", "chosen", "layout"), [(2, None, "separate"), (3, None, "together"), (3, False, "separate")]
)
def test_a_new_lab(lab: Lab, n: int, chosen: bool | None, layout: str) -> None:
    make(lab, parties=n, is_together=chosen)
    federation = load(lab.conf).federation
    assert [party.id for party in federation.parties] == [str(10000 - index) for index in range(n)]
    assert {(party.engine, party.address, party.service_layout) for party in federation.parties} == {
        ("process", "127.0.0.1", layout)
    }
    ports = [port for party in federation.parties for port in (party.proxy_port, party.rest_port)]
    assert len(set(ports)) == 2 * n


def test_an_exchange_has_a_port_of_its_own(lab: Lab) -> None:
    make(lab, has_exchange=True, base_port=21000)
    federation = load(lab.conf).federation
    assert federation.exchange is not None
    assert federation.exchange.port not in {party.proxy_port for party in federation.parties}


def test_ports_that_are_taken_are_left_out() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert next(free_ports(port, frozenset({port + 1}))) > port + 1


def test_no_port_is_left() -> None:
    with pytest.raises(DeployError, match="no port from 65535 on"):
        list(free_ports(65535, frozenset({65535})))


def test_a_party_that_comes_in_gets_an_id_that_nobody_had(lab: Lab) -> None:
    make(lab)
    (lab.outputs / "parties" / "9998").mkdir(parents=True)
    assert [lab._next_free(), lab._next_free(1)] == ["9997", "9996"]


def test_many_parties_save_memory_though_the_first_two_did_not(lab: Lab) -> None:
    make(lab)
    lab._put_in(["9998", "9997"])
    layouts = {party.id: party.service_layout for party in load(lab.conf).federation.parties}
    assert layouts == {"10000": "separate", "9999": "separate", "9998": "together", "9997": "together"}


def test_fewer_parties_must_be_meant(lab: Lab) -> None:
    make(lab, parties=3)
    with pytest.raises(ConfigurationError, match="revoke and stop 9999, 9998") as found:
        up(lab, parties=1)
    assert found.value.hint.endswith(f"fedparty lab up -n 1 --remove --dir {lab.folder}")


@pytest.mark.parametrize("shape", [{"has_exchange": True}, {"is_together": True}, {"base_port": 9000}])
def test_what_only_a_new_lab_can_be_asked_for(lab: Lab, shape: dict[str, object]) -> None:
    make(lab)
    with pytest.raises(ConfigurationError, match="is there already"):
        up(lab, **shape)


def test_a_folder_of_something_else_is_left_alone(lab: Lab) -> None:
    lab.folder.mkdir()
    (lab.folder / "thesis.tex").touch()
    with pytest.raises(ConfigurationError, match=r"is not a lab: it has thesis\.tex"):
        up(lab)
    assert [path.name for path in lab.folder.iterdir()] == ["thesis.tex"]


def test_a_parties_conf_for_containers_is_no_labs(lab: Lab) -> None:
    lab.folder.mkdir()
    lab.conf.write_text("party_list=(10000)\nparty_ip_list=(192.168.0.1)\n")
    with pytest.raises(ConfigurationError, match="engine=docker"):
        up(lab)


def test_somebody_else_is_at_work_on_it(lab: Lab) -> None:
    make(lab)

    async def both() -> None:
        async with lab._alone():
            await lab.up(Shape(), Silence())

    with pytest.raises(DeployError, match="is deploying here since"):
        asyncio.run(both())


def test_too_few_file_watchers_are_named_before_anything_starts(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "watchers_left", lambda: 21)
    with pytest.raises(DeployError, match="2 parties need 22 file watchers, and this user has 21 left"):
        up(lab)
    assert not (lab.outputs / "deployed").exists()


def test_the_last_party_stays(lab: Lab) -> None:
    make(lab, parties=1)
    with pytest.raises(ConfigurationError, match="10000 is the last of the lab"):
        asyncio.run(lab.remove("10000", Silence(), is_purged=False))
