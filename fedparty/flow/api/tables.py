"""REST: the tables that this party's tasks may read.

Owns the paths under ``/v1/tables``. Does not own what they do: `fedparty.flow.bindings`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from fedparty.flow.api.backend import Backend
from fedparty.flow.api.views import ErrorView
from fedparty.flow.bindings import Binding

_UNKNOWN: dict[int | str, dict[str, Any]] = {404: {"model": ErrorView}}
_REFUSED: dict[int | str, dict[str, Any]] = {400: {"model": ErrorView}, 503: {"model": ErrorView}}


class BindRequest(BaseModel):
    """Which file a name is to stand for."""

    model_config = ConfigDict(extra="forbid")

    path: Annotated[str, Field(min_length=1, max_length=4096)]
    """Below the site's folder for tables, or absolute."""
    id_column: Annotated[str, Field(min_length=1, max_length=1000)] | None = None
    """The column that identifies a row."""


class ColumnView(BaseModel):
    """A column."""

    name: str
    type: str


class TableView(BaseModel):
    """A table."""

    name: str
    path: str
    rows: int
    columns: list[ColumnView]
    id_column: str | None
    size_bytes: int
    bound_at: datetime


class TablesView(BaseModel):
    """Tables, by name."""

    tables: list[TableView]


def router(backend: Backend) -> APIRouter:
    """Return the paths."""
    routes = APIRouter(prefix="/v1/tables", tags=["tables"])

    @routes.get("")
    async def list_tables() -> TablesView:
        """List the tables that are bound at this party."""
        return TablesView(tables=[_view(each) for each in await backend.site.bindings.all()])

    @routes.get("/{name}", responses=_UNKNOWN)
    async def show(name: str) -> TableView:
        """Show one table."""
        return _view(await backend.site.bindings.show(name))

    @routes.put("/{name}", responses=_REFUSED)
    async def bind(name: str, request: BindRequest) -> TableView:
        """Let a name stand for a file; a name that is bound already is bound anew."""
        return _view(await backend.site.bindings.bind(name, request.path, request.id_column))

    @routes.delete("/{name}", status_code=204, responses=_UNKNOWN)
    async def unbind(name: str) -> None:
        """Forget a table; its file stays."""
        await backend.site.bindings.unbind(name)

    return routes


def _view(binding: Binding) -> TableView:
    source = binding.source
    return TableView(
        name=source.name,
        path=source.path,
        rows=source.rows,
        columns=[ColumnView(name=column.name, type=column.type) for column in source.columns],
        id_column=source.id_column,
        size_bytes=source.size_bytes,
        bound_at=datetime.fromtimestamp(binding.bound_at, UTC),
    )
