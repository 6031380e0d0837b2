"""REST: the audit log.

Owns the paths under ``/v1/audit``. Does not own the log.
"""

from __future__ import annotations

import json
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel

from fedparty.flow.api.backend import Backend


class AuditView(BaseModel):
    """The newest entries, oldest first."""

    entries: list[dict[str, Any]]


class VerdictView(BaseModel):
    """Whether the log is as it was written."""

    entries: int
    """As far as the chain holds."""
    head: str
    """SHA-256 of the last of these."""
    fault: str
    """What does not fit, and at which line; empty: nothing."""


def router(backend: Backend) -> APIRouter:
    """Return the paths."""
    routes = APIRouter(prefix="/v1/audit", tags=["audit"])

    @routes.get("")
    async def show(limit: Annotated[int, Query(ge=1, le=1000)] = 100) -> AuditView:
        """Show the newest entries of the audit log."""
        return AuditView(entries=[_entry(line) for line in await backend.audit.newest(limit)])

    @routes.get("/verdict")
    async def verify() -> VerdictView:
        """Check every line of the audit log against the one before it, and its end against the database."""
        verdict = await backend.audit.verify()
        return VerdictView(entries=verdict.head.sequence, head=verdict.head.digest, fault=verdict.fault)

    return routes


def _entry(line: bytes) -> dict[str, Any]:
    """Return an entry; a line that somebody damaged is shown as it is."""
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        entry = None
    return entry if isinstance(entry, dict) else {"damaged": line[:1000].decode(errors="backslashreplace")}
