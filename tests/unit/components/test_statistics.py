"""Federated statistics against NumPy on the pooled data."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fedparty.components.requirements import Requirements, Reveals, requirements
from fedparty.components.statistics import Statistics, StatisticsParameters, suppressed
from fedparty.context import run_in_process
from fedparty.errors import ComponentError, JobError
from fedparty.storage.table import Table
from fedparty.types import Member, PartyId

MEMBERS = [Member("guest", PartyId("10000")), Member("host", PartyId("9999")), Member("host", PartyId("9998"))]
Columns = dict[str, NDArray[Any]]


def compute(parts: list[Columns], **parameters: Any) -> dict[str, Any]:
    """Run the component with one table a member, and return what all of them have in common."""
    members = MEMBERS[: len(parts)]
    tables = {member: {"t": Table("t", part)} for member, part in zip(members, parts, strict=True)}
    given = {"table": "t", "columns": list(parts[0]), **parameters}
    results = run_in_process(Statistics, "statistics", members, given, tables=tables)
    assert all(result == results[members[0]] for result in results.values())
    return results[members[0]]


def split(values: NDArray[Any], parties: int) -> list[Columns]:
    return [{"x": part} for part in np.array_split(values, parties)]


number = st.floats(-1e15, 1e15).map(lambda value: value if abs(value) > 1e-30 else 0.0)  # below, squares lose digits
numbers = st.lists(number, min_size=10, max_size=60)


@settings(max_examples=40, deadline=None)
@given(numbers, st.integers(2, 3))
def test_count_mean_and_variance_are_those_of_the_pooled_data(values: list[float], parties: int):
    pooled = np.array(values)
    column = compute(split(pooled, parties))["columns"]["x"]
    scale = float(np.abs(pooled).max())
    assert column["count"] == len(pooled)
    assert column["mean"] == pytest.approx(float(np.mean(pooled)), rel=1e-12, abs=1e-15 * scale)
    assert column["variance"] == pytest.approx(float(np.var(pooled, ddof=1)), rel=1e-9, abs=1e-28 * scale**2)
    assert column["deviation"] == math.sqrt(column["variance"])


@settings(max_examples=25, deadline=None)
@given(numbers, st.integers(2, 3))
def test_quantiles_are_exact_order_statistics(values: list[float], parties: int):
    pooled = np.array(values)
    column = compute(split(pooled, parties), quantiles=True)["columns"]["x"]
    for point, value in column["quantiles"].items():
        assert value == np.quantile(pooled, float(point), method="inverted_cdf")


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(-50, 50), min_size=10, max_size=200), st.integers(2, 3))
def test_a_histogram_counts_as_numpy_does(values: list[int], parties: int):
    pooled = np.array(values, dtype=np.int64)
    edges = [-20.0, -5.0, 0.0, 5.0, 20.0]
    histogram = compute(split(pooled, parties), histograms={"x": edges})["columns"]["x"]["histogram"]
    expected = [int((pooled < -20).sum()), *np.histogram(pooled, edges)[0].tolist(), int((pooled > 20).sum())]
    found = [histogram["below"], *histogram["counts"], histogram["above"]]
    assert found == suppressed(expected, 10)


def test_numbers_of_very_different_size_lose_nothing():
    large, small = 1e15 + np.arange(20.0), np.arange(20.0) * 1e-20
    columns = compute([{"l": large[:7], "s": small[:7]}, {"l": large[7:], "s": small[7:]}])["columns"]
    assert columns["l"]["variance"] == 35.0
    assert columns["s"]["variance"] == pytest.approx(35e-40, rel=1e-12)
    assert columns["s"]["mean"] == pytest.approx(9.5e-20, rel=1e-14)


def test_missing_values_are_counted_and_left_out():
    pooled = np.array([math.nan if i % 4 == 0 else i for i in range(40)], dtype=np.float64)
    column = compute(split(pooled, 2))["columns"]["x"]
    assert (column["count"], column["missing"]) == (30, 10)
    assert column["mean"] == pytest.approx(float(np.nanmean(pooled)))


def test_a_small_group_is_left_out_and_the_rest_computed():
    parts = [{"few": np.array([1.0, math.nan, math.nan, 2.0, 3.0]), "all": np.arange(5)} for _ in range(3)]
    columns = compute(parts)["columns"]
    assert columns["few"] == {"count": None, "missing": None}
    assert columns["all"]["count"] == 15
    assert columns["all"]["variance"] == pytest.approx(np.var(np.tile(np.arange(5), 3), ddof=1))


def test_no_sum_over_a_small_group_ever_leaves_a_member(monkeypatch: pytest.MonkeyPatch):
    from fedparty.context import InProcessContext

    tags: set[str] = set()
    send = InProcessContext.send

    def record(self: InProcessContext, tag: str, value: Any, to: Any) -> None:
        tags.add(tag)
        send(self, tag, value, to)

    monkeypatch.setattr(InProcessContext, "send", record)
    compute(split(np.arange(9.0), 2), quantiles=True, histograms={"x": [0.0, 9.0]})
    assert tags == {"parameters", "counts.share", "counts.sum"}


def test_by_default_nothing_tells_of_a_single_row():
    column = compute(split(np.arange(30.0), 2))["columns"]["x"]
    assert set(column) == {"count", "missing", "mean", "variance", "deviation"}
    given = {"table": "t", "columns": ["x"]}
    assert requirements("statistics", given) == Requirements(("t",), Reveals.AGGREGATES, 10)
    assert requirements("statistics", given | {"quantiles": True}).reveals is Reveals.INDIVIDUAL
    assert requirements("secure_sum", {}) == Requirements((), Reveals.NOTHING)


@pytest.mark.parametrize(
    ("counts", "shown"),
    [
        ([20, 30, 40], [20, 30, 40]),
        ([20, 3, 40], [None, None, 40]),
        ([20, 3, 8], [20, None, None]),
        ([2, 3, 40], [None, None, None]),
        ([2, 3, 40, 12], [None, None, 40, None]),
        ([0, 0, 20], [0, 0, 20]),
        ([0, 3, 20, 30], [0, None, None, 30]),
        ([0, 0, 0], [0, 0, 0]),
        ([5], [None]),
        ([], []),
    ],
)
def test_a_count_that_is_left_out_cannot_be_computed_from_the_others(counts: list[int], shown: list[int | None]):
    assert suppressed(counts, 10) == shown


@given(st.lists(st.integers(0, 40), min_size=1, max_size=8))
def test_what_is_left_out_is_never_one_alone_nor_too_few(counts: list[int]):
    shown = suppressed(counts, 10)
    hidden = [count for count, each in zip(counts, shown, strict=True) if each is None]
    assert all(each is None or each == 0 or each >= 10 for each in shown)
    assert not hidden or not any(shown) or (len(hidden) > 1 and sum(hidden) >= 10)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"columns": ["x"]}, "statistics: the parameter 'table' is missing"),
        ({"table": "t", "colums": ["x"]}, "statistics: unknown parameter 'colums'"),
        ({"table": "t", "columns": []}, "statistics: columns is []"),
        ({"table": "t", "columns": ["x"], "min_group": 1}, "statistics: min_group is 1"),
        ({"table": "t", "columns": ["x"], "quantiles": "yes"}, "statistics: quantiles is 'yes'"),
        ({"table": "t", "columns": ["x", "x"]}, "columns: x is given twice"),
        ({"table": "t", "columns": ["x"], "histograms": {"y": [0, 1]}}, "histograms: 'y' is not one of the columns"),
        ({"table": "t", "columns": ["x"], "histograms": {"x": [1, 0]}}, "the edges of 'x' do not ascend"),
        ({"table": "t", "columns": ["x"], "histograms": {"x": [0, math.inf]}}, "histograms.x.1 is inf"),
    ],
)
def test_wrong_parameters_are_named(given: dict[str, Any], message: str):
    with pytest.raises(ComponentError) as told:
        StatisticsParameters.read("statistics", given)
    assert message in told.value.message
    assert told.value.hint


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"y": np.arange(20)}, "has no column 'x'"),
        ({"x": np.array(["a"] * 20, dtype=object)}, "the column 'x' is text, not numbers"),
        ({"x": np.array([1e300] * 20)}, "cannot be added up: only numbers below 10\\^72 can"),
        ({"x": np.array([1e308] * 20)}, "the sum of column 'x' is too large"),
        ({"x": np.array([math.inf] * 20)}, "cannot be added up"),
    ],
)
def test_a_table_that_does_not_fit_is_named_with_its_site(part: Columns, message: str):
    with pytest.raises(JobError, match=rf"statistics \(host:9999\): .*{message}"):
        compute([{"x": np.arange(20.0)}, part])


def test_members_that_were_told_different_things_do_not_compute():
    class Uneven(Statistics):
        def host(self, ctx: Any) -> dict[str, Any]:
            ctx.parameters = {**ctx.parameters, "min_group": 3}
            return super().host(ctx)

    tables = {member: {"t": Table("t", {"x": np.arange(20.0)})} for member in MEMBERS[:2]}
    with pytest.raises(JobError, match="was told other parameters: min_group"):
        run_in_process(Uneven, "statistics", MEMBERS[:2], {"table": "t", "columns": ["x"]}, tables=tables)


def test_one_member_alone_is_refused():
    with pytest.raises(JobError, match="needs at least two members"):
        compute([{"x": np.arange(20.0)}])
