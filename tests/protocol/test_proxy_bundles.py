"""The proxies of the bundles that generate_config.py writes: real keys, certificates and revocation lists."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from envoy_validation import validate_envoy
from ports import free_port
from proxy_certificates import CertificateMaker
from proxy_echo import echoing
from proxy_party import DELIVER, ProxyHome, refusal, running

from fedparty import config, generate
from fedparty.types import party_uri

PARTIES = ("10000", "9999")


def write_bundles(folder: Path, engine: str, *, has_exchange: bool) -> Path:
    """Return an output folder with the bundles of two parties on this machine."""
    lines = [f"party_list=({' '.join(PARTIES)})", "party_ip_list=(127.0.0.1 127.0.0.1)", "federation_name=lab"]
    lines += ["exchange_ip=127.0.0.1", f"exchange_port={free_port()}"] if has_exchange else []
    for party in PARTIES:
        lines += [f"[{party}]", f"proxy_port={free_port()}", f"rest_port={free_port()}"]
    (folder / "parties.conf").write_text("\n".join(lines) + "\n")
    generate.run(config.load(folder / "parties.conf").federation, folder / "outputs", engine=engine)
    return folder / "outputs"


class BundleHome(ProxyHome):
    """A home with a bundle as it was generated."""

    def __init__(self, party: str, outputs: Path) -> None:
        super().__init__(party, CertificateMaker())
        self._bundle = outputs / f"confs-{party}"

    def write_bundle(self, folder: Path) -> None:
        shutil.copytree(self._bundle, folder)


@pytest.mark.parametrize("engine", ["process", "docker"])
@pytest.mark.parametrize("has_exchange", [False, True], ids=["direct", "exchange"])
def test_envoy_accepts_every_bundle(engine: str, has_exchange: bool, tmp_path: Path) -> None:
    outputs = write_bundles(tmp_path, engine, has_exchange=has_exchange)
    bundles = [path for path in outputs.glob("confs-*") if path.is_dir()]
    assert len(bundles) == 2 + has_exchange
    for bundle in bundles:
        validate_envoy(bundle)


@pytest.mark.parametrize("has_exchange", [False, True], ids=["direct", "exchange"])
async def test_parties_call_each_other(has_exchange: bool, tmp_path: Path) -> None:
    outputs = write_bundles(tmp_path, "process", has_exchange=has_exchange)
    homes = [BundleHome(party, outputs) for party in (*PARTIES, *(["exchange"] if has_exchange else []))]
    secrets = {party: (outputs / f"confs-{party}/secrets/proxy-secret").read_text().strip() for party in PARTIES}
    async with running(*homes), echoing(*homes[:2]):
        for home in homes[:2]:
            for to in PARTIES:
                seen = await home.call(to, DELIVER)
                assert seen["x-fedparty-from"] == party_uri("lab", home.party)
                assert seen["x-fedparty-proxy"] == secrets[to]
                assert int(seen["x-fedparty-serial"], 16) in serials(outputs)
            assert "[UNKNOWN_PARTY]" in await refusal(home.call("77"))


def serials(outputs: Path) -> set[int]:
    """Return the serial numbers of all certificates that were issued."""
    registry: Any = json.loads((outputs / "ca/registry.json").read_text())
    return {int(entry["serial"], 16) for entry in registry["certificates"]}
