"""On which terms a task runs here: which tables it reads, what holds its code, what may leave.

Owns checking them before a task is prepared, and starting a role on them. Does not own the policy (`admission`), nor
the attempt's states (`site`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from fedparty.flow.bindings import Bindings
from fedparty.flow.codes import Codes
from fedparty.flow.launcher import Launcher
from fedparty.flow.policy import Rule
from fedparty.flow.records import Job
from fedparty.jobs.code import is_custom
from fedparty.rpc import catalogue
from fedparty.storage.source import Source
from fedparty.types import Member, PartyId, TaskRun

Granted = Callable[[Job, str], Mapping[str, Rule]]
"""Returns by role the rule of the site's policy under which a task runs; see `Admission.granted`."""


class Terms:
    """The terms of one site.

    Parameters
    ----------
    party
        Whose it is.
    bindings, codes
        Its tables, and the jobs' own code that is here.
    granted
        Asks its policy.
    launcher
        Its worker service.
    """

    def __init__(self, party: PartyId, bindings: Bindings, codes: Codes, granted: Granted, launcher: Launcher) -> None:
        self._party = party
        self._bindings = bindings
        self._codes = codes
        self._granted = granted
        self._launcher = launcher
        self.unheld = ""
        """Why the worker's kernel cannot hold a job's own code; empty: it can."""

    async def check(self, job: Job, run: TaskRun) -> None:
        """Refuse a task that cannot run here on the policy's terms.

        Raises
        ------
        RpcError
            POLICY_REFUSED: a table is too small, or nothing holds the job's code. NOT_KNOWN: a table is not bound.
        """
        rules = self._granted(job, run.task)
        if self.unheld and is_custom(job.description.tasks[run.task].component):
            self._check_held(rules)
        for member in job.description.members_at(self._party):
            await self._tables(job, run, member, rules[member.role])

    def granted(self, job: Job, run: TaskRun) -> Mapping[str, Rule]:
        """Return by role the rule under which a task may start, as the policy is now.

        Raises
        ------
        RpcError
            POLICY_REFUSED, TOKEN_REFUSED
        """
        return self._granted(job, run.task)

    async def start(self, job: Job, run: TaskRun, member: Member, rule: Rule) -> None:
        """Start a role; the job's own code is brought to the worker where it lacks it.

        Raises
        ------
        RpcError
            As `check`; or the code is gone, or the worker service does not answer.
        """
        tables = await self._tables(job, run, member, rule)
        if await self._launcher.start(job, run, member, tables, rule.isolation, rule.leaving):
            return
        if code := job.description.code:
            await self._launcher.bring(job.id, code.sha256, await self._codes.get(code.sha256))
        if not await self._launcher.start(job, run, member, tables, rule.isolation, rule.leaving):
            raise catalogue.error("INTERNAL", f"the worker of party {self._party} does not keep the job's code")

    def _check_held(self, rules: Mapping[str, Rule]) -> None:
        if any(rule.isolation == "kernel" for rule in rules.values()):
            raise catalogue.error(
                "POLICY_REFUSED",
                f"party {self._party} cannot hold a job's own code: {self.unheld}",
                hint=f"The people of party {self._party} may trust it without: isolation: none in their policy.yaml.",
            )

    async def _tables(self, job: Job, run: TaskRun, member: Member, rule: Rule) -> tuple[Source, ...]:
        """Return what a role reads, unless the site's policy asks for larger tables."""
        tables = await self._bindings.of(job.description.parameters_of(run.task, member))
        for table in tables:
            if table.rows < rule.min_rows:
                raise catalogue.error(
                    "POLICY_REFUSED",
                    f"party {self._party} refuses task {run.task}: table {table.name} has fewer rows than the "
                    f"{rule.min_rows} that rule {rule.name!r} asks for",
                )
        return tables
