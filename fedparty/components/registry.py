"""Components by name: the built-in ones, then those that installed packages offer.

Owns the names. A package offers a component by an entry point of the group ``fedparty.components``; a built-in name
cannot be taken over.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType

from fedparty.errors import ComponentError

GROUP = "fedparty.components"

BUILT_IN: Mapping[str, str] = MappingProxyType({"secure_sum": "fedparty.components.secure_sum:SecureSum"})
"""Name -> ``module:class``, loaded when asked for."""


def find(name: str) -> type:
    """Return the class of a component.

    Raises
    ------
    ComponentError
        Nothing of that name is installed, or what is installed cannot be used.
    """
    if name in BUILT_IN:
        module, _, attribute = BUILT_IN[name].partition(":")
        component: type = getattr(importlib.import_module(module), attribute)
        return component
    offered = _offered().get(name)
    if offered is None:
        raise ComponentError(
            f"there is no component {name!r} here",
            hint=f"Known are {', '.join(names())}; others come with a package installed beside fedparty.",
        )
    return _load(offered)


def names() -> tuple[str, ...]:
    """Return the names of all components that can be asked for, sorted."""
    return tuple(sorted({*BUILT_IN, *_offered()}))


def _offered() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}


def _load(point: EntryPoint) -> type:
    package = point.dist.name if point.dist else "an unnamed package"
    try:
        component = point.load()
    except Exception as exc:
        raise ComponentError(
            f"the component {point.name!r} of {package} cannot be loaded: {type(exc).__name__}: {exc}",
            hint=f"Install a release of {package} that fits, or remove it.",
        ) from exc
    if not inspect.isclass(component):
        raise ComponentError(
            f"the component {point.name!r} of {package} is not a class: {point.value}",
            hint="A component is a class with one method per role.",
        )
    return component
