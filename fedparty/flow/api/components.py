"""REST: which components there are.

Owns the paths under ``/v1/components``. Does not own what is told: `fedparty.components.registry`.
"""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, JsonValue

from fedparty.components import registry
from fedparty.components.registry import Description
from fedparty.errors import ComponentError
from fedparty.flow.api.backend import Backend
from fedparty.flow.api.views import ErrorView
from fedparty.rpc import catalogue

_UNKNOWN: dict[int | str, dict[str, Any]] = {404: {"model": ErrorView}}


class ParameterView(BaseModel):
    """One parameter of a component."""

    name: str
    type: str
    summary: str
    is_required: bool
    default: JsonValue


class ComponentSummary(BaseModel):
    """A component, without its parameters."""

    name: str
    version: str
    package: str
    summary: str
    roles: list[str]
    fault: str
    """Why it cannot be used; empty: it can."""


class ComponentView(ComponentSummary):
    """A component."""

    parameters: list[ParameterView] | None
    """None: it does not say which it takes."""
    parameters_schema: dict[str, JsonValue]
    """The same as JSON schema."""


class ComponentsView(BaseModel):
    """Components, by name."""

    components: list[ComponentSummary]


def router(_backend: Backend) -> APIRouter:
    """Return the paths."""
    routes = APIRouter(prefix="/v1/components", tags=["components"])

    @routes.get("")
    async def list_components() -> ComponentsView:
        """List the components that are installed at this party."""
        found = await asyncio.to_thread(registry.described)
        return ComponentsView(components=[ComponentSummary(**_summary(each)) for each in found])

    @routes.get("/{name}", responses=_UNKNOWN)
    async def describe(name: str) -> ComponentView:
        """Show one component, with its parameters."""
        try:
            found = await asyncio.to_thread(registry.describe, name)
        except ComponentError as exc:
            raise catalogue.error("NOT_KNOWN", exc.message, hint=exc.hint) from exc
        parameters = None if found.parameters is None else [ParameterView(**vars(each)) for each in found.parameters]
        return ComponentView(**_summary(found), parameters=parameters, parameters_schema=dict(found.schema))

    return routes


def _summary(found: Description) -> dict[str, Any]:
    return {
        "name": found.name,
        "version": found.version,
        "package": found.package,
        "summary": found.summary,
        "roles": list(found.roles),
        "fault": found.fault,
    }
