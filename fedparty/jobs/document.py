"""Reads YAML as data with places: every value, and the line and column where it is written.

Owns the rules of a file that people write and a service must not be hurt by: one document, no tags, no key twice,
bounded depth and size, scalars by YAML 1.2's core schema (``yes`` is a text, ``1e-3`` a number); anchors and aliases as
usual. Does not own what the values mean.

Source: YAML 1.2.2, §10.3.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

MAX_DEPTH = 60
MAX_VALUES = 100_000

Path = tuple[str | int, ...]
"""Where a value lies: keys and indexes from the top."""

_NULL = re.compile(r"null|Null|NULL|~|")
_TRUE, _FALSE = re.compile(r"true|True|TRUE"), re.compile(r"false|False|FALSE")
_INT = re.compile(r"[-+]?[0-9]+")
_OTHER_INT = {8: re.compile(r"0o([0-7]+)"), 16: re.compile(r"0x([0-9a-fA-F]+)")}
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_INFINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_MAX_DIGITS = 400
MERGE = "<<"


@dataclass(frozen=True)
class Fault:
    """What is wrong, and where.

    Parameters
    ----------
    line, column
        From 1.
    what
        The key where there is one, what is wrong, and what to write.
    """

    line: int
    column: int
    what: str


class FaultError(Exception):
    """A text that cannot be read."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.what)
        self.fault = fault


@dataclass
class Document:
    """Values, and where each of them and each key is written."""

    value: Any = None
    places: dict[Path, tuple[int, int]] = field(default_factory=dict)
    """Line and column of values; of those in a mapping, of their key."""
    texts: dict[Path, str] = field(default_factory=dict)
    """Scalars as they are written."""

    def place(self, path: Path) -> tuple[int, int]:
        """Return where a value is written, or what is around it where it is not."""
        while path and path not in self.places:
            path = path[:-1]
        return self.places.get(path, (1, 1))


def read(text: str) -> Document:
    """Read a text.

    Raises
    ------
    FaultError
        It breaks a rule.
    """
    document = Document()
    try:
        root = _Tree(yaml.parse(text, Loader=yaml.BaseLoader)).root()
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        what = ": ".join(each for each in (exc.context, exc.problem) if each)
        raise FaultError(Fault(mark.line + 1 if mark else 1, mark.column + 1 if mark else 1, what)) from exc
    except yaml.YAMLError as exc:
        raise FaultError(Fault(1, 1, " ".join(str(exc).split()))) from exc
    document.value = _Values(document).of(root, ())
    return document


def scalar(text: str) -> Any:
    """Return what a plain scalar means.

    Raises
    ------
    ValueError
        It is a number that nobody can use.
    """
    if _NULL.fullmatch(text):
        return None
    if _TRUE.fullmatch(text):
        return True
    if _FALSE.fullmatch(text):
        return False
    if len(text) <= _MAX_DIGITS:
        return _number(text)
    if _INT.fullmatch(text) or _FLOAT.fullmatch(text):
        raise ValueError(f"a number of more than {_MAX_DIGITS} digits")
    return text


def _number(text: str) -> Any:
    if _INT.fullmatch(text):
        return int(text)
    for base, pattern in _OTHER_INT.items():
        if found := pattern.fullmatch(text):
            return int(found[1], base)
    if _FLOAT.fullmatch(text):
        return float(text)
    if _INFINITE.fullmatch(text):
        raise ValueError("a number must be finite")
    return text


@dataclass
class _Node:
    line: int
    column: int


@dataclass
class _Scalar(_Node):
    text: str
    is_plain: bool


@dataclass
class _Sequence(_Node):
    items: list[_Node] = field(default_factory=list)


@dataclass
class _Mapping(_Node):
    pairs: list[tuple[_Scalar, _Node]] = field(default_factory=list)


class _Tree:
    """Puts events together; without recursion, however deep they lie."""

    def __init__(self, events: Iterator[Any]) -> None:
        self._events = events
        self._anchors: dict[str, _Node] = {}

    def root(self) -> _Node:
        """Return the only document's value."""
        found: _Node | None = None
        open_nodes: list[tuple[_Node, _Scalar | None]] = []
        for event in self._events:
            if isinstance(event, yaml.SequenceEndEvent | yaml.MappingEndEvent):
                open_nodes.pop()
                continue
            node = self._node(event)
            if node is None:
                continue
            if open_nodes:
                open_nodes[-1] = (open_nodes[-1][0], _put(*open_nodes[-1], node))
            elif found is not None:
                raise _fault(node, "a second document begins: one file is one job")
            else:
                found = node
            if isinstance(event, yaml.SequenceStartEvent | yaml.MappingStartEvent):
                open_nodes.append((node, None))
                if len(open_nodes) > MAX_DEPTH:
                    raise _fault(node, f"lists and mappings lie more than {MAX_DEPTH} deep in each other")
        return found or _Scalar(1, 1, "", is_plain=True)

    def _node(self, event: Any) -> _Node | None:
        mark = event.start_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in self._anchors:
                raise FaultError(Fault(line, column, f"there is no anchor &{event.anchor} before this alias"))
            return self._anchors[event.anchor]
        if not isinstance(event, yaml.ScalarEvent | yaml.SequenceStartEvent | yaml.MappingStartEvent):
            return None
        if event.tag is not None:
            raise FaultError(Fault(line, column, f"tags are not allowed: remove {event.tag}"))
        node: _Node
        if isinstance(event, yaml.ScalarEvent):
            node = _Scalar(line, column, event.value, event.style is None)
        else:
            node = _Sequence(line, column) if isinstance(event, yaml.SequenceStartEvent) else _Mapping(line, column)
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        return node


def _put(parent: _Node, key: _Scalar | None, node: _Node) -> _Scalar | None:
    """Put a node into what is open; return the key that now waits for its value."""
    if isinstance(parent, _Sequence):
        parent.items.append(node)
        return None
    if not isinstance(parent, _Mapping):
        raise AssertionError("scalars are never open")
    if key is not None:
        parent.pairs.append((key, node))
        return None
    if not isinstance(node, _Scalar):
        raise _fault(node, "a key must be a text")
    return node


class _Values:
    """Turns nodes into values, and notes their places."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._left = MAX_VALUES
        self._around: list[_Node] = []

    def of(self, node: _Node, path: Path) -> Any:
        """Return what a node stands for."""
        self._left -= 1
        if self._left < 0:
            raise _fault(node, f"there are more than {MAX_VALUES} values, aliases counted as what they stand for")
        self._document.places.setdefault(path, (node.line, node.column))
        if isinstance(node, _Scalar):
            return self._scalar(node, path)
        if any(node is each for each in self._around):
            raise _fault(node, "an alias stands for something that it lies in itself")
        if len(self._around) >= MAX_DEPTH:
            raise _fault(node, f"lists and mappings lie more than {MAX_DEPTH} deep in each other")
        self._around.append(node)
        value = self._mapping(node, path) if isinstance(node, _Mapping) else self._sequence(node, path)
        self._around.pop()
        return value

    def _scalar(self, node: _Scalar, path: Path) -> Any:
        self._document.texts[path] = node.text
        if not node.is_plain:
            return node.text
        try:
            return scalar(node.text)
        except ValueError as exc:
            raise _fault(node, str(exc)) from exc

    def _sequence(self, node: _Node, path: Path) -> list[Any]:
        items = node.items if isinstance(node, _Sequence) else []
        return [self.of(item, (*path, index)) for index, item in enumerate(items)]

    def _mapping(self, node: _Mapping, path: Path) -> dict[str, Any]:
        value: dict[str, Any] = {}
        for key, inner in node.pairs:
            if key.text == MERGE and key.is_plain:
                raise _fault(key, "<< is not of YAML 1.2: write the keys, or let an alias stand for the whole mapping")
            if key.text in value:
                line = self._document.places[*path, key.text][0]
                raise _fault(key, f"{key.text} is given twice, first in line {line}")
            self._document.places[*path, key.text] = (key.line, key.column)
            value[key.text] = self.of(inner, (*path, key.text))
        return value


def _fault(node: _Node, what: str) -> FaultError:
    return FaultError(Fault(node.line, node.column, what))
