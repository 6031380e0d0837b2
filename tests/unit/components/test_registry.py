"""Components by name."""

from importlib.metadata import EntryPoint

import pytest

from fedparty.components import registry
from fedparty.components.secure_sum import SecureSum
from fedparty.errors import ComponentError


def offer(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setattr(registry, "entry_points", lambda group: (EntryPoint(name, value, group),))


def test_the_secure_sum_is_built_in():
    assert registry.find("secure_sum") is SecureSum


def test_an_installed_package_adds_a_component(monkeypatch: pytest.MonkeyPatch):
    offer(monkeypatch, "decimal", "decimal:Decimal")
    assert registry.find("decimal").__name__ == "Decimal"
    assert registry.names() == ("decimal", "secure_sum")


def test_a_built_in_name_cannot_be_taken_over(monkeypatch: pytest.MonkeyPatch):
    offer(monkeypatch, "secure_sum", "decimal:Decimal")
    assert registry.find("secure_sum") is SecureSum


def test_an_unknown_name_is_answered_with_the_known_ones():
    with pytest.raises(ComponentError, match="there is no component 'secure_sun' here") as told:
        registry.find("secure_sun")
    assert told.value.hint == "Known are secure_sum; others come with a package installed beside fedparty."


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("no_such_module:Thing", "cannot be loaded: ModuleNotFoundError"),
        ("decimal:no_such_thing", "cannot be loaded: AttributeError"),
        ("decimal:getcontext", "is not a class: decimal:getcontext"),
    ],
)
def test_what_cannot_be_used_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch, value: str, message: str):
    offer(monkeypatch, "broken", value)
    with pytest.raises(ComponentError, match=message):
        registry.find("broken")
