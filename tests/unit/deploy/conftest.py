"""Signed bundles of a real authority, small enough to read."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from fedparty.pki import manifest
from fedparty.pki.authority import Authority
from fedparty.pki.manifest import FileEntry

MakeBundle = Callable[..., Path]

FILES: Mapping[str, str] = {
    "README.md": "read me",
    "supervisord.conf": "[supervisord]",
    "proxy/bootstrap.json": "{}",
    "proxy/live/lds.json": '{"resources": []}',
    "proxy/live/cds.json": "{}",
    "proxy/live/rds_egress.json": "{}",
    "flow/settings.json": '{"operations": "unix:run/flow-operations.sock"}',
    "worker/settings.json": '{"operations": "unix:run/worker-operations.sock"}',
    "secrets/api-token": "token",
}


@pytest.fixture
def make_bundle(tmp_path: Path) -> MakeBundle:
    """Return a function that writes a signed bundle, e.g. ``make_bundle("confs-1", {"README.md": "other"})``."""

    def make(name: str, files: Mapping[str, str | None] | None = None, *, ca: str = "ca", **about: object) -> Path:
        authority = Authority.open_or_create(tmp_path / ca, "fedparty")
        folder = tmp_path / name
        described = {
            "format": 1, "party": "10000", "federation": "fedparty", "fingerprint": authority.fingerprint,
            "engine": "process", "services": ["proxy", "flow", "worker"], "service_layout": "separate",
            "address": "127.0.0.1", "proxy_port": 9370, "rest_url": None, **about,
        }  # fmt: skip
        contents = {**FILES, **(files or {}), "bundle.json": json.dumps(described)}
        contents["ca/ca.crt"] = authority.certificate_pem.decode()
        kept = {path: text.encode() for path, text in contents.items() if text is not None}
        _write(folder, kept, authority)
        return folder

    return make


def _write(folder: Path, contents: Mapping[str, bytes], authority: Authority) -> None:
    entries = {path: FileEntry.of(text, mode=_mode(path), is_live="/live/" in path) for path, text in contents.items()}
    listed = manifest.build(entries, party="10000", federation="fedparty")
    for path, content in {**contents, "manifest.json": listed, "manifest.sig": authority.sign(listed)}.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
        (folder / path).chmod(_mode(path))


def _mode(path: str) -> int:
    return 0o600 if path.startswith("secrets/") else 0o644
