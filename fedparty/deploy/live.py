"""Brings renewed and revoked certificates, and new routes, to parties that run: nothing restarts.

Owns the push of live files to the homes on this machine. Generates nothing.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from fedparty.config.model import Federation
from fedparty.deploy.sites import deployed_here


def push_live(federation: Federation, outputs: Path) -> tuple[str, ...]:
    """Replace the live files of every party deployed on this machine by the generated ones.

    Returns
    -------
    tuple of str
        The parties whose files changed.

    Raises
    ------
    FedpartyError
        A bundle does not pass its check.
    """
    return asyncio.run(_push(federation, outputs))


async def _push(federation: Federation, outputs: Path) -> tuple[str, ...]:
    engines = deployed_here(federation, outputs)
    return tuple([engine.party for engine in engines if await engine.push_live()])
