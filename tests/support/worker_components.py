"""Components that misbehave, for the worker's tests; installed as a package by `install`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

NAMES = {
    "raises": "Raises",
    "dies": "Dies",
    "exits": "Exits",
    "waits": "Waits",
    "spawns": "Spawns",
    "looks": "Looks",
    "talks": "Talks",
    "unwritable": "Unwritable",
    "large": "Large",
    "garbled": "Garbled",
    "keeps": "Keeps",
    "hungry": "Hungry",
    "prints": "Prints",
    "chatters": "Chatters",
    "stubborn": "Stubborn",
    "disk_full": "DiskFull",
    "leaks": "Leaks",
    "forks": "Forks",
}


def install(folder: Path) -> dict[str, str]:
    """Make a package of these components, and return the environment in which it is found."""
    information = folder / "worker_components-1.0.dist-info"
    information.mkdir(parents=True)
    (folder / "worker_components.py").write_bytes(Path(__file__).read_bytes())
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: worker-components\nVersion: 1.0\n")
    points = "".join(f"{name} = worker_components:{kind}\n" for name, kind in NAMES.items())
    (information / "entry_points.txt").write_text(f"[fedparty.components]\n{points}")
    return {"PYTHONPATH": str(folder)}


class Raises:
    def guest(self, ctx: Any) -> None:
        raise ValueError("no data here")


class Dies:
    def guest(self, ctx: Any) -> None:
        print("my last words", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)


class Exits:
    def guest(self, ctx: Any) -> None:
        os._exit(3)


class Waits:
    """Waits for what never comes."""

    def guest(self, ctx: Any) -> None:
        ctx.log.info("my process is %d", os.getpid())
        ctx.receive("never", source="host")

    host = guest


class Spawns:
    """Leaves a child, a child in a session of its own, and an orphan."""

    def guest(self, ctx: Any) -> None:
        sleeper = [sys.executable, "-c", "import time; time.sleep(600)"]
        children = [subprocess.Popen(sleeper), subprocess.Popen(sleeper, start_new_session=True)]
        start = f"import subprocess; print(subprocess.Popen({sleeper}, start_new_session=True, stdout=2).pid)"
        orphan = subprocess.run([sys.executable, "-c", start], stdout=subprocess.PIPE, check=False)
        pids = [child.pid for child in children] + [int(orphan.stdout)]
        Path("pids").write_text(" ".join(map(str, [os.getpid(), *pids])))
        ctx.log.info("ready")
        time.sleep(600)


class Looks:
    """Tells what its process is like."""

    def guest(self, ctx: Any) -> dict[str, Any]:
        import resource

        files = {}
        for entry in Path("/proc/self/fd").iterdir():
            with suppress(FileNotFoundError):
                files[entry.name] = str(entry.readlink())
        return {
            "pid": os.getpid(),
            "session": os.getsid(0),
            "folder": str(Path.cwd()),
            "environment": dict(os.environ),
            "files": files,
            "core": resource.getrlimit(resource.RLIMIT_CORE),
            "data": resource.getrlimit(resource.RLIMIT_DATA),
            "allocated": Path("/proc/self/status").read_text().partition("VmData:")[2].split()[0],
            "cpus": sorted(os.sched_getaffinity(0)),
            "interrupt": signal.getsignal(signal.SIGTERM) == signal.SIG_DFL,
            "mask": len(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
            "random": int.from_bytes(__import__("numpy").random.bytes(8), "big"),
            "stdin": sys.stdin.read() if sys.stdin else "",
        }


class Talks:
    """Logs, waits for a file, logs again."""

    def guest(self, ctx: Any) -> None:
        print("printed")
        ctx.log.info("first")
        ctx.metric("loss", 0.5, step=1)
        while not Path("go").exists():
            time.sleep(0.01)
        ctx.log.warning("second")


class Unwritable:
    def guest(self, ctx: Any) -> Any:
        return {1, 2}


class Large:
    def guest(self, ctx: Any) -> Any:
        return "x" * 6_000_000


class Garbled:
    """Fails with half of a surrogate pair, which UTF-8 cannot say."""

    def guest(self, ctx: Any) -> Any:
        raise ValueError("bad \ud800")


class Hungry:
    """Allocates so many MiB, in itself or in a child, and touches them."""

    def guest(self, ctx: Any) -> int:
        size = ctx.parameters["mib"] << 20
        if ctx.parameters.get("in_child"):
            source = f"import sys; x = bytearray({size}); sys.exit(0)"
            return subprocess.run([sys.executable, "-c", source], check=False).returncode
        return len(bytearray(size))


class Prints:
    """Prints so many MiB."""

    def guest(self, ctx: Any) -> None:
        line = "x" * (1 << 20)
        for _ in range(ctx.parameters["mib"]):
            print(line)


class Chatters:
    """Logs so many MiB, and at last one line that is too long."""

    def guest(self, ctx: Any) -> None:
        ctx.log.info("y" * (1 << 20))
        for _ in range(ctx.parameters["mib"] * 16):
            ctx.log.info("x" * (1 << 16))


class Stubborn:
    """Ignores SIGTERM, and so does its child."""

    def guest(self, ctx: Any) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        child = os.fork()
        if child:
            Path("pids").write_text(f"{os.getpid()} {child}")
            ctx.log.info("ready")
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(600)


class Leaks:
    """Keeps a little more memory each time, and never gives any back."""

    def guest(self, ctx: Any) -> None:
        kept = []
        while True:
            kept.append(bytearray(1 << 20))


class Forks:
    """Forks so many children, each of which forks one in a session of its own; all ignore SIGTERM."""

    def guest(self, ctx: Any) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        for _ in range(ctx.parameters["children"]):
            if not os.fork():
                if not os.fork():
                    os.setsid()
                with Path("pids").open("a") as pids:
                    pids.write(f"{os.getpid()}\n")
                time.sleep(600)
        ctx.log.info("ready")
        time.sleep(600)


class DiskFull:
    def guest(self, ctx: Any) -> None:
        with Path("/dev/full").open("w") as full:
            full.write("x")


class Keeps:
    """Keeps files as outputs, and reads a table; leaves links and odd names beside them."""

    def guest(self, ctx: Any) -> Any:
        ctx.output("models/final.bin").write_bytes(bytes(range(256)) * 4096)
        ctx.output("notes.txt").write_text("notes")
        Path("outputs/link").symlink_to("/etc/passwd")
        Path("outputs/.hidden").write_text("x")
        for number in range(ctx.parameters.get("files", 0)):
            ctx.output(f"many/{number}").touch()
        return ctx.table("people").rows if "table" in ctx.parameters else None
