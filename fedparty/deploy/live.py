"""Brings renewed and revoked certificates, and new routes, to parties that run: nothing restarts.

Owns the push of live files to wherever the parties are deployed. Generates nothing.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from fedparty.config.model import Federation
from fedparty.deploy.deployer import Deployer
from fedparty.deploy.report import Progress, Report
from fedparty.deploy.sites import Machines, deployed


def push_live(federation: Federation, outputs: Path, machines: Machines, progress: Progress) -> Report:
    """Replace the live files of every party that is deployed by the generated ones.

    Returns
    -------
    Report
        The files that changed as each party's plan, and what went wrong at one, e.g. that somebody deploys there now.
    """
    return asyncio.run(_push(federation, outputs, machines, progress))


async def _push(federation: Federation, outputs: Path, machines: Machines, progress: Progress) -> Report:
    try:
        return await Deployer(deployed(federation, machines, outputs), progress).push_live()
    finally:
        await machines.close()
