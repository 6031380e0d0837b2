"""One line for each figure: what was measured, its limit, and whether it holds.

Owns the printing only; each benchmark beside this file owns what it measures.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter


@dataclass(frozen=True)
class Figure:
    """A measured value beside its limit.

    Parameters
    ----------
    name
        What was measured.
    value, unit
        The figure.
    limit
        What it must reach; None for a figure that only informs.
    is_minimum
        True where more is better.
    note
        What it is compared with, or how it was measured.
    """

    name: str
    value: float
    unit: str
    limit: float | None = None
    is_minimum: bool = False
    note: str = ""

    @property
    def is_reached(self) -> bool:
        """Tell whether the limit, if there is one, holds."""
        if self.limit is None:
            return True
        return self.value >= self.limit if self.is_minimum else self.value <= self.limit

    def __str__(self) -> str:
        sign = "≥" if self.is_minimum else "≤"
        limit = f"{sign} {self.limit:g} {self.unit}" if self.limit is not None else "-"
        verdict = "" if self.limit is None else ("ok" if self.is_reached else "FALLS SHORT")
        return f"{self.name:<66} {self.value:>9.3g} {self.unit:<6} {limit:<14} {verdict:<12} {self.note}".rstrip()


def show(figures: list[Figure]) -> None:
    """Print the figures, one a line."""
    for figure in figures:
        print(figure, flush=True)


def median_s(action: Callable[[], object], runs: int) -> float:
    """Return the median wall time in seconds of `runs` calls of `action`."""
    times = []
    for _ in range(runs):
        start = perf_counter()
        action()
        times.append(perf_counter() - start)
    return statistics.median(times)
