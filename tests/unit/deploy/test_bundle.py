"""What a bundle says of itself, with containers and without."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from fedparty.deploy.bundle import read_bundle

MakeBundle = Callable[..., Path]


def test_a_bundle_of_containers_names_them(make_bundle: MakeBundle) -> None:
    bundle = read_bundle(
        make_bundle(
            "confs-1",
            engine="docker",
            is_loopback=True,
            images={"proxy": "fedparty/proxy:1"},
            containers={"proxy": "confs-1_proxy_1"},
            published=[{"name": "proxy", "host": "127.0.0.1", "port": 9370}],
        )
    )
    assert bundle.is_loopback
    assert bundle.images == {"proxy": "fedparty/proxy:1"}
    assert bundle.containers == {"proxy": "confs-1_proxy_1"}
    assert bundle.published == (("127.0.0.1", 9370),)


def test_a_bundle_of_an_earlier_release_has_none(make_bundle: MakeBundle) -> None:
    folder = make_bundle("confs-1")
    assert "images" not in json.loads((folder / "bundle.json").read_text())
    bundle = read_bundle(folder)
    assert (bundle.images, bundle.containers, bundle.published, bundle.is_loopback) == ({}, {}, (), False)
