"""Machines for the container tests: containers with an sshd and a Docker engine of their own, on one network.

Owns making, hurting and removing them, and the keys by which they are reached. Does not own what is deployed on them
(`deployment`), nor the outer engine (`tests/containers/engine.sh`).
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

RECIPE = Path(__file__).resolve().parents[1] / "containers" / "machine"
IMAGE = "fedparty/test-machine"
NETWORK = "fpt-net"
LABEL = "fedparty.test=machines"
USERS = ("root", "fate", "clerk", "stranger")
"""Who may log in: root, a member of the group docker, one who may sudo, one who may neither."""

_COMPOSE = Path("/usr/local/lib/docker/cli-plugins/docker-compose")
_SHARED = "/shared"
_SUBNET = "{{(index .IPAM.Config 0).Subnet}}"
_READY_S = 60
_NESTED = (
    *("--cap-add", "ALL", "--cap-drop", "SYS_RESOURCE"),
    *("--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined"),
    *("--security-opt", "systempaths=unconfined", "--device-cgroup-rule", "a *:* rwm"),
    *("--volume", "/sys/fs/cgroup:/sys/fs/cgroup:rw", "--tmpfs", "/run:exec"),
)
"""What an engine in a container needs; --privileged takes more than some hosts can give."""


def container(party: str, service: str) -> str:
    """Return the name that a service's container has on its machine."""
    name, _, number = service.partition("-")
    return f"confs-{party}_{name}_{number or 1}"


def outer(*argv: str, timeout_s: float = 300) -> str:
    """Run the outer engine's docker and return its output; fail with its words."""
    done = subprocess.run(["docker", *argv], capture_output=True, text=True, timeout=timeout_s)
    assert done.returncode == 0, f"docker {' '.join(argv)}: {done.stderr.strip() or done.stdout.strip()}"
    return done.stdout.strip()


@dataclass(frozen=True)
class Machine:
    """One machine; `run` and `docker` act in it as root, without SSH.

    Parameters
    ----------
    name
        Of its container.
    address
        Where its sshd listens, port 22. It stays the same over a reboot.
    """

    name: str
    address: str

    def run(
        self, *argv: str, user: str = "root", is_checked: bool = True, timeout_s: float = 120
    ) -> subprocess.CompletedProcess[str]:
        """Run a program; stdout and stderr come back as one text."""
        done = subprocess.run(
            [*self._as(user), *argv],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout_s,
        )
        assert done.returncode == 0 or not is_checked, f"{self.name}: {' '.join(argv)}: {done.stdout}"
        return done

    def docker(self, *argv: str, timeout_s: float = 120) -> str:
        """Run this machine's own docker and return what it said."""
        return self.run("docker", *argv, timeout_s=timeout_s).stdout.strip()

    def popen(self, *argv: str) -> subprocess.Popen[str]:
        """Start a program and leave it running; read its lines from ``stdout``."""
        return subprocess.Popen(
            [*self._as("root"), *argv],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def _as(self, user: str) -> tuple[str, ...]:
        """Return what goes before a program's name, so that it runs on the machine."""
        return ("docker", "exec", "--user", user, self.name)

    def inspect(self, name: str) -> dict[str, Any]:
        """Return what the machine's engine knows of a container."""
        (found,) = json.loads(self.docker("inspect", name))
        return dict(found)

    def containers(self) -> dict[str, tuple[str, str, int]]:
        """Return id, time of start and count of restarts of every container of a party, by name."""
        names = self.docker("ps", "--all", "--filter", "label=fedparty.party", "--format", "{{.Names}}").split()
        found = json.loads(self.docker("inspect", *names)) if names else []
        return {
            each["Name"].removeprefix("/"): (each["Id"], each["State"]["StartedAt"], each["RestartCount"])
            for each in found
        }

    def kill(self, party: str, service: str) -> None:
        """End a service as the kernel would, so that its restart policy applies; ``docker kill`` is a wish."""
        pid = self.inspect(container(party, service))["State"]["Pid"]
        assert pid > 1, f"{service} of {party} does not run"
        self.run("kill", "-KILL", str(pid))

    def wait_ready(self) -> None:
        """Return when the engine and the sshd answer."""
        loop = 'until docker info >/dev/null 2>&1 && [ -n "$(ss -Hltn sport = :22)" ]; do sleep 0.1; done'
        done = self.run("timeout", str(_READY_S), "sh", "-c", loop, is_checked=False)
        assert done.returncode == 0, f"{self.name} did not get ready: {self.engine_log()}"

    def engine_log(self) -> str:
        """Return the last lines of the engine's log."""
        return self.run("tail", "-n", "20", "/var/log/docker.log", is_checked=False).stdout

    def power_off(self) -> None:
        """Cut its power."""
        outer("kill", self.name)

    def power_on(self) -> None:
        """Start it, and return when it is ready."""
        outer("start", self.name)
        self.wait_ready()

    def reboot(self) -> None:
        """Cut its power and start it again."""
        self.power_off()
        self.power_on()

    def load(self, archive: Path) -> None:
        """Load an archive of images that lies in the folder that the machines share."""
        self.docker("load", "--quiet", "--input", f"{_SHARED}/{archive.name}", timeout_s=600)

    def renew_host_key(self) -> None:
        """Give its sshd another key, as after a new installation."""
        self.run(
            "sh", "-c", "rm /etc/ssh/ssh_host_* && ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key"
        )
        self.run("machine", "stop", "sshd")
        self.run("machine", "start", "sshd")
        self.wait_ready()

    @contextmanager
    def cut_off(self) -> Iterator[None]:
        """Take it off the network for the length of a block; what it runs goes on."""
        self.disconnect()
        try:
            yield
        finally:
            self.connect()

    def disconnect(self) -> None:
        """Take it off the network."""
        outer("network", "disconnect", NETWORK, self.name)

    def connect(self) -> None:
        """Put it back on the network, at its address."""
        outer("network", "connect", "--ip", self.address, NETWORK, self.name)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Let it accept connections and never answer."""
        outer("pause", self.name)
        try:
            yield
        finally:
            outer("unpause", self.name)

    @contextmanager
    def silent(self) -> Iterator[None]:
        """Drop every packet to its sshd."""
        rule = ("INPUT", "--protocol", "tcp", "--dport", "22", "--jump", "DROP")
        self.run("iptables", "--insert", *rule)
        try:
            yield
        finally:
            self.run("iptables", "--delete", *rule)

    def without_docker(self) -> Any:
        """Take away the docker command for the length of a block."""
        return self._without("/usr/bin/docker")

    def without_compose(self) -> Any:
        """Take away Compose for the length of a block."""
        return self._without("/usr/local/lib/docker/cli-plugins/docker-compose")

    @contextmanager
    def without_engine(self) -> Iterator[None]:
        """Stop the engine, and all that it runs, for the length of a block."""
        self.run("machine", "stop", "docker")
        try:
            yield
        finally:
            self.run("machine", "start", "docker")
            self.wait_ready()

    @contextmanager
    def full_disk(self, folder: str) -> Iterator[None]:
        """Have no room in a folder for the length of a block; what lay there comes back after it."""
        self.run("mkdir", "--parents", folder)
        self.run("mount", "-t", "tmpfs", "-o", "size=64k,mode=1777", "tmpfs", folder)
        self.run("sh", "-c", 'head -c 1M /dev/zero > "$0/full" 2>/dev/null || :', folder)
        try:
            yield
        finally:
            self.run("umount", folder)

    @contextmanager
    def few_inodes(self, folder: str) -> Iterator[None]:
        """Have room in a folder for bytes, and not for files, for the length of a block: it is full in mid-deploy."""
        self.run("mkdir", "--parents", folder)
        self.run("mount", "-t", "tmpfs", "-o", "size=1g,nr_inodes=8,mode=1777", "tmpfs", folder)
        try:
            yield
        finally:
            self.run("umount", folder)

    @contextmanager
    def port_taken(self, port: int, image: str) -> Iterator[None]:
        """Listen on a port of the machine for the length of a block."""
        command = ("--entrypoint", "sleep", image, "3600")
        other = self.docker("run", "--detach", "--rm", "--init", "--publish", f"{port}:{port}", *command)
        try:
            yield
        finally:
            self.docker("rm", "--force", other.splitlines()[-1])

    @contextmanager
    def _without(self, path: str) -> Iterator[None]:
        self.run("mv", path, f"{path}.away")
        try:
            yield
        finally:
            self.run("mv", f"{path}.away", path)


class ThisMachine(Machine):
    """The machine that the tests run on, and its engine, which is others', too: it can be asked, not hurt."""

    def __init__(self) -> None:
        super().__init__("this machine", "127.0.0.1")

    def _as(self, user: str) -> tuple[str, ...]:
        return ()


@dataclass
class Machines(Sequence[Machine]):
    """The machines of a session and what a deployer needs to reach them.

    Parameters
    ----------
    home
        A home folder for the deployer: ``.ssh/id_ed25519`` opens every user of `USERS`; no host is known in it.
    shared
        What lies here, every machine reads as ``/shared``.
    """

    home: Path
    shared: Path
    all: tuple[Machine, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)

    def __getitem__(self, index: Any) -> Any:
        return self.all[index]

    def __len__(self) -> int:
        return len(self.all)

    @property
    def key(self) -> Path:
        """The private key that every machine takes."""
        return self.home / ".ssh" / "id_ed25519"

    @property
    def bridge(self) -> str:
        """The outer machine's interface that sees all that goes between them."""
        return f"br-{outer('network', 'inspect', '--format', '{{.Id}}', NETWORK)[:12]}"

    @property
    def gateway(self) -> str:
        """The outer machine's address in the machines' network."""
        return str(IPv4Network(outer("network", "inspect", "--format", _SUBNET, NETWORK))[1])

    def for_each(self, action: Callable[[Machine], object]) -> None:
        """Do something to all of them at once."""
        with ThreadPoolExecutor(len(self.all)) as pool:
            list(pool.map(action, self.all))

    def load(self, images: Iterable[str]) -> None:
        """Give every machine these images of the outer engine."""
        archive = self.shared / "images.tar"
        with self.timed("images saved"):
            outer("save", "--output", str(archive), *images)
        with self.timed("images loaded"):
            self.for_each(lambda machine: machine.load(archive))
        archive.unlink()

    def forget_hosts(self) -> None:
        """Let the deployer meet every machine for the first time."""
        (self.home / ".ssh" / "known_hosts").unlink(missing_ok=True)

    @contextmanager
    def timed(self, what: str) -> Iterator[None]:
        """Keep how long a block took."""
        began = time.monotonic()
        yield
        self.seconds[what] = time.monotonic() - began


@contextmanager
def running(count: int = 3) -> Iterator[Machines]:
    """Make machines, and remove them whatever happens; what a killed run left is removed first.

    Raises
    ------
    BlockingIOError
        Another run has machines.
    """
    with tempfile.TemporaryDirectory(prefix="fpt-") as name, _alone():
        machines = Machines(Path(name) / "home", Path(name) / "shared")
        machines.shared.mkdir()
        _make_key(machines.key)
        _remove()
        try:
            with machines.timed("machine image built"):
                build_image()
            with machines.timed("machines ready"):
                machines.all = _start(machines, count)
            yield machines
        finally:
            _remove()


def build_image() -> None:
    """Build the machines' image; the engine's cache makes it quick from the second time on."""
    with tempfile.TemporaryDirectory(prefix="fpt-") as context:
        shutil.copytree(RECIPE, context, dirs_exist_ok=True)
        shutil.copy2(_compose_plugin(), Path(context, "docker-compose"))
        outer("build", "--quiet", "--label", LABEL, "--tag", IMAGE, context, timeout_s=600)


def _compose_plugin() -> Path:
    """Return where this machine's Compose v2 is: one file that runs on any Linux."""
    listed = outer("info", "--format", "{{range .ClientInfo.Plugins}}{{.Name}} {{.Path}}\n{{end}}")
    paths = dict(line.split(maxsplit=1) for line in listed.splitlines() if " " in line)
    return Path(paths.get("compose", _COMPOSE))


def _start(machines: Machines, count: int) -> tuple[Machine, ...]:
    network = _make_network()
    made = [Machine(f"fpt-machine-{number}", str(network[10 + number])) for number in range(1, count + 1)]
    keys = machines.key.with_suffix(".pub").read_text()

    def start(machine: Machine) -> None:
        place = ("--name", machine.name, "--hostname", machine.name, "--network", NETWORK, "--ip", machine.address)
        shared = ("--volume", f"{machines.shared}:{_SHARED}:ro")
        outer("run", "--detach", "--label", LABEL, *place, *shared, *_NESTED, IMAGE)
        machine.run("sh", "-c", 'umask 022; printf %s "$0" > /etc/ssh/authorized_keys', keys)
        machine.wait_ready()

    with ThreadPoolExecutor(count) as pool:
        list(pool.map(start, made))
    return tuple(made)


def _make_network() -> IPv4Network:
    """Make the machines' network on addresses that Docker finds free, and fixed, so that a machine keeps its own."""
    outer("network", "create", "--label", LABEL, NETWORK)
    subnet = outer("network", "inspect", "--format", _SUBNET, NETWORK)
    outer("network", "rm", NETWORK)
    outer("network", "create", "--label", LABEL, "--subnet", subnet, NETWORK)
    return IPv4Network(subnet)


def _make_key(file: Path) -> None:
    file.parent.mkdir(parents=True, mode=0o700)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "deployer", "-f", file], check=True)


def _remove() -> None:
    if names := outer("ps", "--all", "--quiet", "--filter", f"label={LABEL}").split():
        outer("rm", "--force", "--volumes", *names)
    if names := outer("network", "ls", "--quiet", "--filter", f"label={LABEL}").split():
        outer("network", "rm", *names)


@contextmanager
def _alone() -> Iterator[None]:
    """Hold the lock on the machines' names."""
    with Path(tempfile.gettempdir(), f"fpt-machines-{os.getuid()}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
