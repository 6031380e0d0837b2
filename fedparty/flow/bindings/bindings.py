"""The tables of a party, and which of them a task may read.

Owns the rules of names, and that a task sees the tables that its parameters name and no others.
"""

from __future__ import annotations

import difflib
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from fedparty.components.parameters import tables_of
from fedparty.rpc import catalogue
from fedparty.storage.source import Source
from fedparty.types import PartyId

TABLE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


@dataclass(frozen=True)
class Binding:
    """A table's name, what it stands for, and since when (seconds since 1970)."""

    source: Source
    bound_at: float


class Records(Protocol):
    """Where bindings are kept."""

    async def put(self, binding: Binding) -> None:
        """Keep a binding, in the place of one of the same name."""

    async def get(self, names: Sequence[str]) -> tuple[Binding, ...]:
        """Return those of these names that there are."""

    async def all(self) -> tuple[Binding, ...]:
        """Return all, by name."""

    async def remove(self, name: str) -> bool:
        """Forget one; return whether there was one."""


class Reader(Protocol):
    """Who can read the files: the worker."""

    async def describe_table(self, name: str, path: str, id_column: str | None) -> Source:
        """Return what is in a file."""


class Bindings:
    """The tables of a party.

    Parameters
    ----------
    party
        Whose they are.
    records, reader
        Where they are kept, and who reads the files.
    """

    def __init__(self, party: PartyId, records: Records, reader: Reader) -> None:
        self._party = party
        self._records = records
        self._reader = reader

    async def bind(self, name: str, path: str, id_column: str | None) -> Binding:
        """Read a file, and let a name stand for it from now on; a name that is bound already is bound anew.

        Raises
        ------
        RpcError
            BAD_REQUEST: the name or the file cannot be used. Or the worker service does not answer.
        """
        if not TABLE_NAME.fullmatch(name):
            hint = "Use up to 64 letters, digits, '.', '_', '-'; the first a letter or digit."
            raise catalogue.error("BAD_REQUEST", f"{name[:80]!r} is no name for a table", hint=hint)
        binding = Binding(await self._reader.describe_table(name, path, id_column), time.time())
        await self._records.put(binding)
        return binding

    async def all(self) -> tuple[Binding, ...]:
        """Return every table, by name."""
        return await self._records.all()

    async def show(self, name: str) -> Binding:
        """Return one table.

        Raises
        ------
        RpcError
            NOT_KNOWN: there is none of this name.
        """
        found = await self._records.get([name])
        if not found:
            raise await self._unknown(name)
        return found[0]

    async def unbind(self, name: str) -> None:
        """Forget a table; its file stays, and tasks that have started may go on reading it.

        Raises
        ------
        RpcError
            NOT_KNOWN: there is none of this name.
        """
        if not await self._records.remove(name):
            raise await self._unknown(name)

    async def of(self, parameters: Mapping[str, Any]) -> tuple[Source, ...]:
        """Return what a task with these parameters may read.

        Raises
        ------
        RpcError
            NOT_KNOWN: it names a table that is not bound here.
        """
        names = tables_of(parameters)
        found = {binding.source.name: binding.source for binding in await self._records.get(names)} if names else {}
        for name in names:
            if name not in found:
                raise await self._unknown(name)
        return tuple(found[name] for name in names)

    async def _unknown(self, name: str) -> Exception:
        near = difflib.get_close_matches(name, [each.source.name for each in await self._records.all()], 1)
        hint = f"Did you mean {near[0]!r}? " if near else ""
        return catalogue.error(
            "NOT_KNOWN",
            f"party {self._party} has no table {name[:80]!r}",
            hint=f"{hint}At party {self._party}: fedparty table list; fedparty table bind NAME PATH.",
        )
