"""A job's figures for people: as lines, as a table, and as TensorBoard event files.

Owns how a figure looks and the layout of the event files: one folder a role of an attempt. Does not own the figures.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Any

from fedparty.errors import NotAvailableError


def line(figure: Mapping[str, Any]) -> str:
    """Return a figure as a line of text."""
    step = "" if figure["step"] is None else f" step {figure['step']}"
    where = f"{figure['task']}/{figure['attempt']}/{figure['role']}"
    return f"{figure['time'][11:23]} {where}{step} {figure['name']} {_value(figure):.10g}"


def _value(figure: Mapping[str, Any]) -> float:
    """Return a figure's value; what is no finite number travels as null."""
    return math.nan if figure["value"] is None else float(figure["value"])


def write_table(figures: Iterable[Mapping[str, Any]], path: Path) -> None:
    """Write figures as CSV, one a line; what is no finite number is ``nan``."""
    columns = ("time", "task", "attempt", "role", "name", "step", "value")
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows([*(figure[key] for key in columns[:-1]), _value(figure)] for figure in figures)


def write_events(figures: Iterable[Mapping[str, Any]], folder: Path) -> int:
    """Write figures as event files below `folder`; return how many there were. They are readable while it goes on.

    A figure without a step has its place in the order as one.

    Raises
    ------
    NotAvailableError
        The extra ``fedparty[tensorboard]`` is not installed.
    """
    try:
        from tensorboardX import SummaryWriter  # type: ignore[import-not-found, import-untyped, unused-ignore]
    except ImportError as exc:
        raise NotAvailableError(
            "writing TensorBoard files needs a package that is not installed here",
            hint="pip install 'fedparty[tensorboard]'",
        ) from exc
    writers: dict[tuple[str, str, str], Any] = {}
    seen: dict[tuple[tuple[str, str, str], str], int] = {}
    with ExitStack() as stack:
        for figure in figures:
            where = (figure["task"], str(figure["attempt"]), figure["role"])
            if where not in writers:
                writers[where] = stack.enter_context(SummaryWriter(str(folder.joinpath(*where)), flush_secs=1))
            place = seen[where, figure["name"]] = seen.get((where, figure["name"]), -1) + 1
            step = place if figure["step"] is None else figure["step"]
            at = datetime.fromisoformat(figure["time"]).timestamp()
            writers[where].add_scalar(figure["name"], _value(figure), step, walltime=at)
    return sum(seen.values()) + len(seen)
