"""A federation on machines, driven as a user drives it: parties.conf and the two programs of the README.

Owns the files of one federation and what runs on the machines for it. Does not own the machines (`machines`) nor what
is expected.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from machines import Machine, Machines, container

REPOSITORY = Path(__file__).resolve().parents[2]
EXCHANGE = "exchange"
FOLDER = "/data/projects/fedparty"
TAG = "fpt"
IMAGES = ("proxy", "party", "mysql")
SERVICES = ("proxy", "federation", "flow", "worker", "mysql")
SUCCESS = "success to calculate secure_sum, it is 2000.0"


def image(name: str, tag: str = TAG) -> str:
    """Return the full name of an image of the tests."""
    return f"fedparty/{name}:{tag}"


@dataclass
class Deployment:
    """Parties on machines, their files in one folder.

    Parameters
    ----------
    folder
        Where parties.conf and outputs/ lie.
    machines
        All machines, and the deployer's home.
    places
        Which machine each party, and the exchange, is on; the guest first.
    options
        Further keys of parties.conf; None: not even the one that the tests give.
    sections
        Keys of one party alone.
    further_environment
        Variables for the programs.
    """

    folder: Path
    machines: Machines
    places: dict[str, Machine]
    options: dict[str, str | None] = field(default_factory=dict)
    sections: dict[str, dict[str, str]] = field(default_factory=dict)
    further_environment: dict[str, str] = field(default_factory=dict)

    @property
    def outputs(self) -> Path:
        return self.folder / "outputs"

    @property
    def parties(self) -> list[str]:
        return [name for name in self.places if name != EXCHANGE]

    @property
    def environment(self) -> dict[str, str]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("FEDPARTY_", "SSH_"))}
        return kept | {"HOME": str(self.machines.home), "COLUMNS": "200"} | self.further_environment

    @property
    def where(self) -> list[str]:
        """The words that tell a program where parties.conf and outputs/ are."""
        return ["-c", str(self.folder / "parties.conf"), "-o", str(self.outputs)]

    def write_configuration(self) -> None:
        """Write parties.conf."""
        addresses = " ".join(self.places[party].address for party in self.parties)
        common: dict[str, str | None] = {"user": "root", "ssh_key": str(self.machines.key), "dir": FOLDER, "tag": TAG}
        common |= self.options
        lines = [f"partylist=({' '.join(self.parties)})", f"partyiplist=({addresses})"]
        if EXCHANGE in self.places:
            lines.append(f"exchangeip={self.places[EXCHANGE].address}")
        lines += [f"{key}={value}" for key, value in common.items() if value is not None]
        for party, keys in self.sections.items():
            lines += [f"[{party}]", *(f"{key}={value}" for key, value in keys.items())]
        (self.folder / "parties.conf").write_text("\n".join(lines) + "\n")

    def run(self, *argv: str, timeout_s: float = 300) -> subprocess.CompletedProcess[str]:
        """Run a program of the repository; its stdout and stderr come back as one text."""
        return subprocess.run(
            [sys.executable, *argv],
            cwd=REPOSITORY,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout_s,
        )

    def generate(self) -> None:
        """Write parties.conf and the bundles."""
        self.write_configuration()
        done = self.run("generate_config.py", *self.where)
        assert done.returncode == 0, done.stdout

    def deploy_command(self, *words: str) -> list[str]:
        accepted = [] if "--strict" in words else ["--accept-host-key"]
        return ["deploy.py", *(word for word in words if word != "--strict"), *accepted, *self.where]

    def deploy(self, *words: str, timeout_s: float = 300) -> subprocess.CompletedProcess[str]:
        """Run deploy.py; machines met for the first time are believed, unless ``--strict`` is among the words."""
        return self.run(*self.deploy_command(*words), timeout_s=timeout_s)

    def start_deploy(self, *words: str) -> subprocess.Popen[str]:
        """Start deploy.py and leave it running; read its lines from ``stdout``."""
        return subprocess.Popen(
            [sys.executable, "-u", *self.deploy_command(*words)],
            cwd=REPOSITORY,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def images(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run ``deploy.py images``."""
        return self.run("deploy.py", "images", *words, *self.where[:2], timeout_s=600)

    def pki(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self.run("-m", "fedparty", "pki", *words, *self.where)

    def up(self, *words: str) -> None:
        """Generate, start and verify."""
        self.generate()
        done = self.deploy("all", *words)
        assert done.returncode == 0, done.stdout

    def status(self) -> dict[str, Any]:
        """Return what ``status --output json`` says."""
        done = self.deploy("status", "--output", "json")
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def states(self) -> dict[tuple[str, str], str]:
        """Return the state of each service of each party."""
        return {
            (party["party"], service["service"]): service["state"]
            for party in self.status()["parties"]
            for service in party["services"]
        }

    def container_states(self) -> dict[str, tuple[str, str, int]]:
        """Return id, start and count of restarts of every container of the federation."""
        found: dict[str, tuple[str, str, int]] = {}
        for machine in {machine.name: machine for machine in self.places.values()}.values():
            found |= machine.containers()
        return found

    def toy(self, *words: str, guest: str | None = None, python: bool = True) -> subprocess.CompletedProcess[str]:
        """Run the toy example in the guest's flow container, as people with a shell on the machine do."""
        party = guest or words[0]
        interpreter = ["python"] if python else []
        return self.places[party].run(
            "docker", "exec", container(party, "flow"), *interpreter, "run_toy_example.py", *words, is_checked=False
        )

    def start_toy(self, *words: str) -> subprocess.Popen[str]:
        """Start the toy example and leave it running; read its lines from ``stdout``."""
        flow = container(words[0], "flow")
        return self.places[words[0]].popen("docker", "exec", flow, "python", "-u", "run_toy_example.py", *words)

    def wait_healthy(self, party: str) -> None:
        """Return when every service of a party answers."""
        services = ["proxy"] if party == EXCHANGE else list(SERVICES)
        for service in services:
            self.places[party].docker("exec", container(party, service), "healthy", "--wait", "60")

    def proxy_port(self, party: str) -> int:
        """Return the one port that others reach a party by."""
        return int(self.bundle_facts(party)["proxy_port"])

    def bundle_facts(self, party: str) -> dict[str, Any]:
        facts: dict[str, Any] = json.loads((self.outputs / f"confs-{party}" / "bundle.json").read_text())
        return facts

    def clear(self) -> None:
        """Remove whatever a federation left on the machines, by force."""
        self.machines.for_each(clear)


def clear(machine: Machine) -> None:
    """Remove every container, volume, network and file of fedparty from a machine."""
    script = f"""
        docker ps --all --quiet | xargs -r docker rm --force --volumes >/dev/null
        docker volume ls --quiet | xargs -r docker volume rm >/dev/null
        docker network ls --quiet --filter type=custom | xargs -r docker network rm >/dev/null
        rm -rf {FOLDER}"""
    machine.run("sh", "-c", script)


@contextlib.contextmanager
def deployment(folder: Path, machines: Machines, places: Mapping[str, Machine], **options: Any) -> Iterator[Deployment]:
    """Give a federation whose containers and files are gone at the end, whatever happens in it."""
    made = Deployment(folder, machines, dict(places), **options)
    try:
        yield made
    finally:
        made.clear()
