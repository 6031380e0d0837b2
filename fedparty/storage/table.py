"""A table as a component sees it: named columns of numbers or text, some values missing.

Owns the columns' types and what a missing value looks like. Does not own files (`reading`).
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedparty.errors import ComponentError

MAX_EXACT = 2**53
"""Whole numbers up to here are exact as float64; a column with a larger one is text."""


class Type(StrEnum):
    """What the values of a column are."""

    INTEGER = "integer"
    """Whole numbers between -2^53 and 2^53."""
    NUMBER = "number"
    TEXT = "text"


@dataclass(frozen=True)
class Column:
    """A column's name and type."""

    name: str
    type: Type


class Table:
    """Columns of equal length. Read-only: the arrays it returns are copies.

    Parameters
    ----------
    name
        By which a job asks for it; for messages.
    values
        Per column ``(n,) int64``, ``(n,) float64`` with NaN for what is missing, or ``(n,) object`` of text and None.
    id_column
        The column that identifies a row, if there is one.

    Raises
    ------
    ComponentError
        The columns are not equally long, or none is `id_column`.
    """

    def __init__(self, name: str, values: Mapping[str, NDArray[Any]], id_column: str | None = None) -> None:
        self.name = name
        self._values = {column: np.asarray(each) for column, each in values.items()}
        lengths = {len(each) for each in self._values.values()}
        if len(lengths) > 1:
            raise ComponentError(
                f"table {name!r}: its columns have {', '.join(map(str, sorted(lengths)))} rows",
                hint="All columns of a table are equally long.",
            )
        self.rows = lengths.pop() if lengths else 0
        self.id_column = id_column
        if id_column is not None:
            self._known(id_column)

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns in the file's order."""
        return tuple(Column(name, _type_of(values)) for name, values in self._values.items())

    def column(self, name: str) -> NDArray[Any]:
        """Return a column.

        Returns
        -------
        ``(rows,) int64`` for whole numbers none of which is missing; ``(rows,) float64`` for other numbers, NaN where
        one is missing; ``(rows,) object`` of text, None where it is missing.

        Raises
        ------
        ComponentError
            There is no such column.
        """
        return self._known(name).copy()

    def numbers(self, name: str) -> NDArray[np.float64]:
        """Return a column of numbers, ``(rows,) float64``, NaN where one is missing.

        Raises
        ------
        ComponentError
            There is no such column, or it is text.
        """
        values = self._known(name)
        if _type_of(values) is Type.TEXT:
            raise ComponentError(
                f"table {self.name!r}: the column {name!r} is text, not numbers",
                hint="Look at its types: fedparty table show; one cell that is no number makes a column text.",
            )
        return values.astype(np.float64)

    def is_missing(self, name: str) -> NDArray[np.bool_]:
        """Return where a column has no value, ``(rows,) bool``.

        Raises
        ------
        ComponentError
            There is no such column.
        """
        values = self._known(name)
        if _type_of(values) is Type.TEXT:
            return np.array([value is None for value in values], dtype=np.bool_)
        return np.isnan(values.astype(np.float64))

    def __repr__(self) -> str:
        return f"Table({self.name!r}, {self.rows} rows, {len(self._values)} columns)"

    def _known(self, name: str) -> NDArray[Any]:
        if name not in self._values:
            raise ComponentError(
                f"table {self.name!r} has no column {name!r}", hint=_known_hint(name, tuple(self._values))
            )
        return self._values[name]


def _type_of(values: NDArray[Any]) -> Type:
    if values.dtype.kind in "iu":
        return Type.INTEGER
    return Type.NUMBER if values.dtype.kind == "f" else Type.TEXT


def _known_hint(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, 1)
    columns = ", ".join(known[:20]) + (", …" if len(known) > 20 else "")
    return f"Did you mean {near[0]!r}?" if near else f"Its columns are {columns}."
