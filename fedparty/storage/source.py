"""Which file a table's name stands for, and what the file was like when the name was bound to it.

Owns where such files may lie: below the site's own folder for tables, links followed. Does not own their format
(`reading`).
"""

from __future__ import annotations

import stat
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fedparty.errors import ConfigurationError
from fedparty.storage.table import Column, Type


@dataclass(frozen=True)
class Source:
    """A file that tasks may read as a table.

    Parameters
    ----------
    name
        The table's name.
    path
        The file, relative to the site's folder for tables, no link left in it.
    size_bytes, modified_ns
        What the file was like when it was bound; one that differs is not read.
    rows, columns
        What is in it.
    id_column
        The column that identifies a row.
    """

    name: str
    path: str
    size_bytes: int
    modified_ns: int
    rows: int
    columns: tuple[Column, ...]
    id_column: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Source:
        """Read what `to_json` returned."""
        columns = tuple(Column(each["name"], Type(each["type"])) for each in values["columns"])
        return cls(**{**values, "columns": columns})


def locate(root: Path, path: str) -> Path:
    """Return the file that a person means, every link followed.

    Parameters
    ----------
    root
        The site's folder for tables; it may be a link itself.
    path
        Below it, or absolute.

    Raises
    ------
    ConfigurationError
        The folder or the file is not there, is no file, or lies elsewhere once links are followed.
    """
    folder = _folder(root)
    if ".." in Path(path).parts or "\0" in path:
        raise ConfigurationError(f"table file {path!r}: '..' is not followed", hint=f"Give a path below {folder}.")
    try:
        found = (folder / path).resolve(strict=True)
        is_file = stat.S_ISREG(found.stat().st_mode)
    except (OSError, RuntimeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "its links go round in circles"
        raise ConfigurationError(
            f"table file {path!r}: {reason}", hint=f"Put the file below {folder}, where the worker can read it."
        ) from exc
    if not found.is_relative_to(folder):
        raise ConfigurationError(
            f"table file {path!r} lies outside {folder}",
            hint=f"Tasks read only what lies there: copy it, or let {root} be a link to where the data is.",
        )
    if not is_file:
        raise ConfigurationError(f"table file {path!r} is not a file", hint="Give one CSV or Parquet file.")
    return found


def unchanged(root: Path, source: Source) -> Path:
    """Return the file of a source, which must be as it was when it was bound.

    Raises
    ------
    ConfigurationError
        It is gone, was moved out of the folder, or has changed.
    """
    found = locate(root, source.path)
    now = found.stat()
    if (now.st_size, now.st_mtime_ns) != (source.size_bytes, source.modified_ns):
        raise ConfigurationError(
            f"table {source.name!r}: the file {source.path} has changed since it was bound",
            hint=f"If that is right, bind it again: fedparty table bind {source.name} {source.path}",
        )
    return found


def _folder(root: Path) -> Path:
    try:
        return root.resolve(strict=True)
    except (OSError, RuntimeError) as exc:
        raise ConfigurationError(
            f"this site has no folder for tables: {root} is not there",
            hint="Process engine: make data/tables in the party's home (it may be a link). Containers: set data_dir in "
            "parties.conf, and deploy.",
        ) from exc
