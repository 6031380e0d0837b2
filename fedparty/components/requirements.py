"""What a task will read and reveal, told before it runs: what a site's policy decides on.

Owns the words. Does not own the decision.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from fedparty.components import registry
from fedparty.components.parameters import tables_of


class Reveals(StrEnum):
    """What the others learn of a site's rows."""

    NOTHING = "nothing"
    """Nothing: the component reads no table."""
    AGGREGATES = "aggregates"
    """Sums over groups of at least `Requirements.min_group` rows of all members together."""
    INDIVIDUAL = "individual"
    """Values of single rows, such as extremes and quantiles."""
    UNKNOWN = "unknown"
    """The component does not say."""


@dataclass(frozen=True)
class Requirements:
    """What a task will read and reveal.

    Parameters
    ----------
    tables
        Names of the site's tables that it reads.
    reveals
        What the others learn of their rows.
    min_group
        The smallest group of rows that a result tells something of; 0: it does not say.
    """

    tables: tuple[str, ...]
    reveals: Reveals
    min_group: int = 0


def requirements(component: str, parameters: Mapping[str, Any]) -> Requirements:
    """Return what a member's task will read and reveal.

    A component says so by a class method ``requirements(parameters)`` that takes its parameters' model; of one that has
    none, only the tables are known.

    Raises
    ------
    ComponentError
        There is no such component here, or the parameters are wrong.
    """
    found = registry.find(component)
    model, told = registry.parameters_of(found), getattr(found, "requirements", None)
    tables = tables_of(parameters)
    if model is None or told is None:
        return Requirements(tables, Reveals.UNKNOWN)
    said: Requirements = told(model.read(component, parameters))
    return replace(said, tables=tuple(dict.fromkeys((*tables, *said.tables))))  # what is named can be read
