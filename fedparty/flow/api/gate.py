"""What every request must pass before its body is read: who asks, whether they may, and a limit on its size.

Owns the checks, as bare ASGI. Does not own who a token belongs to (`fedparty.flow.people`), nor which request needs
which role (`access`).
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Annotated

from fastapi import Depends, Request
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fedparty.errors import FedpartyError
from fedparty.flow.api.access import Need, need_of
from fedparty.flow.api.errors import answer, code_of, status_of
from fedparty.flow.audit import REFUSED, Audit, Entry
from fedparty.flow.leadership.term import Term
from fedparty.flow.people import People, Principal, UserRole
from fedparty.flow.records import Job
from fedparty.jobs.code import MAX_BYTES as MAX_CODE_BYTES
from fedparty.rpc import catalogue
from fedparty.types import JobId, PartyId, initiator_of

_GUARDED = "/v1"
_CODE = "/v1/code/"
PUBLIC = frozenset({"/v1/ca"})
"""What is answered without a token."""
_SCHEME = "Bearer "
_PRINCIPAL = "fedparty.principal"
_QUIET_S = 10.0
"""How long refused tokens are only counted after one was written down: who guesses must not fill the disk."""


class Gate:
    """The checks, around an application.

    Parameters
    ----------
    app
        What lies behind.
    party
        Whose it is.
    people, audit
        Who has which token, and where refused ones are written down.
    find_job
        Returns a job, or None.
    token_place
        Where a person finds the built-in admin's token.
    limit_bytes
        Size of a request's body; that of a job's own code has a limit of its own.
    term
        In which the flow may act.
    """

    def __init__(
        self,
        app: ASGIApp,
        party: PartyId,
        people: People,
        audit: Audit,
        find_job: Callable[[JobId], Awaitable[Job | None]],
        token_place: str,
        limit_bytes: int,
        term: Term,
    ) -> None:
        self._term = term
        self._app = app
        self._party = party
        self._people = people
        self._audit = audit
        self._find_job = find_job
        self._hint = f"Show your token, or the one from {token_place}: Authorization: Bearer TOKEN; fedparty login."
        self._limit_bytes = limit_bytes
        self._refused, self._quiet_until = 0, 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request pass, or answer it."""
        if scope["type"] == "http" and self._is_guarded(scope["path"]):
            try:
                self._term.check()
                scope[_PRINCIPAL] = await self._admit(scope)
            except FedpartyError as exc:
                refusal = answer(status_of(exc), exc.message, exc.hint, code_of(exc))
                return await refusal(scope, receive, send)
        limit_bytes = self._limit_bytes
        if scope["type"] == "http" and scope["method"] == "PUT" and scope["path"].startswith(_CODE):
            limit_bytes = MAX_CODE_BYTES
        return await self._app(scope, _limited(receive, limit_bytes), send)

    async def _admit(self, scope: Scope) -> Principal:
        """Return who asks, if they may.

        Raises
        ------
        FedpartyError
            TOKEN_REFUSED, ROLE_TOO_LOW, NOT_KNOWN, or a database that cannot be read.
        """
        shown = Headers(scope=scope).get("authorization", "")
        principal = await self._people.who(shown.removeprefix(_SCHEME)) if shown.startswith(_SCHEME) else None
        if principal is None:
            error = "the token is wrong, has expired or was revoked" if shown else "the request carries no token"
            await self._write_down(error)
            raise catalogue.error("TOKEN_REFUSED", error, hint=self._hint)
        found = need_of(scope["method"], scope["path"])
        if found is not None:
            await self._check(principal, *found, f"{scope['method']} {scope['path']}")
        elif not principal.role.includes(UserRole.SITE_ADMIN):
            raise catalogue.error("NOT_KNOWN", f"there is no {scope['method']} {scope['path']}")
        return principal

    async def _check(self, principal: Principal, need: Need, names: Mapping[str, str], what: str) -> None:
        if not principal.role.includes(need.role):
            raise catalogue.error(
                "ROLE_TOO_LOW", f"{what} needs the role {need.role}, {principal.name} is {principal.role}"
            )
        if need.is_own and not principal.role.includes(UserRole.OPERATOR):
            job = await self._find_job(JobId(names["job_id"]))
            if job is not None and not is_own(job, principal, self._party):
                message = f"job {job.id} was submitted by {job.submitter or 'somebody else'}, not by {principal.name}"
                raise catalogue.error("ROLE_TOO_LOW", message)

    async def _write_down(self, why: str) -> None:
        now = time.monotonic()
        self._refused += 1
        if now < self._quiet_until:
            return
        others = f"; {self._refused - 1} more since the last entry" if self._refused > 1 else ""
        self._refused, self._quiet_until = 0, now + _QUIET_S
        await self._audit.note(Entry(f"somebody@{self._party}", "login", "REST", REFUSED, why + others))

    @staticmethod
    def _is_guarded(path: str) -> bool:
        return path not in PUBLIC and (path == _GUARDED or path.startswith(f"{_GUARDED}/"))


def _limited(receive: Receive, limit_bytes: int) -> Receive:
    left = limit_bytes

    async def limited() -> Message:
        nonlocal left
        message = await receive()
        left -= len(message.get("body", b""))
        if left < 0:
            raise HTTPException(413, f"the request is larger than {limit_bytes} bytes")
        return message

    return limited


def is_own(job: Job, principal: Principal, party: PartyId) -> bool:
    """Return whether somebody of this party submitted a job."""
    return initiator_of(job.id) == party and job.submitter.rpartition("@")[0] == principal.name


def _principal(request: Request) -> Principal:
    principal: Principal = request.scope[_PRINCIPAL]
    return principal


Asking = Annotated[Principal, Depends(_principal)]
"""Who asks, as a parameter of a path's function."""
