"""JSON values that every party can read again: parameters that are submitted, results that are reported.

Owns the rules: bounded depth, finite numbers, text that is Unicode. Python takes more than that when it reads, and its
writer, Pydantic and a database then differ.
"""

from __future__ import annotations

import math
from typing import Any

MAX_DEPTH = 50
"""How deep lists and objects may lie in each other; readers stop at some 200."""


def check(value: Any) -> Any:
    """Return a value as it is.

    Raises
    ------
    ValueError
        It breaks a rule.
    """
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [inner for outer in level for inner in _inner(outer)]
        if not level:
            return value
    raise ValueError(f"lists and objects lie more than {MAX_DEPTH} deep in each other")


def _inner(value: Any) -> list[Any]:
    """Return what a value consists of; nothing, where it is one of JSON's plain values."""
    if isinstance(value, dict):
        return [*value.keys(), *value.values()]
    if isinstance(value, list):
        return value
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("a number is not finite: JSON has no NaN and no Infinity")
    if isinstance(value, str) and not _is_unicode(value):
        raise ValueError("a text is not Unicode: it has half of a surrogate pair")
    return []


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
