"""REST: what this site allows, and what it would decide.

Owns the paths under ``/v1/policy``. Does not own the policy: it is the site's file.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from fedparty.flow.api.backend import Backend
from fedparty.flow.api.gate import Asking
from fedparty.flow.api.views import ErrorView
from fedparty.flow.policy import Decision, Submission
from fedparty.jobs.description import JobDescription
from fedparty.settings import Party

_REFUSED: dict[int | str, dict[str, Any]] = {422: {"model": ErrorView}}
_Text = Annotated[str, Field(max_length=100)]


class PolicyView(BaseModel):
    """The policy in force."""

    source: str
    """Where it comes from."""
    file: str
    fault: str
    """Why the file as it is now is not in force; empty: it is."""
    signed: bool
    rules: list[dict[str, Any]]


class Question(BaseModel):
    """What would be decided here of a job."""

    model_config = ConfigDict(extra="forbid")

    description: JobDescription
    party: Party | None = None
    """Whose submission it would be; none: this party's."""
    user: _Text | None = None
    """Who would submit it; none: who asks."""
    user_role: _Text | None = None
    signed: bool = False


class DecisionView(BaseModel):
    """What becomes of one role of one task here."""

    task: str
    role: str
    component: str
    allowed: bool
    why: str


class DecisionsView(BaseModel):
    """A decision for each role that this party would play; none: it plays no role."""

    party: str
    decisions: list[DecisionView]


def router(backend: Backend) -> APIRouter:
    """Return the paths."""
    routes = APIRouter(prefix="/v1/policy", tags=["policy"])

    @routes.get("")
    async def show() -> PolicyView:
        """Show what this site allows now."""
        file = backend.policy
        policy = file.policy
        return PolicyView(
            source=file.source,
            file=str(file.path),
            fault=file.fault,
            signed=policy.signed,
            rules=[rule.model_dump() for rule in policy.rules],
        )

    @routes.post("/decisions", responses=_REFUSED)
    async def decide(question: Question, by: Asking) -> DecisionsView:
        """Tell what would be decided of a job; nothing is submitted or written down."""
        is_stranger = question.party is not None or question.user is not None
        submission = Submission(
            question.party or backend.party,
            (question.user or "") if is_stranger else by.name,
            (question.user_role or "") if is_stranger else question.user_role or by.role,
            question.signed,
        )
        found = backend.admission.explain(question.description, submission)
        return DecisionsView(party=backend.party, decisions=[_view(decision) for decision in found])

    return routes


def _view(decision: Decision) -> DecisionView:
    return DecisionView(
        task=decision.task,
        role=decision.role,
        component=decision.component,
        allowed=decision.is_allowed,
        why=decision.why,
    )
