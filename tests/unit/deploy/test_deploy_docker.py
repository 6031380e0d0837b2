"""The docker engine on this machine's files, with a Docker that answers from memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from fedparty.deploy import install
from fedparty.deploy.bundle import read_bundle
from fedparty.deploy.commands import Command
from fedparty.deploy.containers import compose, releases
from fedparty.deploy.containers.migration import migrate
from fedparty.deploy.containers.supply import Supply
from fedparty.deploy.engine import DockerEngine
from fedparty.deploy.home import Home
from fedparty.deploy.images.local import LocalImages
from fedparty.deploy.transport import Completed, LocalTransport
from fedparty.deploy.transport.holder import LOCK_FILE
from fedparty.errors import DeployError

MakeBundle = Callable[..., Path]

PARTY = "fedparty/party:1"
ANSWERS = {
    compose.ENGINE_FACTS: '{"ServerVersion": "24.0.7", "DockerRootDir": "/var/lib/docker"}',
    compose.inspect(["confs-10000_flow_1", "confs-10000_flow_2"]): "[]",
    compose.COMPOSE_VERSION: "2.26.1\n",
    compose.identities([PARTY]): f'["{PARTY}","example.org/party:stable"] sha256:1\n',
}


class Machine(LocalTransport):
    """This machine, with another Docker that has these builds of the image."""

    def __init__(self, *builds: str) -> None:
        self.builds = builds

    async def run(self, command: Command, **options: object) -> Completed:
        if command.argv == ("sh", "-c", "id -u; id -g; command -v docker"):
            command = Command(("sh", "-c", "id -u; id -g"))
        if command.argv[:2] == ("docker", "tag"):
            return Completed(command, 0 if command.argv[2] in self.builds else 1, "", "No such image")
        if command.argv[0] == "docker":
            return Completed(command, 0, ANSWERS[command.argv], "")
        if command.argv[0] == "env":
            return Completed(command, 0, "", "")
        return await super().run(command, **options)  # type: ignore[arg-type]


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def engine(tmp_path: Path, make_bundle: MakeBundle) -> DockerEngine:
    bundle = make_bundle(
        "confs-10000", engine="docker", images={"flow": PARTY}, containers={"flow": "confs-10000_flow_1"}
    )
    return DockerEngine(Machine(), "10000", bundle, Home(tmp_path / "dir" / "confs-10000"), Supply(LocalImages()))


async def test_the_folder_above_the_homes_stays_as_open_as_it_is(engine: DockerEngine) -> None:
    shared = engine.home.path.parent
    shared.mkdir()
    shared.chmod(0o755)
    async with engine.lock():
        pass
    assert shared.stat().st_mode & 0o777 == 0o755


async def test_a_folder_that_the_deploy_makes_is_private(engine: DockerEngine) -> None:
    async with engine.lock():
        pass
    assert engine.home.path.parent.stat().st_mode & 0o777 == 0o700


async def test_a_release_knows_its_own_images_and_not_what_else_they_are_called(engine: DockerEngine) -> None:
    engine.home.path.mkdir(parents=True)
    await install.install_bundle(engine.transport, read_bundle(engine.bundle().folder), engine.home)
    await engine.confirm()
    (images,) = engine.home.releases.glob("*.images")
    assert json.loads(images.read_bytes()) == {PARTY: "sha256:1"}


@pytest.mark.parametrize(
    ("builds", "said"),
    [(("sha256:0",), "Z, which is healthy"), ((), f"Z without its build of {PARTY}, for that is gone, which is")],
)
async def test_a_release_comes_back_with_its_builds_or_says_which_is_gone(
    make_bundle: MakeBundle, tmp_path: Path, builds: tuple[str, ...], said: str
) -> None:
    bundle = make_bundle("confs-10000", engine="docker", images={"flow": PARTY}, services=[])
    home = Home(tmp_path / "home")
    engine = DockerEngine(Machine(*builds), "10000", bundle, home, Supply(LocalImages()))
    home.path.mkdir(exist_ok=True)
    await install.install_bundle(engine.transport, engine.bundle(), home)
    await releases.keep(engine.transport, home, {PARTY: "sha256:0"})
    assert said in str(await engine.roll_back(1.0))


async def test_output_is_kept_whole_or_not_at_all(engine: DockerEngine, tmp_path: Path) -> None:
    await engine.place.save_output(("echo", "all"), tmp_path / "dump", timeout_s=10)
    assert (tmp_path / "dump").read_text() == "all\n"
    assert (tmp_path / "dump").stat().st_mode & 0o777 == 0o600
    with pytest.raises(DeployError, match="ended with 3"):
        await engine.place.save_output(("sh", "-c", "echo a part; exit 3"), tmp_path / "cut", timeout_s=10)
    assert not [name for name in names_in(tmp_path) if name.startswith("cut")]


async def test_a_lock_file_that_is_a_link_is_not_followed(engine: DockerEngine, tmp_path: Path) -> None:
    engine.home.path.parent.mkdir()
    (tmp_path / "precious").write_text("kept")
    (engine.home.path.parent / LOCK_FILE).symlink_to(tmp_path / "precious")
    with pytest.raises(DeployError, match="symbolic links"):
        async with engine.lock():
            pytest.fail("locked")
    assert (tmp_path / "precious").read_text() == "kept"


async def test_a_purge_leaves_the_keys_that_the_party_brought_and_nothing_else(engine: DockerEngine) -> None:
    for name in ("keys", "bundle", ".restore", "backups"):
        (engine.home.path / name).mkdir(parents=True)
    (engine.home.path / "keys/signing.key").write_text("own")
    (engine.home.path / "images-1.tar.part").touch()
    await install.empty_home(engine.transport, engine.home)
    assert names_in(engine.home.path) == ["keys"]


async def test_a_database_that_does_not_tell_its_revision_is_an_error_in_words(
    engine: DockerEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def docker(argv: Sequence[str], **options: object) -> Completed:
        return Completed(Command(tuple(argv)), 0, "Segmentation fault\n", "")

    monkeypatch.setattr(engine.place, "docker", docker)
    with pytest.raises(DeployError, match="revision was not told: Segmentation fault"):
        await migrate(engine.place, engine.bundle())


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("fate@192.0.2.7:22", ("ssh", "fate@192.0.2.7")),
        ("fate@192.0.2.7:2222", ("ssh", "-p", "2222", "fate@192.0.2.7")),
        ("fate@2001:db8::7:22", ("ssh", "fate@2001:db8::7")),
    ],
)
def test_the_line_to_copy_is_one_that_ssh_takes(tmp_path: Path, place: str, words: tuple[str, ...]) -> None:
    class Remote(Machine):
        is_local = False

    Remote.place = place
    engine = DockerEngine(Remote(), "10000", tmp_path, Home(tmp_path / "confs-10000"), Supply(LocalImages()))
    assert engine.entry == (*words, "docker", "exec", "confs-10000_flow_1")
