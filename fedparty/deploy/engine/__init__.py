"""What runs a bundle: local processes, or (with a later release) containers.

Owns the choice of an engine by name. Knows nothing of how a machine is reached.
"""

from __future__ import annotations

from fedparty.deploy.engine.base import Engine
from fedparty.deploy.engine.process import ProcessEngine
from fedparty.errors import NotAvailableError

__all__ = ["Engine", "ProcessEngine", "require_available"]


def require_available(name: str) -> None:
    """Raise unless this release has the engine.

    Raises
    ------
    NotAvailableError
        It comes later.
    """
    if name != ProcessEngine.name:
        raise NotAvailableError(
            f"the {name} engine comes with a later release",
            hint="Today: generate_config.py and deploy.py with --engine process (or engine=process in parties.conf).",
        )
