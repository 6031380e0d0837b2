"""A bundle gets into a home whole, checked and private; a running party's files are replaced one by one."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from fedparty.deploy import install
from fedparty.deploy.bundle import Bundle, read_bundle
from fedparty.deploy.difference import Difference
from fedparty.deploy.home import Home
from fedparty.deploy.transport import LocalTransport
from fedparty.errors import BundleError, DeployError

MakeBundle = Callable[..., Path]
LOCAL = LocalTransport()


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "deployed" / "confs-10000")


async def compare(bundle: Bundle, home: Home) -> Difference:
    return await install.difference_from(LOCAL, bundle, home)


async def deploy(folder: Path, home: Home) -> Bundle:
    bundle = read_bundle(folder)
    await install.check_bundle(LOCAL, bundle, home)
    await install.prepare_folders(LOCAL, bundle, home)
    await install.install_bundle(LOCAL, bundle, home)
    return bundle


async def test_a_fresh_home_has_the_bundle_and_private_folders(make_bundle: MakeBundle, home: Home) -> None:
    bundle = await deploy(make_bundle("confs-10000"), home)
    assert not await compare(bundle, home)
    assert (home.bundle / "secrets/api-token").stat().st_mode & 0o777 == 0o600
    for folder in (home.path, home.bundle, home.data, home.logs):
        assert folder.stat().st_mode & 0o777 == 0o700
    assert home.pinned_fingerprint.read_text().strip() == bundle.fingerprint
    assert not home.staged.exists()


async def test_the_second_time_nothing_changes(make_bundle: MakeBundle, home: Home) -> None:
    folder = make_bundle("confs-10000")
    await deploy(folder, home)
    before = {path: path.stat().st_mtime_ns for path in home.path.rglob("*")}
    difference = await install.install_bundle(LOCAL, read_bundle(folder), home)
    assert not difference
    assert str(difference) == "unchanged"
    assert {path: path.stat().st_mtime_ns for path in home.path.rglob("*")} == before


async def test_live_files_are_replaced_in_the_folder_that_the_proxy_watches(
    make_bundle: MakeBundle, home: Home
) -> None:
    await deploy(make_bundle("confs-10000"), home)
    watched = (home.bundle / "proxy/live").stat().st_ino
    changed = {"proxy/live/rds_egress.json": "[]", "proxy/live/cds.json": "[]", "proxy/live/lds.json": "[1]"}
    difference = await compare(read_bundle(make_bundle("new", changed)), home)
    assert difference.live == ("proxy/live/cds.json", "proxy/live/rds_egress.json", "proxy/live/lds.json")
    assert difference.static == ("manifest.json", "manifest.sig")
    await deploy(home.path.parents[1] / "new", home)
    assert (home.bundle / "proxy/live").stat().st_ino == watched
    assert (home.bundle / "proxy/live/cds.json").read_text() == "[]"


async def test_files_that_are_no_longer_there_go(make_bundle: MakeBundle, home: Home) -> None:
    await deploy(make_bundle("confs-10000", {"proxy/live/more.json": "{}"}), home)
    await deploy(make_bundle("new"), home)
    assert not (home.bundle / "proxy/live/more.json").exists()


async def test_a_file_changed_in_the_home_is_healed(make_bundle: MakeBundle, home: Home) -> None:
    folder = make_bundle("confs-10000")
    bundle = await deploy(folder, home)
    (home.bundle / "flow/settings.json").write_text("{}")
    assert (await compare(bundle, home)).static == ("flow/settings.json",)
    await deploy(folder, home)
    assert not await compare(bundle, home)


async def test_a_changed_file_is_named_and_nothing_is_installed(make_bundle: MakeBundle, home: Home) -> None:
    folder = make_bundle("confs-10000")
    (folder / "flow/settings.json").write_text("{}")
    with pytest.raises(BundleError, match=r"flow/settings\.json"):
        await deploy(folder, home)
    assert not home.path.exists()


async def test_a_bundle_of_another_federation_is_refused(make_bundle: MakeBundle, home: Home) -> None:
    await deploy(make_bundle("confs-10000"), home)
    with pytest.raises(BundleError, match="belongs to the federation with the fingerprint") as raised:
        await deploy(make_bundle("foreign", ca="other-ca"), home)
    assert "--delete --purge" in raised.value.hint


async def test_a_bundle_that_lies_about_its_fingerprint_is_refused(make_bundle: MakeBundle, home: Home) -> None:
    with pytest.raises(BundleError):
        await deploy(make_bundle("confs-10000", fingerprint="SHA256:0000"), home)


async def test_live_files_alone_are_pushed(make_bundle: MakeBundle, home: Home) -> None:
    await deploy(make_bundle("confs-10000"), home)
    renewed = read_bundle(make_bundle("new", {"proxy/live/cds.json": "[]", "flow/settings.json": "{}"}))
    assert await install.push_live_files(LOCAL, renewed, home) == ("proxy/live/cds.json",)
    assert (home.bundle / "flow/settings.json").read_text() != "{}"
    assert not home.staged.exists()


async def test_what_an_interrupted_deploy_left_is_replaced(make_bundle: MakeBundle, home: Home) -> None:
    home.staged.mkdir(parents=True)
    (home.staged / "half").write_text("")
    bundle = await deploy(make_bundle("confs-10000"), home)
    assert not await compare(bundle, home)


async def test_a_link_in_a_bundle_is_refused(make_bundle: MakeBundle, home: Home) -> None:
    folder = make_bundle("confs-10000")
    (folder / "README.md").unlink()
    (folder / "README.md").symlink_to("/etc/hostname")
    with pytest.raises((BundleError, DeployError)):
        await deploy(folder, home)
    assert not home.bundle.exists()


def test_sockets_of_a_short_home_lie_in_it(tmp_path: Path) -> None:
    home = Home(Path("/srv/confs-10000"))
    assert home.short_run == home.run


async def test_a_long_home_gets_a_private_folder_under_a_short_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    home = Home(tmp_path / ("long" * 30) / "confs-10000")
    home.path.mkdir(parents=True)
    await install.make_run_folder(LOCAL, home)
    await install.make_run_folder(LOCAL, home)
    assert home.run.is_symlink()
    assert home.run.resolve().parent == tmp_path
    assert home.run.resolve().stat().st_mode & 0o777 == 0o700


async def test_a_folder_under_that_path_that_is_a_link_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    home = Home(tmp_path / ("long" * 30) / "confs-10000")
    home.path.mkdir(parents=True)
    home.short_run.symlink_to(tmp_path)
    with pytest.raises(DeployError, match="folder"):
        await install.make_run_folder(LOCAL, home)


def test_two_homes_have_two_short_folders() -> None:
    one, other = (Home(Path(f"/{'long/' * 30}{name}")).short_run for name in ("confs-1", "confs-2"))
    assert one != other


async def test_without_a_bundle_the_remedy_is_named(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="there is no such file") as raised:
        read_bundle(tmp_path / "confs-10000")
    assert raised.value.hint == "Run generate_config.py first."


@pytest.mark.parametrize("content", ["{", "[]", '{"party": "1"}'])
def test_an_unreadable_bundle_is_named(make_bundle: MakeBundle, content: str) -> None:
    folder = make_bundle("confs-10000")
    (folder / "bundle.json").write_text(content)
    with pytest.raises(BundleError, match="cannot be read"):
        read_bundle(folder)


def test_only_the_readers_of_a_static_file_start_anew(make_bundle: MakeBundle) -> None:
    one = read_bundle(make_bundle("one")).digests("1")
    changes = {
        "flow/settings.json": {"flow"},
        "proxy/bootstrap.json": {"proxy"},
        "secrets/api-token": {"flow"},
        "supervisord.conf": {"supervisord.conf"},
        "proxy/live/cds.json": set(),
        "README.md": set(),
    }
    for number, (path, readers) in enumerate(changes.items()):
        other = read_bundle(make_bundle(f"other-{number}", {path: "changed"})).digests("1")
        assert {name for name in one if one[name] != other[name]} == readers, path
    assert all(one[name] != digest for name, digest in read_bundle(make_bundle("one")).digests("2").items())


def test_together_the_python_services_are_one_program(make_bundle: MakeBundle) -> None:
    bundle = read_bundle(make_bundle("together", service_layout="together"))
    assert bundle.programs == ("proxy", "party")
    assert bundle.program_of("flow") == "party"
    assert set(bundle.digests("1")) == {"proxy", "party", "supervisord.conf"}
    assert read_bundle(make_bundle("exchange", services=["proxy"], service_layout="together")).programs == ("proxy",)
    shutil.rmtree(bundle.folder)


async def test_keys_that_the_party_keeps_to_itself_are_asked_for_before_anything_is_started(
    make_bundle: MakeBundle, home: Home
) -> None:
    bundle = read_bundle(make_bundle("confs-10000", own_keys=["keys/tls.key"]))
    with pytest.raises(DeployError, match="its own private keys are missing") as raised:
        await install.check_own_keys(LOCAL, bundle, home)
    assert str(home.keys / "tls.key") in raised.value.message
    home.keys.mkdir(parents=True)
    (home.keys / "tls.key").write_text("key")
    await install.check_own_keys(LOCAL, bundle, home)


@pytest.mark.parametrize(("text", "fault"), [("[]", "it is not a description of a bundle"), ("{}", "it lacks 'party'")])
def test_a_bundle_that_does_not_say_what_it_is_is_named(make_bundle: MakeBundle, text: str, fault: str) -> None:
    folder = make_bundle("confs-10000")
    (folder / "bundle.json").write_text(text)
    with pytest.raises(BundleError) as raised:
        read_bundle(folder)
    assert raised.value.message == f"{folder}/bundle.json: cannot be read: {fault}"
