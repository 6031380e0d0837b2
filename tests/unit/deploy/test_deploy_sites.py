"""From parties.conf and the words of the command line to engines, or to what this release cannot do."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from fedparty.config import Federation, load
from fedparty.deploy.remembered import forget
from fedparty.deploy.sites import Machines, Selection, deployed, home_of
from fedparty.deploy.sites import select as select_by
from fedparty.errors import ConfigurationError

MakeBundle = Callable[..., Path]

OUTPUTS = Path("outputs")


def federation(folder: Path, text: str = "", addresses: str = "127.0.0.1 127.0.0.1") -> Federation:
    conf = folder / "parties.conf"
    conf.write_text(f"party_list=(10000 9999)\nparty_ip_list=({addresses})\n{text}\n")
    return load(conf).federation


def select(conf: Federation, targets: list[str], outputs: Path, **how: object) -> Selection:
    return select_by(conf, targets, Machines(outputs), outputs, **how)


def names_of(selection: Selection) -> list[str]:
    return [engine.name for engine in selection.engines]


def test_all_means_every_party_and_the_exchange(tmp_path: Path) -> None:
    selection = select(federation(tmp_path, "exchange_ip=127.0.0.1"), ["all"], OUTPUTS, engine="process")
    assert [engine.party for engine in selection.engines] == ["10000", "9999", "exchange"]
    assert selection.notes == ()


def test_each_party_is_asked_once_in_the_order_given_and_the_others_are_reported(tmp_path: Path) -> None:
    selection = select(federation(tmp_path), ["9999", "9999"], OUTPUTS, engine="process")
    assert [engine.party for engine in selection.engines] == ["9999"]
    assert selection.notes == ("Not asked: 10000.",)


def test_an_unknown_party_is_named_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"9998 is not in parties\.conf") as raised:
        select(federation(tmp_path), ["9998"], OUTPUTS, engine="process")
    assert raised.value.hint == "Known are: 10000, 9999, all."


def test_the_engine_is_the_flag_then_the_key_then_docker(tmp_path: Path) -> None:
    assert names_of(select(federation(tmp_path), ["9999"], OUTPUTS)) == ["docker"]
    assert names_of(select(federation(tmp_path, "engine=process"), ["9999"], OUTPUTS)) == ["process"]
    assert names_of(select(federation(tmp_path, "engine=process"), ["9999"], OUTPUTS, engine="docker")) == ["docker"]


def test_another_machine_has_containers_only(tmp_path: Path) -> None:
    remote = federation(tmp_path, addresses="127.0.0.1 192.0.2.7")
    with pytest.raises(ConfigurationError, match=r"party 9999: 192\.0\.2\.7 is another machine"):
        select(remote, ["all"], OUTPUTS, engine="process")
    assert select(remote, ["10000"], OUTPUTS, engine="process").engines
    engine = select(remote, ["9999"], OUTPUTS).engines[0]
    assert not engine.transport.is_local
    assert str(engine.home.path) == "/data/projects/fedparty/confs-9999"


def test_parties_of_one_machine_share_the_way_to_it(tmp_path: Path) -> None:
    engines = select(federation(tmp_path, addresses="192.0.2.7 192.0.2.7"), ["all"], OUTPUTS).engines
    assert engines[0].transport is engines[1].transport


def test_the_neighbours_of_a_new_party_learn_the_way_to_it(tmp_path: Path) -> None:
    selection = select(federation(tmp_path, addresses="127.0.0.1 192.0.2.7"), ["9999"], OUTPUTS)
    assert [engine.party for engine in selection.neighbours] == ["10000"]


def test_behind_an_exchange_it_alone_learns_the_way(tmp_path: Path) -> None:
    selection = select(federation(tmp_path, "exchange_ip=192.0.2.9"), ["9999"], OUTPUTS)
    assert [engine.party for engine in selection.neighbours] == ["exchange"]


def test_a_party_that_its_own_people_deploy_is_left_out_with_a_note(tmp_path: Path) -> None:
    manual = federation(tmp_path, "[9999]\nmanaged=manual", addresses="127.0.0.1 192.0.2.7")
    selection = select(manual, ["all"], OUTPUTS, engine="process")
    assert [engine.party for engine in selection.engines] == ["10000"]
    assert selection.notes == ("9999 is managed=manual: its own people look after it.",)


def test_homes_lie_in_process_dir_or_in_the_outputs(tmp_path: Path) -> None:
    plain, chosen = federation(tmp_path), federation(tmp_path, f"process_dir={tmp_path}/homes")
    assert home_of(plain.parties[0], tmp_path).path == tmp_path / "deployed" / "confs-10000"
    assert home_of(chosen.parties[0], tmp_path).path == tmp_path / "homes" / "confs-10000"


def test_only_parties_with_a_home_are_deployed_as_processes(tmp_path: Path) -> None:
    (tmp_path / "deployed" / "confs-9999" / "bundle").mkdir(parents=True)
    found = deployed(federation(tmp_path, "engine=process"), Machines(tmp_path), tmp_path)
    assert [engine.party for engine in found] == ["9999"]


def test_what_is_deployed_is_looked_after_by_the_engine_that_runs_it(tmp_path: Path) -> None:
    (tmp_path / "deployed" / "confs-9999" / "bundle").mkdir(parents=True)
    assert names_of(select(federation(tmp_path), ["all"], tmp_path, is_deployed=True)) == ["docker", "process"]
    assert names_of(select(federation(tmp_path), ["9999"], tmp_path)) == ["docker"]


def test_what_is_deployed_no_more_has_the_engine_of_its_bundle(tmp_path: Path, make_bundle: MakeBundle) -> None:
    make_bundle("confs-10000")
    assert names_of(select(federation(tmp_path), ["10000"], tmp_path, is_deployed=True)) == ["process"]
    assert names_of(select(federation(tmp_path), ["10000"], tmp_path)) == ["docker"]


def test_a_party_that_was_removed_can_still_be_stopped_where_it_is_deployed(tmp_path: Path) -> None:
    (tmp_path / "deployed" / "confs-9998" / "bundle").mkdir(parents=True)
    conf = federation(tmp_path, "engine=process")
    named = select(conf, ["9998"], tmp_path, is_deployed=True)
    assert [engine.party for engine in named.engines] == ["9998"]
    assert len(select(conf, ["all"], tmp_path, is_deployed=True).engines) == 2
    everything = select(conf, ["all"], tmp_path, is_deployed=True, is_left_over_meant=True)
    assert [engine.party for engine in everything.engines] == ["10000", "9999", "9998"]
    with pytest.raises(ConfigurationError, match=r"9998 is not in parties\.conf"):
        select(conf, ["9998"], tmp_path)


def test_a_removed_party_that_still_runs_is_reported(tmp_path: Path) -> None:
    home = tmp_path / "deployed" / "confs-9998"
    (home / "bundle").mkdir(parents=True)
    running = subprocess.Popen(
        ["cat"], stdin=subprocess.PIPE, env={"FEDPARTY_HOME": str(home), "PATH": "/usr/bin:/bin"}
    )
    try:
        notes = select(federation(tmp_path), ["all"], tmp_path, engine="process").notes
    finally:
        running.communicate()
    assert notes == (
        "9998 is not in parties.conf any more and still runs here; to stop it: python deploy.py 9998 --delete",
    )


def test_asking_for_nothing_but_what_its_own_people_deploy_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="9999: managed=manual") as raised:
        select(federation(tmp_path, "[9999]\nmanaged=manual"), ["9999"], OUTPUTS, engine="process")
    assert "outputs/confs-9999.tar.gz" in raised.value.hint


def test_containers_of_a_removed_party_can_still_be_removed(tmp_path: Path) -> None:
    before = federation(tmp_path, addresses="127.0.0.1 192.0.2.7")
    select(before, ["all"], tmp_path).remember(tmp_path)
    after = tmp_path / "after"
    after.mkdir()
    (after / "parties.conf").write_text("party_list=(10000)\nparty_ip_list=(127.0.0.1)\n")
    conf = load(after / "parties.conf").federation
    assert "9999 is not in parties.conf any more and was deployed at" in select(conf, ["all"], tmp_path).notes[0]
    (engine,) = select(conf, ["9999"], tmp_path, is_deployed=True).engines
    assert (engine.name, str(engine.home.path)) == ("docker", "/data/projects/fedparty/confs-9999")
    assert "192.0.2.7" in engine.transport.place
    forget(tmp_path, "9999")
    assert select(conf, ["all"], tmp_path).notes == ()


def test_a_damaged_memory_is_named(tmp_path: Path) -> None:
    path = tmp_path / "parties" / "9998" / "machine.json"
    path.parent.mkdir(parents=True)
    path.write_text("{")
    with pytest.raises(ConfigurationError, match=r"machine\.json: cannot be read"):
        select(federation(tmp_path), ["all"], tmp_path)
