"""Templates become the bytes of a bundle's files.

Owns the template environment and the canonical form of JSON. Does not own which file a bundle has, nor its variables:
those are `fedparty.generate.plan`.

A template of JSON may hold comments and spare white space: what it renders is parsed and written again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cached_property
from json.encoder import encode_basestring_ascii
from pathlib import Path
from typing import Any

import jinja2

from fedparty.errors import ConfigurationError

TEMPLATES = Path(__file__).parents[2] / "templates"
"""The tree of templates; it mirrors the tree of a bundle."""

_HINT = "The templates/ folder does not fit this release: restore it from the release."


class Renderer:
    """Renders the templates of one folder.

    Parameters
    ----------
    folder
        Where the templates lie.
    """

    def __init__(self, folder: Path = TEMPLATES) -> None:
        self._folder = folder
        self._environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(folder),
            undefined=jinja2.StrictUndefined,
            autoescape=False,  # noqa: S701  no HTML here: values enter JSON through `tojson`
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
            auto_reload=False,
        )
        self._environment.filters["tojson"] = _to_json

    @cached_property
    def digest(self) -> str:
        """The SHA-256 of all templates: what was rendered from others may be out of date."""
        total = hashlib.sha256()
        for path in sorted(self._folder.rglob("*.j2")):
            content = path.read_bytes()
            total.update(f"{path.relative_to(self._folder)}\0{len(content)}\0".encode())
            total.update(content)
        return total.hexdigest()

    def render(self, name: str, variables: Mapping[str, Any]) -> bytes:
        """Return the file that the template `name`, e.g. ``flow/settings.json.j2``, makes of `variables`.

        Raises
        ------
        ConfigurationError
            There is no such template, a variable is undefined, or JSON that it should make is none.
        """
        try:
            text = self._environment.get_template(name).render(variables)
        except (jinja2.TemplateError, TypeError) as exc:
            raise ConfigurationError(f"templates/{name}: {_describe(exc)}", hint=_HINT) from exc
        if name.endswith(".json.j2"):
            text = _canonical(name, text)
        return text.encode()


def to_canonical_json(value: Any) -> str:
    """Return what ``json.dumps(value, indent=2)`` returns, and a newline; several times as fast."""
    return _indented(value, "\n") + "\n"


def _indented(value: Any, newline: str) -> str:
    if isinstance(value, str):
        return encode_basestring_ascii(value)
    inner = newline + "  "
    if value and isinstance(value, dict):
        items = [f"{encode_basestring_ascii(key)}: {_indented(item, inner)}" for key, item in value.items()]
        return f"{{{inner}{f',{inner}'.join(items)}{newline}}}"
    if value and isinstance(value, list):
        items = [_indented(item, inner) for item in value]
        return f"[{inner}{f',{inner}'.join(items)}{newline}]"
    return json.dumps(value)


def _canonical(name: str, text: str) -> str:
    try:
        return to_canonical_json(json.loads(text))
    except json.JSONDecodeError as exc:
        near = text[max(exc.pos - 40, 0) : exc.pos + 40]
        raise ConfigurationError(f"templates/{name}: renders to no JSON: {exc.msg} near {near!r}", hint=_HINT) from exc


def _to_json(value: Any) -> str:
    return json.dumps(value, default=_refuse)


def _refuse(value: Any) -> str:
    str(value)  # an undefined variable says so, with its name
    raise TypeError(f"a {type(value).__name__} is not JSON")


def _describe(exc: Exception) -> str:
    if isinstance(exc, jinja2.TemplateNotFound):
        return "there is no such template" if exc.name is None else f"the template {exc.name} is missing"
    line = getattr(exc, "lineno", None)
    return f"line {line}: {exc}" if line else str(exc)
