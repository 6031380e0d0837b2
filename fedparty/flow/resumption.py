"""Going on from an earlier job: its results, logs and files become those of the new one, at this party.

Owns what a party must still hold for that, and taking it over. Does not own which tasks run again
(`JobDescription.taken_over`).
"""

from __future__ import annotations

from collections.abc import Iterable

from fedparty.errors import RpcError
from fedparty.flow.launcher import Launcher
from fedparty.flow.records import Job, RoleRun
from fedparty.flow.states import State
from fedparty.flow.store import Store
from fedparty.rpc import catalogue
from fedparty.types import JobId, Member, PartyId, TaskRun, initiator_of


class Resumption:
    """Takes over what earlier jobs left at a party.

    Parameters
    ----------
    party
        Whose it is.
    store, launcher
        Its database and worker.
    """

    def __init__(self, party: PartyId, store: Store, launcher: Launcher) -> None:
        self._party = party
        self._store = store
        self._launcher = launcher

    async def check(self, job: Job, members: Iterable[Member]) -> list[RoleRun]:
        """Return the earlier runs whose results a job takes over, one for each task and member.

        Raises
        ------
        RpcError
            NOT_KNOWN: they are not all here. NOT_ALLOWED: the earlier job is another party's, or was another one.
        """
        resume, needed = job.description.resume, [(t, m) for t in job.description.taken_over for m in members]
        if resume is None:
            return []
        old = JobId(resume.job)
        if initiator_of(old) != job.initiator:
            raise catalogue.error(
                "NOT_ALLOWED", f"party {job.initiator} may not go on from job {old}: it did not open it"
            )
        known = await self._store.job(old)
        if known is None:
            raise self._gone(old, "the job")
        if not known.is_final:
            raise catalogue.error("NOT_ALLOWED", f"job {old} has not ended: nothing is taken over before", hint=_WAIT)
        _check_same(known, job)
        roles = {(role.run.task, role.member): role for role in await self._store.role_runs(old) if _is_good(role)}
        for task, member in needed:
            if (task, member) not in roles:
                raise self._gone(old, f"a success of task {task} as {member.role}")
        return [roles[each] for each in needed]

    async def take_over(self, job: Job) -> None:
        """Record, and keep the files of, what this party's roles did in the earlier job; repeating it changes nothing.

        Raises
        ------
        RpcError
            As `check`; or the worker service has not the files any more, or does not answer.
        """
        for role in await self.check(job, job.description.members_at(self._party)):
            try:
                await self._launcher.take_over(role.run, TaskRun(job.id, role.run.task, 1), role.member)
            except RpcError as exc:
                if exc.code != "NOT_KNOWN":
                    raise
                raise self._gone(role.run.job, f"the files of task {role.run.task} as {role.member.role}") from exc

    def _gone(self, old: JobId, what: str) -> RpcError:
        hint = "Run the job again from its first task: fedparty job rerun without --from."
        return catalogue.error("NOT_KNOWN", f"party {self._party} does not hold {what} of job {old}", hint=hint)


_WAIT = "Wait until it has ended, or stop it."


def _is_good(role: RoleRun) -> bool:
    return role.state is State.SUCCESS


def _check_same(old: Job, new: Job) -> None:
    """Refuse results of another computation: who took part, and what each task was."""
    was, now = old.description, new.description
    same = was.roles == now.roles and was.code == now.code
    if not same or any(was.tasks.get(name) != now.tasks[name] for name in now.taken_over):
        message = f"job {old.id} did something else than what job {new.id} wants to take over from it"
        raise catalogue.error("NOT_ALLOWED", message, hint="Submit it as a new job.")
