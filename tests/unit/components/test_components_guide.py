"""The author's guide: its code runs, and what it says of the limits is so."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from fedparty.components import registry
from fedparty.components.requirements import Reveals
from fedparty.worker import outputs

GUIDE = (Path(__file__).resolve().parents[3] / "docs" / "components.md").read_text(encoding="utf-8")


def guide() -> dict[str, Any]:
    blocks = re.findall(r"^```python\n(.*?)^```", GUIDE, re.M | re.S)
    assert len(blocks) == 2
    names: dict[str, Any] = {"__name__": "guide"}
    exec(compile("\n".join(blocks), "docs/components.md", "exec", dont_inherit=True), names)  # it asserts its result
    return names


def test_the_worked_component_runs():
    assert guide()["results"][guide()["guest"]] == {"largest": 89.0}


def test_the_worked_component_says_what_it_takes_and_reveals():
    component = guide()["FederatedMax"]
    model = registry.parameters_of(component)
    assert model is not None
    assert list(model.model_fields) == ["table", "column", "min_rows"]
    assert (
        component.requirements(model.read("federated_max", {"table": "t", "column": "c"})).reveals is Reveals.INDIVIDUAL
    )


def test_the_limits_are_those_that_hold():
    assert f"At most {outputs.MAX_FILES} files and {outputs.MAX_BYTES >> 30} GiB" in GUIDE


def test_every_parameter_of_the_statistics_is_in_their_document():
    text = (Path(__file__).resolve().parents[3] / "docs" / "statistics.md").read_text(encoding="utf-8")
    parameters = registry.describe("statistics").parameters or ()
    assert [each.name for each in parameters if f"| `{each.name}` |" not in text] == []
