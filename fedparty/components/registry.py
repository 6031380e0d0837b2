"""Components by name: what installed packages offer, fedparty's own among them.

Owns the names, and what is told of a component. A package offers one by an entry point of the group
``fedparty.components``; fedparty's own names cannot be taken over. What cannot be loaded is named, and takes no other
component down. Packages are looked for once in a process: a service that should know a new one is started again.
"""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from fedparty import __version__
from fedparty.components.parameters import Parameters
from fedparty.context import roles_of
from fedparty.errors import ComponentError

GROUP = "fedparty.components"
_OWN = "fedparty"
_WORDS = {
    "integer": "whole number",
    "number": "number",
    "string": "text",
    "boolean": "true or false",
    "null": "null",
    "object": "map",
}


@dataclass(frozen=True)
class Parameter:
    """One parameter of a component.

    Parameters
    ----------
    name, type, summary
        What it is called, what it takes, what it means.
    is_required
        Whether a job must say it.
    default
        What holds where a job does not.
    """

    name: str
    type: str
    summary: str
    is_required: bool
    default: Any = None


@dataclass(frozen=True)
class Description:
    """What people are told of a component.

    Parameters
    ----------
    name, version, package
        By which jobs ask for it; the component's own version, else its package's; where it comes from.
    summary
        The first line of its docstring.
    roles
        The roles it plays.
    parameters
        None: it did not say which it takes.
    schema
        The parameters as JSON schema.
    fault
        Why it cannot be used; empty: it can.
    """

    name: str
    version: str
    package: str
    summary: str = ""
    roles: tuple[str, ...] = ()
    parameters: tuple[Parameter, ...] | None = None
    schema: Mapping[str, Any] = field(default_factory=dict)
    fault: str = ""


def find(name: str) -> type:
    """Return the class of a component.

    Raises
    ------
    ComponentError
        Nothing of that name is installed, or what is installed cannot be used.
    """
    return _load(_point(name))


def names() -> tuple[str, ...]:
    """Return the names of all components that can be asked for, sorted."""
    return tuple(sorted(_offered()))


def own_names() -> tuple[str, ...]:
    """Return the names of the components that come with fedparty, sorted."""
    return tuple(name for name in names() if _package(_offered()[name][0]) == _OWN)


def describe(name: str) -> Description:
    """Return what there is to say of a component.

    Raises
    ------
    ComponentError
        Nothing of that name is installed, or what is installed cannot be used.
    """
    point = _point(name)
    component = _load(point)
    parameters = parameters_of(component)
    return Description(
        name=name,
        version=str(getattr(component, "version", _version(point))),
        package=_package(point),
        summary=(inspect.getdoc(component) or "").partition("\n")[0],
        roles=roles_of(component),
        parameters=None if parameters is None else _listed(parameters),
        schema={} if parameters is None else parameters.model_json_schema(),
    )


def described() -> tuple[Description, ...]:
    """Return what there is to say of every component; one that cannot be used says why."""
    return tuple(_described(name) for name in names())


def parameters_of(component: type) -> type[Parameters] | None:
    """Return the model of a component's parameters, None where it has none."""
    found = getattr(component, "Parameters", None)
    return found if inspect.isclass(found) and issubclass(found, Parameters) else None


def faults(name: str, members: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[ComponentError]:
    """Return what is wrong with a task, as far as its component knows.

    Parameters
    ----------
    name
        The component.
    members
        Per role, what each member of it is called with.
    """
    try:
        component = find(name)
    except ComponentError as exc:
        return [exc]
    known, model = roles_of(component), parameters_of(component)
    found = [_unknown_role(name, role, known) for role in members if role not in known]
    for given in (each for parameters in members.values() for each in parameters):
        try:
            if model is not None:
                model.read(name, given)
        except ComponentError as exc:
            found.append(exc)
    return list({exc.message: exc for exc in found}.values())


def _described(name: str) -> Description:
    try:
        return describe(name)
    except ComponentError as exc:
        point = _offered()[name][0]
        return Description(name, _version(point), _package(point), fault=exc.message)


def _unknown_role(name: str, role: str, known: Sequence[str]) -> ComponentError:
    near = difflib.get_close_matches(role, known, 1)
    hint = f"Did you mean {near[0]!r}?" if near else f"It has {', '.join(known) or 'no roles at all'}."
    return ComponentError(f"{name}: there is no role {role!r}", hint=hint)


def _listed(model: type[Parameters]) -> tuple[Parameter, ...]:
    kinds = model.model_json_schema().get("properties", {})
    return tuple(
        Parameter(
            name,
            _kind(kinds[name]),
            " ".join((each.description or "").split()),
            each.is_required(),
            None if each.is_required() else each.get_default(call_default_factory=True, validated_data={}),
        )
        for name, each in model.model_fields.items()
    )


def _kind(schema: Mapping[str, Any]) -> str:
    """Return in words what a JSON schema takes."""
    if "anyOf" in schema:
        return " or ".join(_kind(each) for each in schema["anyOf"])
    if "enum" in schema:
        return " or ".join(repr(each) for each in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_kind(schema.get('items', {}))}"
    if isinstance(schema.get("additionalProperties"), Mapping):
        return f"map of name to {_kind(schema['additionalProperties'])}"
    return _WORDS.get(schema.get("type", ""), "any value")


def _point(name: str) -> EntryPoint:
    offered = _offered().get(name)
    if offered is None:
        near = difflib.get_close_matches(name, names(), 1)
        known = f"Known are {', '.join(names())}; others come with a package installed beside fedparty."
        raise ComponentError(
            f"there is no component {name!r} here", hint=f"Did you mean {near[0]!r}? {known}" if near else known
        )
    if len(offered) > 1:
        packages = " and ".join(sorted(map(_package, offered)))
        raise ComponentError(
            f"the component {name!r} is offered by {packages}", hint="Remove all of these packages but one."
        )
    return offered[0]


@functools.cache
def _offered() -> Mapping[str, Sequence[EntryPoint]]:
    """Return who offers each name: fedparty alone, else all that do."""
    found: dict[str, dict[tuple[str, str], EntryPoint]] = {}
    for point in entry_points(group=GROUP):
        found.setdefault(point.name, {}).setdefault((_package(point), point.value), point)
    each = {name: list(points.values()) for name, points in found.items()}
    own = {name: [point for point in points if _package(point) == _OWN] for name, points in each.items()}
    return {name: own[name] or points for name, points in each.items()}


def _package(point: EntryPoint) -> str:
    return point.dist.name if point.dist else "an unnamed package"


def _version(point: EntryPoint) -> str:
    return __version__ if _package(point) == _OWN or point.dist is None else point.dist.version


def _load(point: EntryPoint) -> type:
    try:
        component = point.load()
    except Exception as exc:
        package = _package(point)
        raise ComponentError(
            f"the component {point.name!r} of {package} cannot be loaded: {type(exc).__name__}: {exc}",
            hint=f"Install a release of {package} that fits, or remove it.",
        ) from exc
    if not inspect.isclass(component):
        raise ComponentError(
            f"the component {point.name!r} of {_package(point)} is not a class: {point.value}",
            hint="A component is a class with one method per role.",
        )
    return component
