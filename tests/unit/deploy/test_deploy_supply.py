"""Images go where they are missing, once, and nowhere else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from fedparty.deploy.commands import Command
from fedparty.deploy.containers.supply import Missing, Supply
from fedparty.deploy.transport.base import Completed, OnProgress
from fedparty.errors import DeployError

PROXY, PARTY = "fedparty/proxy:1", "fedparty/party:1"


class Images:
    """The operator's images, in memory."""

    def __init__(self, images: Mapping[str, str]) -> None:
        self._images = images
        self.saved: list[Sequence[str]] = []

    def identities(self, names: Sequence[str]) -> Mapping[str, str]:
        return {name: self._images[name] for name in names if name in self._images}

    def size(self, names: Sequence[str]) -> int:
        return 100 * len(names)

    def save(self, names: Sequence[str], file: Path) -> None:
        self.saved.append(names)
        file.write_bytes(b"images")


class Machine:
    """A machine with these images; what is loaded there is there afterwards."""

    place, is_local = "192.0.2.7", False

    def __init__(self, images: Mapping[str, str] | None = None) -> None:
        self.images = dict(images or {})
        self.commands: list[str] = []
        self.archives: list[str] = []

    async def run(self, command: Command, *, timeout_s: float | None = None) -> Completed:
        self.commands.append(str(command))
        if "inspect" not in command.argv:
            return Completed(command, 0, "", "")
        known = self.images | {identity: identity for identity in self.images.values()}
        names = {identity: name for name, identity in self.images.items()}
        asked = dict.fromkeys(known[word] for word in command.argv if word in known)
        lines = [f'["{names[identity]}"] {identity}\n' for identity in asked]
        return Completed(command, 0, "".join(lines), "")

    async def send_file(self, source: Path, target: Path, *, on_progress: OnProgress | None = None) -> None:
        assert source.read_bytes() == b"images"  # noqa: ASYNC240  # a few bytes in a test
        self.archives.append(str(target))
        assert on_progress
        for done in (0, 3, 6):
            on_progress(done, 6)

    async def remove(self, path: Path) -> None:
        self.archives.remove(str(path))


async def find(supply: Supply, machine: Machine, *, pulled: Sequence[str] = ()) -> Missing:
    return await supply.find_missing(machine, (PROXY, PARTY), pulled=pulled, is_root_needed=False)


async def test_nothing_is_missing_where_the_same_builds_are() -> None:
    both = {PROXY: "sha256:1", PARTY: "sha256:2"}
    assert not await find(Supply(Images(both)), Machine(both))


async def test_another_build_under_the_same_name_is_sent() -> None:
    there = {PROXY: "sha256:1", PARTY: "sha256:old"}
    missing = await find(Supply(Images({PROXY: "sha256:1", PARTY: "sha256:new"})), Machine(there))
    assert dict(missing.sent) == {PARTY: "sha256:new"}


async def test_what_is_there_under_another_name_is_named_and_not_sent() -> None:
    machine, supply = Machine({"fedparty/proxy:0": "sha256:1", PARTY: "sha256:2"}), Supply(Images({PROXY: "sha256:1"}))
    missing = await find(supply, machine)
    assert (dict(missing.named), dict(missing.sent)) == ({PROXY: "sha256:1"}, {})
    await supply.bring(machine, missing, Path("/srv"), lambda text: None, is_root_needed=False)
    assert machine.commands[-1] == f"docker tag sha256:1 {PROXY}"


async def test_the_target_keeps_what_the_operator_does_not_have() -> None:
    assert not await find(Supply(Images({})), Machine({PROXY: "sha256:1", PARTY: "sha256:2"}))


async def test_what_a_registry_has_is_pulled_there() -> None:
    machine = Machine({PROXY: "sha256:1"})
    supply = Supply(Images({}))
    missing = await find(supply, machine, pulled=(PROXY, PARTY))
    assert missing.pulled == (PARTY,)
    await supply.bring(machine, missing, Path("/srv"), lambda text: None, is_root_needed=False)
    assert machine.commands[-1] == f"docker pull --quiet {PARTY}"


async def test_a_registry_goes_before_the_operators_own_builds() -> None:
    machine = Machine({PROXY: "sha256:old"})
    supply = Supply(Images({PROXY: "sha256:1", PARTY: "sha256:2"}))
    missing = await find(supply, machine, pulled=(PROXY, PARTY))
    assert missing == Missing(pulled=(PROXY, PARTY))


async def test_what_no_registry_has_is_not_looked_for_in_one() -> None:
    with pytest.raises(DeployError, match=r"there is no image fedparty/party:1, neither there"):
        await find(Supply(Images({})), Machine(), pulled=(PROXY,))


async def test_what_is_nowhere_is_an_error_with_the_way_to_make_it() -> None:
    with pytest.raises(DeployError, match=r"192\.0\.2\.7: there is no image fedparty/party:1") as raised:
        await find(Supply(Images({PROXY: "sha256:1"})), Machine())
    assert "make images" in raised.value.hint


async def test_several_machines_get_the_one_archive_and_keep_nothing_of_it() -> None:
    images, machines, told = Images({PROXY: "sha256:1", PARTY: "sha256:2"}), [Machine(), Machine()], []
    supply = Supply(images)
    for machine in machines:
        missing = await find(supply, machine)
        await supply.bring(machine, missing, Path("/srv/home"), told.append, is_root_needed=False)
        assert machine.archives == []
        assert "docker load" in machine.commands[-1]
    supply.close()
    assert images.saved == [(PARTY, PROXY)]
    assert any("50 % of" in line for line in told)
