"""Figures of a federation in containers: deploying to machines, the toy job between them, planning for many hosts.

Run ``python benchmarks/containers.py`` as root; it makes three machines, each a container with its own engine, and then
removes them. The plan for many hosts is measured with a transport that answers at once: what is left is the deployer.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path, PurePath
from time import perf_counter

from figures import Figure, show
from lab import run

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "support"))

from deployment import EXCHANGE, IMAGES, TAG, Deployment, deployment, image
from machines import Machines, container, running

from fedparty.config import load
from fedparty.deploy.commands import Command
from fedparty.deploy.containers import compose
from fedparty.deploy.containers.supply import Supply
from fedparty.deploy.deployer import Deployer
from fedparty.deploy.engine import DockerEngine
from fedparty.deploy.images import LocalImages
from fedparty.deploy.report import Silence
from fedparty.deploy.sites import docker_home
from fedparty.deploy.transport.base import Completed
from fedparty.generate import run as generate

HOSTS = 200
RUNS = 20

TOY = """
import statistics, sys, time
from pathlib import Path
from fedparty.client import Session

job = {
    "name": "toy",
    "roles": {"guest": ["10000"], "host": ["9999"]},
    "tasks": {"sum": {"component": "secure_sum", "parameters": {"data_num": 1000, "partition": 10}, "cores": 0.1}},
    "timeout_s": 60,
}
times = []
with Session.at_home(Path("/fedparty")) as session:
    for _ in range(int(sys.argv[1]) + 1):
        began = time.perf_counter()
        ended = session.wait(session.submit(job).id, 60)
        times.append(time.perf_counter() - began)
        assert ended.result("sum", "guest") == {"secure_sum": 2000.0}, ended
print(statistics.median(times[1:]))
"""
"""The toy job from submit to sum, in the guest's flow container; the first one warms up."""


def seconds(action: Callable[[], object]) -> float:
    """Return the wall time of an action."""
    began = perf_counter()
    action()
    return perf_counter() - began


def deploy(federation: Deployment, *words: str) -> None:
    """Run deploy.py; its output is shown only where it fails."""
    done = federation.deploy(*words)
    if done.returncode != 0:
        raise SystemExit(f"deploy.py {' '.join(words)} failed with {done.returncode}:\n{done.stdout}")


def on_machines(machines: Machines, folder: Path) -> list[Figure]:
    """Measure a federation of two machines and an exchange, and then a third party."""
    places = {"10000": machines[0], "9999": machines[1], EXCHANGE: machines[2]}
    with deployment(folder, machines, places) as federation:
        federation.generate()
        first_s = seconds(lambda: deploy(federation, "all"))
        before = federation.container_states()
        second_s = seconds(lambda: deploy(federation, "all"))
        restarted = len(before.items() ^ federation.container_states().items()) // 2
        toy_s = float(places["10000"].docker("exec", container("10000", "flow"), "python", "-c", TOY, str(RUNS)))
        federation.places["9998"] = machines[2]
        federation.generate()
        third_s = seconds(lambda: deploy(federation, "9998"))
        touched = len(before.items() - federation.container_states().items())
    return [
        Figure("deploy.py all, 2 machines + exchange, images present → verified", first_s, "s", 45),
        Figure("deploy.py all again, nothing changed", second_s, "s", 8),
        Figure("  containers restarted by it", restarted, "", 0),
        Figure("deploy.py 9998: a third party joins", third_s, "s"),
        Figure("  containers of the others restarted by it", touched, "", 0),
        Figure(f"toy job across two machines, submit → sum, median of {RUNS}", toy_s, "s", 0.8),
    ]


class AnsweringTransport:
    """A machine with Docker and all images, on which nothing is deployed; answers without going anywhere."""

    is_local = False

    def __init__(self, place: str) -> None:
        self.place = place

    async def run(self, command: Command, **_: object) -> Completed:
        """Answer what a deploy asks before it changes anything."""
        argv = command.argv
        if argv == compose.ENGINE_FACTS:
            answer = json.dumps({"ServerVersion": "28.0.0", "DockerRootDir": "/var/lib/docker"})
        elif argv == compose.COMPOSE_VERSION:
            answer = "2.26.1"
        elif argv[:3] == ("docker", "image", "inspect"):
            answer = "\n".join(f'["{name}"] sha256:{name}' for name in argv[argv.index("--format") + 2 :])
        elif argv[0] == "sh" and "id -u" in argv[2]:
            answer = "0\n0\n/usr/bin/docker"
        elif argv[0] == "sh" and "df -Pk" in argv[2]:
            answer = f"/dev/vda 999999999 1 {1 << 30} 1% /"
        else:
            answer = ""
        return Completed(command, 0, answer, "")

    async def listing(self, folder: PurePath) -> None:
        """Find no folder."""

    async def read(self, path: PurePath) -> None:
        """Find no file."""


def plan_for_many(folder: Path) -> Figure:
    """Measure a dry run for many hosts, from parties.conf to the report."""
    conf, outputs = folder / "many.conf", folder / "many"
    ids = [str(10000 + number) for number in range(HOSTS)]
    addresses = [f"10.1.{number // 250}.{number % 250 + 1}" for number in range(HOSTS)]
    conf.write_text(f"partylist=({' '.join(ids)})\npartyiplist=({' '.join(addresses)})\n")
    generate(load(conf).federation, outputs)
    began = perf_counter()
    supply = Supply(LocalImages())
    engines = [
        DockerEngine(
            AnsweringTransport(party.address), party.id, outputs / f"confs-{party.id}", docker_home(party), supply
        )  # type: ignore[arg-type]
        for party in load(conf).federation.parties
    ]
    report = asyncio.run(Deployer(engines, Silence()).plan())
    took_s = perf_counter() - began
    if not report.is_success or len(report.parties) != HOSTS:
        raise SystemExit(f"the plan failed: {next(result.error for result in report.parties if result.error)}")
    return Figure(f"push plan for {HOSTS} hosts (--dry-run, fake transport)", took_s, "s", 5)


def main() -> None:
    """Measure and print every figure."""
    with tempfile.TemporaryDirectory(prefix="fp-") as name:
        folder = Path(name)
        figures = [plan_for_many(folder)]
        run("deploy.py", "images", "build", *IMAGES, "--tag", TAG)
        with running() as machines:
            machines.load(map(image, IMAGES))
            figures = on_machines(machines, folder) + figures
    show(figures)


if __name__ == "__main__":
    main()
