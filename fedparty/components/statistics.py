"""Federated statistics: count, mean, variance, histogram and quantiles of columns that lie at several sites.

Owns what is computed from sums over all members, and what is left out of the result. Its sums are those of
`fedparty.components.sharing`; `docs/statistics.md` says what each output reveals. Every member learns the same result.

A column's numbers are added up at each site, rounded once (``math.fsum``), and opened as fixed-point numbers; the
variance takes a second round over the centred values.

**Source** Corrected two-pass algorithm: Chan, Golub, LeVeque, *Algorithms for Computing the Sample Variance* (1983),
eq. 1.7. Order statistics by counting: Aggarwal, Mishra, Pinkas, *Secure Computation of the kth-Ranked Element* (2004).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import Annotated, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from fedparty.components.parameters import Parameters
from fedparty.components.requirements import Requirements, Reveals
from fedparty.components.sharing import WIDE_WORDS, decode_wide, encode_wide, open_sum
from fedparty.context import Context
from fedparty.errors import ComponentError

MIN_GROUP = 10
MAX_EDGES = 1001
_LEVEL_BITS = 8
_LEVELS = 64 // _LEVEL_BITS
_BINS = 1 << _LEVEL_BITS

Values = NDArray[np.float64]
Keys = NDArray[np.uint64]
Point = Annotated[float, Field(ge=0, le=1)]
Edge = Annotated[float, Field(allow_inf_nan=False)]


class StatisticsParameters(Parameters):
    """What a job may say; all members must be told the same, except `table`."""

    table: Annotated[str, Field(min_length=1)]
    """Name that this site's table is bound to; each party may have its own (party_parameters)."""
    columns: Annotated[list[str], Field(min_length=1, max_length=1000)]
    """Columns of numbers; every member must have them all."""
    histograms: dict[str, Annotated[list[Edge], Field(min_length=2, max_length=MAX_EDGES)]] = Field({})
    """Per column the edges of its bins, ascending; a bin holds its lower edge, the last one both."""
    min_group: Annotated[int, Field(ge=2)] = MIN_GROUP
    """A result over fewer rows, or a bin with fewer, is left out."""
    quantiles: bool = False
    """Whether minimum, maximum and quantiles are computed: each is the value of one single row."""
    quantile_points: Annotated[list[Point], Field(min_length=1, max_length=101)] = Field([0.0, 0.25, 0.5, 0.75, 1.0])
    """Which quantiles; 0 is the minimum, 1 the maximum."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        twice = sorted({column for column in self.columns if self.columns.count(column) > 1})
        if twice:
            raise ValueError(f"columns: {', '.join(twice)} is given twice")
        for column, edges in self.histograms.items():
            if column not in self.columns:
                raise ValueError(f"histograms: {column!r} is not one of the columns")
            if any(low >= high for low, high in itertools.pairwise(edges)):
                raise ValueError(f"histograms: the edges of {column!r} do not ascend")
        return self

    @property
    def common(self) -> dict[str, Any]:
        """What all members must have been told alike."""
        return self.model_dump(mode="json", exclude={"table"})


class Statistics:
    """Count, mean, variance, histogram and, if asked for, quantiles over the tables of all members."""

    Parameters: ClassVar = StatisticsParameters

    @classmethod
    def requirements(cls, parameters: StatisticsParameters) -> Requirements:
        """Say what a task with these parameters reads and reveals."""
        reveals = Reveals.INDIVIDUAL if parameters.quantiles else Reveals.AGGREGATES
        return Requirements((parameters.table,), reveals, parameters.min_group)

    def guest(self, ctx: Context) -> dict[str, Any]:
        """Compute; every member does the same and has the same result."""
        return _Computation(ctx, StatisticsParameters.read("statistics", ctx.parameters)).run()

    def host(self, ctx: Context) -> dict[str, Any]:
        """Compute; see `guest`."""
        return self.guest(ctx)


class _Computation:
    """One member's part."""

    def __init__(self, ctx: Context, parameters: StatisticsParameters) -> None:
        self._ctx = ctx
        self._parameters = parameters
        table = ctx.table(parameters.table)
        columns = {name: table.numbers(name) for name in parameters.columns}
        self._values = {name: values[~np.isnan(values)] for name, values in columns.items()}
        self._missing = {name: len(columns[name]) - len(self._values[name]) for name in columns}

    def run(self) -> dict[str, Any]:
        """Return the result: the sums of a group that is too small are never computed."""
        self._agree()
        results = self._counts()
        large = [name for name in results if results[name]["count"] is not None]
        if len(large) < len(results):
            self._ctx.log.warning(
                "left out, for fewer than %d rows: %s", self._parameters.min_group, ", ".join(set(results) - set(large))
            )
        if large:
            self._moments(results, large)
            self._histograms(results, [name for name in large if name in self._parameters.histograms])
            if self._parameters.quantiles:
                self._quantiles(results, large)
        return {"members": len(self._ctx.members), "min_group": self._parameters.min_group, "columns": results}

    def _agree(self) -> None:
        others = [member for member in self._ctx.members if member != self._ctx.member]
        if not others:
            raise ComponentError("statistics: needs at least two members", hint="Correct the job's roles.")
        own = self._parameters.common
        for other in others:
            self._ctx.send("parameters", own, to=other)
        for other in others:
            theirs = self._ctx.receive("parameters", other)
            if theirs != own:
                names = [name for name in own if not isinstance(theirs, dict) or theirs.get(name) != own[name]]
                raise ComponentError(
                    f"statistics: {other} was told other parameters: {', '.join(names)}",
                    hint="Only the table may differ between members.",
                )

    def _counts(self) -> dict[str, dict[str, Any]]:
        """Return the counts of each column, None where they are too small."""
        names = self._parameters.columns
        own = [len(self._values[name]) for name in names] + [self._missing[name] for name in names]
        totals = open_sum(self._ctx, "counts", own)
        results = {}
        for name, count, missing in zip(names, totals, totals[len(names) :], strict=False):
            is_shown = count >= self._parameters.min_group
            results[name] = {"count": count if is_shown else None, "missing": missing if is_shown else None}
        return results

    def _moments(self, results: dict[str, dict[str, Any]], names: Sequence[str]) -> None:
        sums = self._sums("sums", {name: [self._values[name]] for name in names})
        means = {name: sums[name][0] / results[name]["count"] for name in names}
        centred = {name: self._values[name] - means[name] for name in names}
        squares = self._sums("squares", {name: [values, _squares(values, name)] for name, values in centred.items()})
        for name in names:
            count, (rest, square) = results[name]["count"], squares[name]
            variance = max(0.0, (square - rest * rest / count) / (count - 1))
            results[name] |= {"mean": means[name], "variance": variance, "deviation": math.sqrt(variance)}

    def _sums(self, tag: str, columns: dict[str, list[Values]]) -> dict[str, list[float]]:
        """Return the sums over all members of each column's arrays, in one round."""
        sums = [(name, _sum(each, name)) for name in columns for each in columns[name]]
        own = [encode_wide(each, f"the sum of column {name!r}") for name, each in sums]
        totals = iter(open_sum(self._ctx, tag, own, words=WIDE_WORDS))
        return {name: [decode_wide(next(totals)) for _ in columns[name]] for name in columns}

    def _histograms(self, results: dict[str, dict[str, Any]], names: Sequence[str]) -> None:
        edges = {name: self._parameters.histograms[name] for name in names}
        own = [count for name in names for count in _binned(self._values[name], edges[name])]
        totals = iter(open_sum(self._ctx, "histograms", own)) if own else iter(())
        for name in names:
            below, *counts, above = suppressed([next(totals) for _ in range(len(edges[name]) + 1)], self._min_group)
            results[name]["histogram"] = {"edges": edges[name], "counts": counts, "below": below, "above": above}

    def _quantiles(self, results: dict[str, dict[str, Any]], names: Sequence[str]) -> None:
        points = sorted(set(self._parameters.quantile_points))
        wanted = [(name, _rank(point, results[name]["count"])) for name in names for point in points]
        found = dict(zip(wanted, self._search(wanted), strict=True))
        for name in names:
            ranks = [_rank(point, results[name]["count"]) for point in points]
            results[name]["quantiles"] = {
                str(point): found[name, rank] for point, rank in zip(points, ranks, strict=True)
            }

    def _search(self, wanted: Sequence[tuple[str, int]]) -> list[float]:
        """Return the values of given ranks: 8 rounds, each counting 256 bins within the bin that holds the value."""
        keys = {name: np.sort(_keys(self._values[name])) for name, _ in wanted}
        prefixes, below = [0] * len(wanted), [0] * len(wanted)
        for level in range(_LEVELS):
            own = [_in_bins(keys[name], prefix, level) for (name, _), prefix in zip(wanted, prefixes, strict=True)]
            totals = open_sum(self._ctx, f"quantiles.{level}", [*itertools.chain.from_iterable(own)])
            for index, (_, rank) in enumerate(wanted):
                counts = totals[index * _BINS : (index + 1) * _BINS]
                bin_, before = _bin_of(rank - below[index], counts)
                prefixes[index] = (prefixes[index] << _LEVEL_BITS) | bin_
                below[index] += before
        return [_value(prefix) for prefix in prefixes]

    @property
    def _min_group(self) -> int:
        return self._parameters.min_group


def suppressed(counts: Sequence[int], min_group: int) -> list[int | None]:
    """Return counts without the small ones, and without as many others as it takes that those cannot be computed.

    A count of 0 is shown: it is about nobody. The counts' sum is known. Where only one is left out, or all that are
    left out stand for fewer than `min_group` rows, the smallest of the others is left out too (complementary
    suppression).
    """
    shown: list[int | None] = [None if 0 < count < min_group else count for count in counts]
    while True:
        hidden = [count for count, each in zip(counts, shown, strict=True) if each is None]
        others = [each for each in shown if each]
        if not hidden or not others or (len(hidden) > 1 and sum(hidden) >= min_group):
            return shown
        shown[shown.index(min(others))] = None


def _sum(values: Values, name: str) -> float:
    try:
        return math.fsum(values.tolist())
    except OverflowError as exc:
        raise ComponentError(f"the sum of column {name!r} is too large", hint="Scale the column down.") from exc


def _squares(values: Values, name: str) -> Values:
    with np.errstate(over="ignore"):
        squares = values * values
    if not np.isfinite(squares).all():
        raise ComponentError(f"the squares of column {name!r} are too large", hint="Scale the column down.")
    return squares


def _binned(values: Values, edges: Sequence[float]) -> list[int]:
    """Return how many values are below the first edge, in each bin, above the last edge."""
    counts, _ = np.histogram(values, bins=np.array(edges))
    return [int((values < edges[0]).sum()), *counts.tolist(), int((values > edges[-1]).sum())]


def _rank(point: float, count: int) -> int:
    """Return the quantile's place in ascending order, from 1 on: the first with `point` of all values up to it."""
    return max(1, math.ceil(Fraction(str(point)) * count))


def _keys(values: Values) -> Keys:
    """Return whole numbers in the same order as the values."""
    bits = (values + 0.0).view(np.uint64)  # -0.0 becomes 0.0
    sign = np.uint64(1 << 63)
    return np.where(bits & sign, ~bits, bits | sign)


def _value(key: int) -> float:
    bits = key ^ (1 << 63) if key >> 63 else key ^ ((1 << 64) - 1)
    return float(np.array([bits], dtype=np.uint64).view(np.float64)[0])


def _in_bins(keys: Keys, prefix: int, level: int) -> Iterable[int]:
    """Return how many keys begin with `prefix` and then each of the 256 next bytes; `keys` ascend."""
    shift = 64 - _LEVEL_BITS * (level + 1)
    lowest = np.array([((prefix << _LEVEL_BITS) | each) << shift for each in range(_BINS)], dtype=np.uint64)
    highest = np.uint64((((prefix + 1) << _LEVEL_BITS) << shift) - 1)
    starts = np.searchsorted(keys, lowest).tolist()
    ends = [*starts[1:], int(np.searchsorted(keys, highest, side="right"))]
    return (end - start for start, end in zip(starts, ends, strict=True))


def _bin_of(rank: int, counts: Sequence[int]) -> tuple[int, int]:
    """Return the bin that holds the value of a rank, and how many values lie in the bins before it."""
    before = 0
    for index, count in enumerate(counts):
        if before + count >= rank:
            return index, before
        before += count
    raise ComponentError(
        "statistics: the members' counts changed while they were counted", hint="All members must run the same release."
    )
