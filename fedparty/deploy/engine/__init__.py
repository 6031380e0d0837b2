"""What runs a bundle: containers, or local processes.

Owns the names of the engines. Knows nothing of how a machine is reached.
"""

from __future__ import annotations

from fedparty.deploy.engine.base import Engine
from fedparty.deploy.engine.docker import DockerEngine
from fedparty.deploy.engine.process import ProcessEngine

__all__ = ["DockerEngine", "Engine", "ProcessEngine"]
