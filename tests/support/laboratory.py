"""A whole federation as local processes, driven as a user drives it: through the two programs of the README.

Owns starting, stopping and hurting a lab. Does not own what is expected of it.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from ports import free_ports

REPOSITORY = Path(__file__).resolve().parents[2]
SUCCESS = "success to calculate secure_sum, it is 2000.0"
ENVIRONMENT = {key: value for key, value in os.environ.items() if not key.startswith("FEDPARTY_")}


@dataclass
class Laboratory:
    """A federation of parties on this machine, its files in one folder.

    Parameters
    ----------
    folder
        Where parties.conf and outputs/ lie.
    parties
        Ids, the guest first.
    options
        Further keys of parties.conf.
    exchange
        Whether the parties meet at an exchange.
    own_options
        Keys of parties.conf for one party alone.
    """

    folder: Path
    parties: Sequence[str] = ("10000", "9999")
    options: Mapping[str, str] = field(default_factory=dict)
    exchange: bool = False
    layout: str = "separate"
    ports: dict[str, tuple[int, int]] = field(default_factory=dict)
    exchange_port: int = 0
    own_options: dict[str, Mapping[str, str]] = field(default_factory=dict)

    @property
    def outputs(self) -> Path:
        return self.folder / "outputs"

    @property
    def _where(self) -> list[str]:
        return ["-c", str(self.folder / "parties.conf"), "-o", str(self.outputs)]

    def write_configuration(self) -> None:
        """Write parties.conf; parties known from before keep their ports."""
        for party in self.parties:
            if party not in self.ports:
                proxy, rest = free_ports(2)
                self.ports[party] = (proxy, rest)
        lines = ["engine=process", f"service_layout={self.layout}"]
        lines += [
            f"partylist=({' '.join(self.parties)})",
            f"partyiplist=({' '.join('127.0.0.1' for _ in self.parties)})",
        ]
        if self.exchange:
            self.exchange_port = self.exchange_port or free_ports(1)[0]
            lines += ["exchangeip=127.0.0.1", f"exchange_port={self.exchange_port}"]
        lines += [f"{key}={value}" for key, value in self.options.items()]
        for party in self.parties:
            proxy, rest = self.ports[party]
            lines += [f"[{party}]", f"proxy_port={proxy}", f"rest_port={rest}"]
            lines += [f"{key}={value}" for key, value in self.own_options.get(party, {}).items()]
        (self.folder / "parties.conf").write_text("\n".join(lines) + "\n")

    def run(self, *argv: str, timeout_s: float = 100) -> subprocess.CompletedProcess[str]:
        """Run a program of the repository with the lab's Python; its stdout and stderr come back as one text."""
        return subprocess.run(
            [sys.executable, *argv],
            cwd=REPOSITORY,
            env=ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout_s,
        )

    def generate(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.run("generate_config.py", *self._where, *arguments)

    def deploy(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.run("deploy.py", *arguments, *self._where)

    def pki(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.run("-m", "fedparty", "pki", *arguments, *self._where)

    def up(self, *arguments: str, parties: str = "all") -> None:
        """Generate, start and verify."""
        self.write_configuration()
        generated = self.generate()
        assert generated.returncode == 0, generated.stdout
        deployed = self.deploy(parties, *arguments)
        assert deployed.returncode == 0, deployed.stdout

    def down(self) -> None:
        """Stop everything and remove it; fails where something is left."""
        if not (self.folder / "parties.conf").exists():
            return
        deleted = self.deploy("all", "--delete", "--purge")
        assert deleted.returncode == 0, deleted.stdout
        assert self.processes() == []

    def toy_command(self, *arguments: str) -> list[str]:
        return ["toy_example/run_toy_example.py", *arguments, "--outputs", str(self.outputs)]

    def toy(self, *arguments: str, timeout_s: float = 100) -> subprocess.CompletedProcess[str]:
        """Run the toy example, e.g. ``toy("10000", "9999", "1")``."""
        return self.run(*self.toy_command(*arguments), timeout_s=timeout_s)

    def start_toy(self, *arguments: str) -> subprocess.Popen[str]:
        """Start the toy example and leave it running; read its lines from ``stdout``."""
        return subprocess.Popen(
            [sys.executable, "-u", *self.toy_command(*arguments)],
            cwd=REPOSITORY,
            env=ENVIRONMENT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def home(self, party: str) -> Path:
        return self.outputs / "deployed" / f"confs-{party}"

    def bundle(self, party: str) -> Path:
        return self.outputs / f"confs-{party}"

    def log(self, party: str, service: str) -> str:
        return (self.home(party) / "logs" / f"{service}.log").read_text()

    def processes(self, party: str | None = None) -> list[psutil.Process]:
        """Return the processes of a party, or of the whole lab."""
        roots = [str(self.home(party))] if party else [str(self.outputs)]
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                home = process.environ().get("FEDPARTY_HOME", "")
                if home and any(home == root or home.startswith(f"{root}/") for root in roots):
                    found.append(process)
        return found

    def supervisor(self, party: str) -> psutil.Process:
        """Return the process that runs a party's services."""
        for process in self.processes(party):
            with contextlib.suppress(psutil.Error):  # tasks come and go
                if "supervisord" in " ".join(process.cmdline()):
                    return process
        raise AssertionError(f"party {party} does not run")

    def control(self, party: str, *arguments: str) -> str:
        """Run supervisorctl in a party's home, as its operator may."""
        home = self.home(party)
        owner = self.supervisor(party)
        done = subprocess.run(
            [sys.executable, "-m", "supervisor.supervisorctl", "-c", "bundle/supervisord.conf", *arguments],
            cwd=home,
            env=owner.environ(),
            stdout=subprocess.PIPE,
            text=True,
        )
        return done.stdout

    @contextlib.contextmanager
    def stopped(self, party: str, service: str) -> Iterator[None]:
        """Stop a service for the length of a block, and return when the party is healthy again."""
        self.control(party, "stop", f"party:{service}")
        try:
            yield
        finally:
            self.control(party, "start", f"party:{service}")
        self.wait_healthy(party)

    def pid(self, party: str, service: str) -> int:
        """Return the process id of a service, as the supervisor sees it."""
        name = service if service.startswith("flow-") else f"party:{service}"
        pid = int(self.control(party, "pid", name))
        assert pid > 1, f"{service} of {party} does not run"
        return pid

    def pids(self) -> dict[tuple[str, str], int]:
        """Return every service's process id."""
        found = {}
        for party in self.parties:
            for line in self.control(party, "status").splitlines():
                match = re.match(r"(?:party:)?([\w-]+)\s+RUNNING\s+pid (\d+)", line)
                assert match, line
                found[party, match[1]] = int(match[2])
        return found

    def tasks(self, party: str) -> list[psutil.Process]:
        """Return the processes of running tasks."""
        jobs = str(self.home(party) / "data" / "worker" / "jobs")
        found = []
        for process in self.processes(party):
            with contextlib.suppress(psutil.Error):
                if process.cwd().startswith(os.path.realpath(jobs) + "/"):
                    found.append(process)
        return found

    def kill(self, party: str, victim: str) -> None:
        """Kill -9 a service, or with ``task`` every running task of the party."""
        pids = [p.pid for p in self.tasks(party)] if victim == "task" else [self.pid(party, victim)]
        assert pids, f"nothing to kill: {victim} of {party}"
        for pid in pids:
            os.kill(pid, signal.SIGKILL)

    def wait_healthy(self, *parties: str) -> None:
        """Return when every service of these parties (default: all) answers again."""
        for party in parties or self.parties:
            home = self.home(party)
            environment = self.supervisor(party).environ()
            done = subprocess.run(
                [sys.executable, "-m", "fedparty", "health", "--home", ".", "--wait", "--timeout", "30"],
                cwd=home,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            assert done.returncode == 0, done.stdout

    def bundle_facts(self, party: str) -> dict[str, object]:
        return json.loads((self.bundle(party) / "bundle.json").read_text())


@contextlib.contextmanager
def laboratory(folder: Path, **options: object) -> Iterator[Laboratory]:
    """Run a lab that is stopped at the end, whatever happens in it."""
    lab = Laboratory(folder, **options)  # type: ignore[arg-type]
    try:
        yield lab
    finally:
        lab.down()
