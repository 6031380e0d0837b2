"""Rendering: what is undefined or no JSON is an error that names the template."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedparty.errors import ConfigurationError
from fedparty.generate.render import Renderer, to_canonical_json

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


def test_json_is_parsed_and_written_again(tmp_path: Path) -> None:
    (tmp_path / "a.json.j2").write_text('{# why #}\n{"name":   {{ name | tojson }},\n"none": [] }')
    rendered = Renderer(tmp_path).render("a.json.j2", {"name": 'a"b<é'})
    assert rendered == b'{\n  "name": "a\\"b<\\u00e9",\n  "none": []\n}\n'


def test_text_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "a.md.j2").write_text("{% if yes %}\n# {{ name }}\n{% endif %}\n")
    assert Renderer(tmp_path).render("a.md.j2", {"yes": True, "name": "<b>"}) == b"# <b>\n"


@pytest.mark.parametrize(
    "text", ["{{ nam }}", '{"a": {{ nam | tojson }}}', "{{ nam.more }}", "{% if nam %}{% endif %}"]
)
def test_an_undefined_variable_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json.j2").write_text(text)
    with pytest.raises(ConfigurationError, match=r"^templates/a\.json\.j2: 'nam' is undefined$"):
        Renderer(tmp_path).render("a.json.j2", {"name": 1})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1,}', "renders to no JSON: .* near '{\"a\": 1,}'"),
        ("{% if %}", "line 1: Expected an expression"),
        ('{"a": {{ name | tojson }}}', "a Path is not JSON|a PosixPath is not JSON"),
        ('{% import "_b.j2" as b %}', "the template _b.j2 is missing"),
    ],
)
def test_a_fault_names_its_template(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.json.j2").write_text(text)
    with pytest.raises(ConfigurationError, match=rf"^templates/a\.json\.j2: ({message})"):
        Renderer(tmp_path).render("a.json.j2", {"name": tmp_path})


def test_the_digest_changes_with_any_template(tmp_path: Path) -> None:
    (tmp_path / "a.j2").write_text("a")
    before = Renderer(tmp_path).digest
    assert Renderer(tmp_path).digest == before
    (tmp_path / "a.j2").write_text("b")
    assert Renderer(tmp_path).digest != before


@given(VALUES)
def test_the_canonical_form_is_that_of_the_standard_library(value: object) -> None:
    assert to_canonical_json(value) == json.dumps(value, indent=2) + "\n"
