"""Components by name, and what is told of them."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import EntryPoint, PathDistribution
from pathlib import Path
from typing import Any

import pytest

from fedparty.components import registry
from fedparty.components.parameters import Parameters, tables_of
from fedparty.components.secure_sum import SecureSum
from fedparty.errors import ComponentError

FOUND = registry.entry_points


@pytest.fixture(autouse=True)
def _forgetful() -> Iterator[None]:
    registry._offered.cache_clear()
    yield
    registry._offered.cache_clear()


class Package(PathDistribution):
    """A package that is as good as installed."""

    def __init__(self, name: str) -> None:
        super().__init__(Path("nowhere"))
        self._name = name

    @property
    def metadata(self) -> Any:
        return {"Name": self._name, "Version": "2.5"}


def offer(monkeypatch: pytest.MonkeyPatch, name: str, value: str, *packages: str) -> None:
    """Let packages offer a component beside those of fedparty."""
    own = [point for point in FOUND(group=registry.GROUP) if point.dist and point.dist.name == "fedparty"]
    points = [EntryPoint(name, value, registry.GROUP)]
    if packages:
        points = [EntryPoint(name, value, registry.GROUP)._for(Package(package)) for package in packages]  # type: ignore[attr-defined]
    monkeypatch.setattr(registry, "entry_points", lambda group: (*own, *points))


def test_the_built_in_components_are_registered_as_any_other():
    assert registry.find("secure_sum") is SecureSum
    assert registry.own_names() == ("secure_sum", "statistics")


def test_an_installed_package_adds_a_component(monkeypatch: pytest.MonkeyPatch):
    offer(monkeypatch, "decimal", "decimal:Decimal", "numbers-package")
    assert registry.find("decimal").__name__ == "Decimal"
    assert registry.names() == ("decimal", "secure_sum", "statistics")
    described = registry.describe("decimal")
    assert (described.package, described.version, described.parameters) == ("numbers-package", "2.5", None)


def test_a_built_in_name_cannot_be_taken_over(monkeypatch: pytest.MonkeyPatch):
    offer(monkeypatch, "secure_sum", "decimal:Decimal", "numbers-package")
    assert registry.find("secure_sum") is SecureSum


def test_two_packages_with_one_name_are_named(monkeypatch: pytest.MonkeyPatch):
    offer(monkeypatch, "mean", "decimal:Decimal", "one-package", "other-package")
    with pytest.raises(ComponentError, match="'mean' is offered by one-package and other-package"):
        registry.find("mean")


def test_an_unknown_name_is_answered_with_the_nearest(monkeypatch: pytest.MonkeyPatch):
    offer(monkeypatch, "decimal", "decimal:Decimal")
    with pytest.raises(ComponentError, match="there is no component 'secure_sun' here") as told:
        registry.find("secure_sun")
    assert told.value.hint.startswith("Did you mean 'secure_sum'? Known are decimal, secure_sum, statistics;")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("no_such_module:Thing", "cannot be loaded: ModuleNotFoundError"),
        ("decimal:no_such_thing", "cannot be loaded: AttributeError"),
        ("decimal:getcontext", "is not a class: decimal:getcontext"),
    ],
)
def test_what_cannot_be_used_is_named_and_takes_nothing_down(monkeypatch: pytest.MonkeyPatch, value: str, message: str):
    offer(monkeypatch, "broken", value, "broken-package")
    with pytest.raises(ComponentError, match=message):
        registry.find("broken")
    told = {each.name: each for each in registry.described()}
    assert message in told["broken"].fault
    assert told["broken"].package == "broken-package"
    assert told["secure_sum"].fault == ""


def test_a_component_tells_its_parameters():
    described = registry.describe("statistics")
    assert described.roles == ("guest", "host")
    assert described.summary.startswith("Count, mean, variance, histogram")
    assert described.parameters is not None
    told = {each.name: each for each in described.parameters}
    assert told["table"].is_required
    assert (told["min_group"].type, told["min_group"].default) == ("whole number", 10)
    assert told["histograms"].type == "map of name to list of number"
    assert all(each.summary for each in described.parameters)


def test_every_own_component_is_documented_and_says_what_it_reveals():
    for name in registry.own_names():
        component = registry.find(name)
        assert registry.parameters_of(component) is not None
        assert hasattr(component, "requirements")
        assert all(each.summary for each in registry.describe(name).parameters or ())


def test_a_task_is_checked_before_it_runs():
    faults = registry.faults("secure_sum", {"guest": [{}], "hots": [{}]})
    assert [(each.message, each.hint) for each in faults] == [
        ("secure_sum: there is no role 'hots'", "Did you mean 'host'?")
    ]
    faults = registry.faults("secure_sum", {"guest": [{"datanum": 5}], "host": [{"datanum": 5}]})
    assert [(each.message, each.hint) for each in faults] == [
        ("secure_sum: unknown parameter 'datanum'", "Did you mean 'data_num'?")
    ]
    assert registry.faults("secure_sum", {"guest": [{"data_num": 5}], "host": [{}]}) == []
    assert "there is no component" in registry.faults("no_such", {})[0].message


def test_the_tables_of_a_task_are_those_that_its_parameters_name():
    assert tables_of({"table": "a", "tables": ["b", "a"], "x": "c"}) == ("a", "b")
    assert tables_of({"table": 3, "tables": "b"}) == ()


def test_a_parameter_that_is_long_is_not_repeated_as_a_whole():
    class Small(Parameters):
        n: int = 1
        """A number."""

    with pytest.raises(ComponentError) as told:
        Small.read("small", {"n": "x" * 1000})
    assert len(told.value.message) < 200
