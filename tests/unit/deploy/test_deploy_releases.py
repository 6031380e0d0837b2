"""A release that was healthy is kept, and comes back whole; who was revoked since stays revoked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path, PurePath

import pytest

from fedparty.deploy import install
from fedparty.deploy.bundle import read_bundle
from fedparty.deploy.containers import releases
from fedparty.deploy.home import Home
from fedparty.deploy.transport import LocalTransport

MakeBundle = Callable[..., Path]
LOCAL = LocalTransport()
IMAGES = {"fedparty/party:1": "sha256:1"}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    found = Home(tmp_path / "confs-10000")
    found.path.mkdir()
    return found


async def put(folder: Path, home: Home) -> None:
    await install.install_bundle(LOCAL, read_bundle(folder), home)


async def test_a_kept_release_comes_back_in_the_same_folder(make_bundle: MakeBundle, home: Home) -> None:
    await put(make_bundle("good"), home)
    name = await releases.keep(LOCAL, home, IMAGES)
    good, watched = await LOCAL.listing(home.bundle), home.bundle.stat().st_ino
    assert not await releases.differs_from_newest(LOCAL, home, IMAGES)
    await put(make_bundle("bad", {"flow/settings.json": "{}", "flow/more.json": "{}"}), home)
    assert await releases.differs_from_newest(LOCAL, home, IMAGES)
    assert await releases.take_back(LOCAL, home) == name
    assert await LOCAL.listing(home.bundle) == good
    assert home.bundle.stat().st_ino == watched
    assert not home.staged.exists()


async def test_who_was_revoked_stays_revoked(make_bundle: MakeBundle, home: Home) -> None:
    trust = "proxy/live/sds_trust.json"
    await put(make_bundle("good", {trust: "nobody is revoked"}), home)
    await releases.keep(LOCAL, home, IMAGES)
    await put(make_bundle("bad", {trust: "9998 is revoked", "flow/settings.json": "{}"}), home)
    await releases.take_back(LOCAL, home)
    assert (home.bundle / trust).read_text() == "9998 is revoked"


async def test_ways_that_were_pushed_since_are_not_lost(make_bundle: MakeBundle, home: Home) -> None:
    ways = "proxy/live/cds.json"
    await put(make_bundle("good"), home)
    await releases.keep(LOCAL, home, IMAGES)
    pushed = await install.push_live_files(LOCAL, read_bundle(make_bundle("new", {ways: "[9998]"})), home)
    await releases.update_newest(LOCAL, home, pushed)
    await put(make_bundle("bad", {ways: "[9998]", "flow/settings.json": "{}"}), home)
    await releases.take_back(LOCAL, home)
    assert (home.bundle / ways).read_text() == "[9998]"


async def test_the_same_bundle_is_kept_once_and_three_releases_stay(make_bundle: MakeBundle, home: Home) -> None:
    await put(make_bundle("first"), home)
    assert await releases.keep(LOCAL, home, IMAGES) == await releases.keep(LOCAL, home, IMAGES)
    for number in range(4):
        await put(make_bundle(f"next{number}", {"flow/settings.json": str(number)}), home)
        await releases.keep(LOCAL, home, IMAGES)
    assert len(list(home.releases.iterdir())) == 2 * 3


async def test_another_build_under_the_same_name_is_another_release(make_bundle: MakeBundle, home: Home) -> None:
    await put(make_bundle("first"), home)
    name = await releases.keep(LOCAL, home, IMAGES)
    rebuilt = {"fedparty/party:1": "sha256:2"}
    assert await releases.differs_from_newest(LOCAL, home, rebuilt)
    assert await releases.images_of(LOCAL, home, name) == IMAGES
    assert await releases.keep(LOCAL, home, rebuilt) != name


async def test_nothing_was_ever_healthy(make_bundle: MakeBundle, home: Home) -> None:
    await put(make_bundle("first"), home)
    assert await releases.newest_release(LOCAL, home) is None
    assert not await releases.differs_from_newest(LOCAL, home, IMAGES)


async def test_the_newest_release_is_the_last_one_whatever_clock_the_one_before_had(
    make_bundle: MakeBundle, home: Home
) -> None:
    await put(make_bundle("first"), home)
    early = await releases.keep(LOCAL, home, IMAGES)
    late = "29991231T235959.000000Z"
    (home.releases / early).rename(home.releases / late)
    (home.releases / f"{early}.images").rename(home.releases / f"{late}.images")
    await put(make_bundle("second", {"flow/settings.json": "2"}), home)
    name = await releases.keep(LOCAL, home, IMAGES)
    assert name > late
    assert await releases.newest_release(LOCAL, home) == name


class Watched(LocalTransport):
    """Remembers in which order files are put in place."""

    def __init__(self) -> None:
        self.placed: list[str] = []

    async def replace(self, source: PurePath, target: PurePath, names: Sequence[str]) -> None:
        self.placed += names
        await super().replace(source, target, names)


async def test_a_running_proxy_gets_clusters_before_routes_and_listeners_last(
    make_bundle: MakeBundle, home: Home
) -> None:
    live = [f"proxy/live/{name}.json" for name in ("cds", "rds_egress", "lds")]
    await put(make_bundle("good"), home)
    await releases.keep(LOCAL, home, IMAGES)
    await put(make_bundle("bad", dict.fromkeys(live, "[]")), home)
    watched = Watched()
    await releases.take_back(watched, home)
    assert [path for path in watched.placed if path in live] == live
