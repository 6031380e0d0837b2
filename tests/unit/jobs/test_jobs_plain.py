"""JSON that every party can read again, and results that a peer made up."""

from __future__ import annotations

from typing import Any

import pytest

from fedparty.flow.api.views import _json
from fedparty.jobs import plain


@pytest.mark.parametrize("value", [None, True, 10**30, -0.5, "é\x00", [], {"a": [1, {"b": []}]}])
def test_plain_values_pass(value: Any) -> None:
    assert plain.check(value) is value


@pytest.mark.parametrize("value", [float("nan"), [float("-inf")], "\ud800", {"\ud800": 1}])
def test_others_do_not(value: Any) -> None:
    with pytest.raises(ValueError, match=r"not finite|not Unicode"):
        plain.check({"a": value})


@pytest.mark.parametrize("text", ["no json", "NaN", '["\\ud800"]', "[" * 60 + "]" * 60, "[" * 100_000, "9" * 5000])
def test_a_result_that_is_not_plain_is_shown_as_its_text(text: str) -> None:
    assert _json(text) == text


def test_a_plain_result_is_shown_as_it_is() -> None:
    assert _json('{"sum": 2.0}') == {"sum": 2.0}
    assert _json("") is None
