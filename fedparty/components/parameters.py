"""A component's parameters: a documented model, read from what a job says.

Owns the base class and how a wrong parameter is told. Does not own any component's parameters.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from fedparty.errors import ComponentError


class Parameters(BaseModel):
    """Base of every component's parameters: a field each, with type and default; its docstring is what people read.

    Values are taken as they are: ``"5"`` is no number. A field named ``table`` (a name) or ``tables`` (a list of names)
    says which of the site's tables the task may read.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)

    @classmethod
    def read(cls, component: str, given: Mapping[str, Any]) -> Self:
        """Return the parameters of a task.

        Parameters
        ----------
        component
            Its name, for messages.
        given
            ``ctx.parameters``.

        Raises
        ------
        ComponentError
            One is unknown, missing, or not what it should be; the first is named.
        """
        try:
            return cls.model_validate(dict(given))
        except ValidationError as exc:
            raise cls._told(component, exc) from exc

    @classmethod
    def _told(cls, component: str, exc: ValidationError) -> ComponentError:
        # An unknown name first: a misspelt one is often also one that is missing.
        fault = min(exc.errors(), key=lambda each: each["type"] != "extra_forbidden")
        name = ".".join(map(str, fault["loc"])) or "parameters"
        if fault["type"] == "extra_forbidden":
            return ComponentError(f"{component}: unknown parameter {name!r}", hint=cls._near(name))
        if fault["type"] == "missing":
            return ComponentError(
                f"{component}: the parameter {name!r} is missing",
                hint=f"Say it in the job; fedparty component describe {component} tells what it means.",
            )
        return ComponentError(
            f"{component}: {name} is {_short(fault['input'])}: {_reason(fault['msg'])}",
            hint=f"fedparty component describe {component} tells what it may be.",
        )

    @classmethod
    def _near(cls, name: str) -> str:
        near = difflib.get_close_matches(name, cls.model_fields, 1)
        return f"Did you mean {near[0]!r}?" if near else f"Known are {', '.join(cls.model_fields) or 'none'}."


def tables_of(parameters: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the tables that parameters ask for: ``table``, then ``tables``."""
    one, several = parameters.get("table"), parameters.get("tables")
    names = [one] if isinstance(one, str) else []
    names += [name for name in several if isinstance(name, str)] if isinstance(several, list) else []
    return tuple(dict.fromkeys(names))


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _reason(message: str) -> str:
    return message.removeprefix("Value error, ").replace("Input should be", "it should be")
