"""Whether a job's components are here, and take what it gives them.

Owns the check before a job is accepted. Does not own what is installed (`fedparty.components.registry`), nor whether a
site lets a component run (the site's policy).
"""

from __future__ import annotations

from fedparty.components import registry
from fedparty.errors import JobError
from fedparty.jobs.code import is_custom
from fedparty.jobs.description import JobDescription
from fedparty.types import Member


def check(job: JobDescription) -> None:
    """Make sure that every task can be run as it is described.

    Raises
    ------
    JobError
        A component, a role or a parameter is unknown or wrong; every fault is named with its task.
    """
    faults, hints = [], []
    for name, task in job.tasks.items():
        if is_custom(task.component):  # never loaded here: what it has shows when it runs
            continue
        given = {role: [Member(role, party) for party in parties] for role, parties in job.roles.items()}
        members = {role: [job.parameters_of(name, each) for each in given[role]] for role in given}
        for fault in registry.faults(task.component, members):
            faults.append(f"tasks.{name}: {fault.message}")
            hints.append(fault.hint)
    if faults:
        raise JobError("; ".join(faults), hint=" ".join(dict.fromkeys(hints)))
