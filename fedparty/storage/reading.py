"""CSV and Parquet files as tables.

Owns the formats: which cells count as missing, how a column's type is found. CSV needs nothing beyond NumPy; Parquet
needs the extra ``fedparty[parquet]``.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedparty.errors import ConfigurationError
from fedparty.storage.source import Source, locate, unchanged
from fedparty.storage.table import MAX_EXACT, Table

MISSING = frozenset({"", "NA", "N/A", "NaN", "nan", "null", "NULL"})
"""Cells that are no value; spaces around a cell do not count."""


def describe(root: Path, name: str, path: str, id_column: str | None) -> Source:
    """Read a file once, and return what is in it.

    Parameters
    ----------
    root
        The site's folder for tables.
    name, path, id_column
        As in `Source`; `path` may also be absolute.

    Raises
    ------
    ConfigurationError
        The file may not be read, is no table, or its identifiers are missing or given twice.
    """
    found = locate(root, path)
    before = found.stat()
    table = read_file(found, name, id_column)
    _check_id(table)
    return Source(
        name=name,
        path=str(found.relative_to(root.resolve())),
        size_bytes=before.st_size,
        modified_ns=before.st_mtime_ns,
        rows=table.rows,
        columns=table.columns,
        id_column=id_column,
    )


def read(root: Path, source: Source) -> Table:
    """Return the table of a source.

    Raises
    ------
    ConfigurationError
        The file is not as it was when it was bound.
    """
    return read_file(unchanged(root, source), source.name, source.id_column)


def read_file(path: Path, name: str, id_column: str | None = None) -> Table:
    """Return a file as a table; its ending says what it is.

    Raises
    ------
    ConfigurationError
        It is neither CSV nor Parquet, or damaged.
    """
    readers: Mapping[str, Callable[[Path], dict[str, NDArray[Any]]]] = {".csv": _csv, ".parquet": _parquet}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise ConfigurationError(
            f"{path.name}: a table is a file that ends in {' or '.join(readers)}", hint="Convert it, or rename it."
        )
    values = reader(path)
    if id_column is not None and id_column not in values:
        raise ConfigurationError(
            f"{path.name} has no column {id_column!r}", hint=f"Its columns are {', '.join(list(values)[:20])}."
        )
    return Table(name, values, id_column)


def _csv(path: Path) -> dict[str, NDArray[Any]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return _columns(path, csv.reader(file, strict=True))
    except UnicodeDecodeError as exc:
        raise ConfigurationError(f"{path.name} is not UTF-8: {exc.reason}", hint="Save it as UTF-8.") from exc
    except csv.Error as exc:
        raise ConfigurationError(f"{path.name} is not CSV: {exc}", hint="Separate cells by commas.") from exc


def _columns(path: Path, lines: Iterator[list[str]]) -> dict[str, NDArray[Any]]:
    header = [cell.strip() for cell in next(lines, [])]
    if not header or "" in header or len(set(header)) < len(header):
        raise ConfigurationError(
            f"{path.name}:1: the first line must name every column, each name once",
            hint="Write a header, with commas between the names.",
        )
    cells: list[list[str]] = [[] for _ in header]
    for number, line in enumerate(lines, 2):
        if not line:
            continue
        if len(line) != len(header):
            raise ConfigurationError(
                f"{path.name}: row {number} has {len(line)} cells, the header has {len(header)}",
                hint="Put a cell with a comma into double quotes.",
            )
        for column, cell in zip(cells, line, strict=True):
            column.append(cell.strip())
    return {name: _typed(column) for name, column in zip(header, cells, strict=True)}


def _typed(cells: Sequence[str]) -> NDArray[Any]:
    """Return cells as whole numbers if all are, else as numbers, else as text."""
    try:
        numbers = [math.nan if cell in MISSING else float(cell) for cell in cells]
    except ValueError:
        return _text(cells)
    if any(math.isinf(number) for number in numbers) or any("_" in cell for cell in cells):
        return _text(cells)
    present = [cell for cell in cells if cell not in MISSING]
    is_whole = all(cell.lstrip("+-").isdecimal() for cell in present)
    if is_whole and any(abs(int(cell)) > MAX_EXACT for cell in present):
        return _text(cells)
    values = np.array(numbers, dtype=np.float64)
    return values.astype(np.int64) if is_whole and len(present) == len(cells) else values


def _text(cells: Sequence[str]) -> NDArray[Any]:
    values = np.empty(len(cells), dtype=object)
    values[:] = [None if cell in MISSING else cell for cell in cells]
    return values


def _parquet(path: Path) -> dict[str, NDArray[Any]]:
    try:
        from pyarrow import ArrowException, parquet  # type: ignore[import-not-found, import-untyped, unused-ignore]
    except ImportError as exc:
        raise ConfigurationError(
            f"{path.name}: reading Parquet needs a package that is not installed here",
            hint="Install fedparty[parquet] where the worker runs, or save the table as CSV.",
        ) from exc
    try:
        found = parquet.ParquetFile(path).read()
    except (ArrowException, OSError) as exc:
        raise ConfigurationError(f"{path.name} is not a Parquet file: {exc}", hint="Write it again.") from exc
    return {name: _from_arrow(path, name, found.column(name)) for name in found.column_names}


def _from_arrow(path: Path, name: str, column: Any) -> NDArray[Any]:
    from pyarrow import types

    kind = column.type
    if types.is_boolean(kind) or types.is_integer(kind):
        values = column.cast("int64").to_pylist()
        if any(value is not None and abs(value) > MAX_EXACT for value in values):
            return _text([str(value) if value is not None else "" for value in values])
        if column.null_count == 0:
            return np.array(values, dtype=np.int64)
        return np.array([math.nan if value is None else value for value in values], dtype=np.float64)
    if types.is_floating(kind):
        return np.array([math.nan if value is None else value for value in column.to_pylist()], dtype=np.float64)
    if types.is_string(kind) or types.is_large_string(kind) or types.is_dictionary(kind):
        return _text(["" if value is None else str(value) for value in column.to_pylist()])
    raise ConfigurationError(
        f"{path.name}: the column {name!r} is of type {kind}", hint="Keep numbers, truth values and text; drop others."
    )


def _check_id(table: Table) -> None:
    if table.id_column is None:
        return
    values = table.column(table.id_column)
    if table.is_missing(table.id_column).any() or len(set(values.tolist())) < table.rows:
        raise ConfigurationError(
            f"table {table.name!r}: the column {table.id_column!r} does not identify its rows",
            hint="Every row needs an identifier, and each only once.",
        )
