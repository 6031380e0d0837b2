"""Whether a job may run here: who submitted it is verified, the site's policy is asked, the decision is written down.

Owns the order of the three, for this party's own submissions and for those that other parties bring. Does not own the
rules (`policy`), signatures (`fedparty.crypto.submissions`), nor the log (`audit`).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from fedparty.components.parameters import tables_of
from fedparty.components.requirements import Requirements, Reveals, requirements
from fedparty.crypto import submissions
from fedparty.crypto.submissions import Voucher
from fedparty.crypto.tokens import TokenSigner, TokenVerifier
from fedparty.errors import ComponentError, RpcError, TokenError
from fedparty.flow.audit import ALLOWED, REFUSED, Audit, Entry
from fedparty.flow.people import People, Principal
from fedparty.flow.policy import Decision, Policy, PolicyFile, Rule, Submission, decide
from fedparty.flow.records import Job
from fedparty.jobs.description import JobDescription
from fedparty.rpc import catalogue
from fedparty.types import JobId, PartyId, initiator_of

_REMEMBERED = 10_000
_VOUCHER_MARGIN_S = 3600.0
"""How long a voucher outlives its job: the parties' clocks differ."""


@dataclass(frozen=True)
class Asked:
    """A submission as it arrived.

    Parameters
    ----------
    by
        Who asks.
    signature
        Their signature of `text`; empty: none.
    text
        The description as it was sent, if it is signed.
    key
        By which the same request is known again; empty: it is not.
    """

    by: Principal
    signature: str = ""
    text: str = ""
    key: str = ""

    @property
    def submission(self) -> str:
        """The key among those of everybody; empty: there is none."""
        return f"{self.by.name}/{self.key}" if self.key else ""


class Admission:
    """The decisions of one party.

    Parameters
    ----------
    party
        Whose site it is.
    policy, people, audit
        Its policy, its users, its log.
    signer, verifier
        Countersign its own people's submissions; verify other parties'.
    """

    def __init__(
        self,
        party: PartyId,
        policy: PolicyFile,
        people: People,
        audit: Audit,
        signer: TokenSigner,
        verifier: TokenVerifier,
    ) -> None:
        self._party = party
        self._policy = policy
        self._people = people
        self._audit = audit
        self._signer = signer
        self._verifier = verifier
        self._told: OrderedDict[tuple[JobId, str], str] = OrderedDict()

    async def submitted(self, job: Job, asked: Asked) -> Job:
        """Return a job of this party's own people with its submitter and voucher, unless it may not run here.

        Raises
        ------
        RpcError
            TOKEN_REFUSED: the signature is missing although the user has a key, or does not fit, or was used before.
            POLICY_REFUSED
        DatabaseError
            Database or audit log cannot be written now.
        """
        who = f"{asked.by.name}@{self._party}"
        try:
            voucher, text = await self._vouched(job, asked)
            decisions = self._decisions(job.description, _submission_of(voucher))
            self._require(decisions)
        except RpcError as exc:
            await self._audit.note(Entry(who, "submit", job.id, REFUSED, exc.message))
            raise
        await self._audit.record(Entry(who, "submit", job.id, ALLOWED, _summary(decisions)))
        return replace(job, submitter=voucher.submitter, voucher=text)

    async def prepared(self, job: Job) -> Job:
        """Return a job that its initiator brings, with its submitter, unless it may not run here.

        Raises
        ------
        RpcError
            TOKEN_REFUSED: its voucher does not fit. POLICY_REFUSED
        DatabaseError
            The audit log cannot be written now.
        """
        who = f"somebody@{job.initiator}"
        try:
            by, submitter = self._submission(job)
            who = str(by)
            decisions = self._decisions(job.description, by)
            self._require(decisions)
        except RpcError as exc:
            await self._tell(job.id, Entry(who, "prepare", job.id, REFUSED, exc.message))
            raise
        await self._tell(job.id, Entry(who, "prepare", job.id, ALLOWED, _summary(decisions)))
        return replace(job, submitter=submitter)

    @property
    def policy(self) -> Policy:
        """What is allowed now; another object after each change."""
        return self._policy.policy

    async def shown(self, job: Job, kind: str, role: str) -> None:
        """Make sure that the people of a job's initiator may see this party's part in it: its logs, its metrics.

        Parameters
        ----------
        job
            As it is recorded here: who submitted it was verified then.
        kind
            ``logs`` or ``metrics``.
        role
            Of which role; empty: of each that this party plays.

        Raises
        ------
        RpcError
            POLICY_REFUSED
        DatabaseError
            The audit log cannot be written now.
        """
        by = _submission_of(submissions.read_voucher(job.voucher, job.id)) if job.voucher else Submission(job.initiator)
        decisions = decide(self._policy.policy, self._party, job.description, by, _needs, kind)
        asked = [decision for decision in decisions if role in ("", decision.role)]
        refused = next((decision for decision in asked if not decision.is_allowed), None)
        who, what = f"somebody@{job.initiator}", f"show {kind}"
        if refused is not None:
            message = f"not shown of task {refused.task}: {refused.why}"
            await self._tell(job.id, Entry(who, what, job.id, REFUSED, message))
            hint = f"Ask the people of party {self._party} for a rule with shows: [{kind}] in their policy.yaml."
            raise catalogue.error("POLICY_REFUSED", message, hint=hint)
        await self._tell(job.id, Entry(who, what, job.id, ALLOWED, _summary(asked)))

    def granted(self, job: Job, task: str) -> Mapping[str, Rule]:
        """Return by role the rule under which a task runs here, as the policy is now: asked again before it starts.

        Raises
        ------
        RpcError
            TOKEN_REFUSED, POLICY_REFUSED: as in `prepared`.
        """
        decisions = [each for each in self._decisions(job.description, self._submission(job)[0]) if each.task == task]
        self._require(decisions)
        return {decision.role: decision.rule for decision in decisions if decision.rule is not None}

    def explain(self, job: JobDescription, by: Submission) -> tuple[Decision, ...]:
        """Return what would be decided here."""
        return self._decisions(job, by)

    async def _vouched(self, job: Job, asked: Asked) -> tuple[Voucher, str]:
        key = await self._people.key_of(asked.by.name)
        if asked.signature:
            await self._check_signature(job, asked, key)
        elif key:
            hint = "Submit with the private key: fedparty job submit signs where it finds one."
            message = f"user {asked.by.name} has registered a key, and this submission is not signed"
            raise catalogue.error("TOKEN_REFUSED", message, hint=hint)
        voucher = Voucher(job.id, asked.by.name, asked.by.role, is_signed=bool(asked.signature))
        lifetime_s = job.deadline_at - job.created_at + _VOUCHER_MARGIN_S
        text = job.text.encode()
        return voucher, submissions.vouch(self._signer, voucher, text, key, asked.signature, lifetime_s)

    async def _check_signature(self, job: Job, asked: Asked, key: str) -> None:
        try:
            signed = submissions.check(asked.signature, key, asked.by.name, self._party, job.text.encode())
        except TokenError as exc:
            raise catalogue.error("TOKEN_REFUSED", exc.message, hint=exc.hint) from exc
        kept_until = signed.expires_at + submissions.MAX_LIFETIME_S
        if not await self._people.use_nonce(asked.by.name, signed.nonce, job.id, kept_until):
            message = "signature of the submission refused: it was submitted before"
            raise catalogue.error("TOKEN_REFUSED", message, hint="Sign and submit again.")

    def _submission(self, job: Job) -> tuple[Submission, str]:
        """Return who submitted a job; a release that does not vouch says only which party."""
        if not job.voucher:
            if job.description.code is not None:
                message = f"party {self._party} takes a job's own code only with a voucher of who submitted it"
                raise catalogue.error("TOKEN_REFUSED", message)
            return Submission(job.initiator), f"somebody@{job.initiator}"
        try:
            voucher = submissions.check_voucher(self._verifier, job.voucher, job.id, job.text.encode())
        except TokenError as exc:
            message = f"party {self._party} does not believe who submitted the job: {exc.message}"
            raise catalogue.error("TOKEN_REFUSED", message, hint=exc.hint) from exc
        return _submission_of(voucher), voucher.submitter

    def _decisions(self, job: JobDescription, by: Submission) -> tuple[Decision, ...]:
        return decide(self._policy.policy, self._party, job, by, _needs)

    def _require(self, decisions: Iterable[Decision]) -> None:
        """Make sure that all of it is allowed.

        Raises
        ------
        RpcError
            POLICY_REFUSED
        """
        for decision in decisions:
            if not decision.is_allowed:
                raise catalogue.error(
                    "POLICY_REFUSED",
                    f"party {self._party} refuses task {decision.task}: {decision.why}",
                    hint=f"Ask the people of party {self._party} for a rule in their {self._policy.path.name}; there, "
                    "fedparty party policy shows what is allowed.",
                )

    async def _tell(self, job: JobId, entry: Entry) -> None:
        """Write a decision down once, however often the same is asked: a job that waits is prepared many times."""
        key, told = (job, entry.what), f"{entry.decision} {entry.why}"
        if self._told.get(key) == told:
            return
        if entry.decision == ALLOWED:
            await self._audit.record(entry)
        else:
            await self._audit.note(entry)
        self._told[key] = told
        if len(self._told) > _REMEMBERED:
            self._told.popitem(last=False)


def _needs(component: str, parameters: Mapping[str, Any]) -> Requirements:
    """Return what a task will read and reveal; of a component that is not here, only its tables are known."""
    try:
        return requirements(component, parameters)
    except ComponentError:
        return Requirements(tables_of(parameters), Reveals.UNKNOWN)


def _submission_of(voucher: Voucher) -> Submission:
    return Submission(initiator_of(voucher.job), voucher.user, voucher.user_role, voucher.is_signed)


def _summary(decisions: Iterable[Decision]) -> str:
    """Return which rules allowed it, each once."""
    return ", ".join(dict.fromkeys(decision.why for decision in decisions)) or "this party plays no role"
