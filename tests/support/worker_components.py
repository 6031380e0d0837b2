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
