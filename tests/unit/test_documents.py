"""The documents say what is there: links, make targets, packages, folders, libraries, commands."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from fedparty.cli.main import cli
from fedparty.cli.toy import toy

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
ARCHITECTURE = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
DECISIONS = (ROOT / "docs/decisions.md").read_text(encoding="utf-8")

LINK = re.compile(r"\]\(([^)\s]+)\)")
MAKE = re.compile(r"\bmake ([a-z][a-z-]*)\b")
COMMAND = re.compile(r"\b(?:fedparty|deploy\.py|generate_config\.py|run_toy_example\.py) [^`#\n|;,:─]*")
PROGRAMS = {"deploy.py": ["deploy"], "generate_config.py": ["generate"], "fedparty": []}


def documents() -> Iterator[object]:
    for path in DOCUMENTS:
        yield pytest.param(path.read_text(encoding="utf-8"), path, id=path.name)


@pytest.mark.parametrize(("text", "path"), [*documents()])
def test_every_relative_link_leads_somewhere(text: str, path: Path) -> None:
    links = [link.partition("#")[0] for link in LINK.findall(text) if "://" not in link]
    assert [link for link in links if link and not (path.parent / link).exists()] == []


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


@pytest.mark.parametrize(("text", "path"), [*documents()])
def test_every_make_target_exists(text: str, path: Path) -> None:
    code = " ; ".join([*re.findall(r"`([^`\n]+)`", text), *re.findall(r"^```\w*\n(.*?)^```", text, re.M | re.S)])
    assert set(MAKE.findall(code)) <= make_targets(), path


def test_every_make_target_is_declared_and_listed() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    declared = re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)[0].split()
    assert set(declared) == make_targets()


def test_the_architecture_names_every_package() -> None:
    package = ROOT / "fedparty"
    names = {path.parent.name for path in package.glob("*/__init__.py")}
    names |= {path.stem for path in package.glob("*.py") if not path.stem.startswith("__")}
    table = ARCHITECTURE.partition("| package |")[2].partition("\n\n")[0]
    rows = [row.split("|")[1] for row in table.splitlines()[2:]]
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == names


def test_the_architectures_layers_are_those_that_are_held() -> None:
    contract = (ROOT / ".importlinter").read_text(encoding="utf-8").partition("layers =\n")[2].partition("\n\n")[0]
    held = [sorted(re.findall(r"(?<!\()\b\w+\b(?!\))", line)) for line in contract.splitlines()]
    said = " ".join(ARCHITECTURE.partition("Layers, high to low")[2].partition("):")[2].partition("\n\n")[0].split())
    assert [sorted(re.findall(r"`(\w+)`", layer)) for layer in said.split(">")] == held


def test_the_architecture_names_every_folder() -> None:
    folders = re.findall(r"^\| `([\w/]+)` \|", ARCHITECTURE.partition("## The repository")[2], re.MULTILINE)
    assert [folder for folder in folders if not (ROOT / folder).is_dir()] == []
    ours = {path.parent.name for path in ROOT.glob("*/*") if path.suffix in (".py", ".j2", ".sh", ".md")}
    assert {name for name in ours if not name.startswith(".") and name != "outputs"} <= {
        folder.partition("/")[0] for folder in folders
    } | {"build", "dist"}


def test_the_decisions_name_every_library() -> None:
    requirements = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    names = [re.split(r"[<>=\[]", requirement)[0] for requirement in requirements]
    assert [name for name in names if name not in DECISIONS.lower()] == []


def commands() -> Iterator[object]:
    for path in DOCUMENTS:
        text = path.read_text(encoding="utf-8")
        blocks = re.findall(r"^```(?:bash)?\n(.*?)^```", text, re.M | re.S)
        blocks += re.findall(r"^(?:    .*\n)+", text, re.M)
        for line in dict.fromkeys(line for block in blocks for line in COMMAND.findall(block)):
            yield pytest.param(line, id=f"{path.name}: {line.strip()}")


@pytest.mark.parametrize("line", [*commands()])
def test_every_command_that_is_shown_is_understood(line: str) -> None:
    program, *words = shlex.split(line)
    if program == "run_toy_example.py":
        toy.make_context(program, words)
        return
    context = click.Context(cli, info_name="fedparty")
    group: click.Command = cli
    words = [*PROGRAMS[program], *words]
    while isinstance(group, click.Group):
        _, command, words = group.resolve_command(context, words)
        assert command is not None
        group = command
    group.make_context(program, words, parent=context)
