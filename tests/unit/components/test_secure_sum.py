"""The secure sum's arithmetic, and the protocol with all members in this process."""

import logging
import math
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy_lines import GUEST_LINES

from fedparty.components import secure_sum
from fedparty.components.secure_sum import SecureSum, SecureSumParameters
from fedparty.components.sharing import FRACTION_BITS, RING, UniformShares, decode, encode
from fedparty.context import InProcessContext, run_in_process
from fedparty.errors import ComponentError, JobError
from fedparty.types import Member, PartyId


def members(*hosts: str, guest: str = "10000") -> list[Member]:
    return [Member("guest", PartyId(guest)), *(Member("host", PartyId(host)) for host in hosts)]


class Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@pytest.mark.parametrize(
    ("who", "total"),
    [
        (members("9999"), 2000.0),
        (members("10000"), 2000.0),
        (members("9999", "9998"), 3000.0),
        (members("10000", "9999", "9998", "9997"), 5000.0),
    ],
)
def test_the_sum_is_exact_for_any_number_of_parties(who: list[Member], total: float):
    results = run_in_process(SecureSum, "secure_sum", who)
    assert results[who[0]] == {"secure_sum": total}
    assert all(results[host] is None for host in who[1:])


@pytest.mark.parametrize(("data_num", "partition"), [(1, 1), (1, 10), (7, 3), (1000, 1000), (100_001, 7)])
def test_the_number_of_pieces_does_not_matter(data_num: int, partition: int):
    results = run_in_process(SecureSum, "secure_sum", members("9999"), {"data_num": data_num, "partition": partition})
    assert results[members()[0]] == {"secure_sum": 2.0 * data_num}


def test_the_guest_logs_the_lines_that_kubefate_users_look_for():
    logs: dict[Member, Lines] = {}
    run_in_process(
        SecureSum, "secure_sum", members("9999"), log_handler=lambda member: logs.setdefault(member, Lines())
    )
    assert logs[Member("guest", PartyId("10000"))].lines == GUEST_LINES
    assert logs[Member("host", PartyId("9999"))].lines[-1] == "send host sum to guest"


def test_every_part_that_is_sent_is_uniform_and_crosses_once(monkeypatch: pytest.MonkeyPatch):
    sent: dict[tuple[Member, str], np.ndarray] = {}
    send = InProcessContext.send

    def record(self: InProcessContext, tag: str, value: object, to: object) -> None:
        if isinstance(value, np.ndarray):
            sent[self.member, tag] = value
        send(self, tag, value, to)

    monkeypatch.setattr(InProcessContext, "send", record)
    run_in_process(SecureSum, "secure_sum", members("9999"), {"data_num": 10_000})
    for member in members("9999"):
        parts = np.concatenate([part for (sender, _), part in sent.items() if sender == member])
        assert parts.shape == (10_000,)
        # Mean and deviation of the uniform distribution, six sigma of the estimate wide.
        unit = parts.astype(np.float64) / RING
        assert abs(unit.mean() - 0.5) < 6 / math.sqrt(12 * 10_000)
        assert abs(unit.std() - 1 / math.sqrt(12)) < 0.02
        assert len(np.unique(parts)) == 10_000


def test_a_wrong_sum_fails_the_task(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(secure_sum, "decode", lambda total: decode(total) + 1e-3)
    with pytest.raises(JobError, match=r"secure_sum \(guest:10000\): the secure sum is 2000.001, and should be 2000.0"):
        run_in_process(SecureSum, "secure_sum", members("9999"))


@given(
    st.integers(2, 6).flatmap(
        lambda n: st.lists(st.lists(st.floats(-1e6, 1e6), min_size=5, max_size=5), min_size=n, max_size=n)
    )
)
def test_shares_add_up_to_the_values(values: list[list[float]]):
    total, draw = 0, UniformShares()
    for own in values:
        kept = encode(np.array(own), 5 * len(values))
        for _ in values[1:]:
            part = draw.draw(5)
            kept -= part
            total += int(part.sum(dtype=np.uint64))
        total += int(kept.sum(dtype=np.uint64))
    step = 2.0**-FRACTION_BITS
    assert decode(total) == pytest.approx(math.fsum(map(math.fsum, values)), abs=step * 5 * len(values))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 2.0**42 * 1.01, -(2.0**42) * 1.01])
def test_a_value_that_does_not_fit_is_refused(value: float):
    with pytest.raises(ComponentError, match="a value is not a number between"):
        encode(np.array([1.0, value]), 1)


def test_the_largest_values_do_not_wrap_around():
    limit = 2.0**42 / 8
    for value in (limit, -limit):
        shares = encode(np.full(8, value), 8)
        assert decode(int(shares.sum(dtype=np.uint64))) == value * 8


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"data_num": 0}, "secure_sum: data_num is 0"),
        ({"data_num": "1000"}, "secure_sum: data_num is '1000'"),
        ({"partition": True}, "secure_sum: partition is True"),
        ({"partition": 2.0}, "secure_sum: partition is 2.0"),
        ({"datanum": 5}, "secure_sum: unknown parameter 'datanum'"),
    ],
)
def test_wrong_parameters_are_named(given: dict[str, object], message: str):
    with pytest.raises(ComponentError) as told:
        SecureSumParameters.read("secure_sum", given)
    assert told.value.message.startswith(message)
    assert told.value.hint


def test_different_parameters_at_the_parties_are_found():
    class Uneven(SecureSum):
        def host(self, ctx: InProcessContext) -> None:
            ctx.parameters = {"data_num": 999}
            super().host(ctx)

    with pytest.raises(JobError, match=r"share\.\d+ from .* is not \d+ unsigned 64-bit numbers"):
        run_in_process(Uneven, "secure_sum", members("9999"), {"data_num": 1000})


@pytest.mark.parametrize("who", [members(), [*members("9999"), Member("guest", PartyId("9998"))]])
def test_other_casts_are_refused(who: list[Member]):
    with pytest.raises(JobError, match="needs one guest and at least one host"):
        run_in_process(SecureSum, "secure_sum", who)


def test_the_generator_repeats_nothing_and_is_fast():
    first, second = UniformShares(), UniformShares()
    drawn = np.concatenate([first.draw(3), first.draw(100_000), second.draw(100_000)])
    assert len(np.unique(drawn)) == len(drawn)
    start = time.perf_counter()
    for _ in range(10):
        first.draw(100_000)
    assert time.perf_counter() - start < 0.2
