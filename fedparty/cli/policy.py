"""``fedparty party policy``: what a site allows, and why.

Owns its options and what it prints. Does not own the policy.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from fedparty.cli.session import open_session, output_option, session_options, show


@click.command()
@click.option(
    "--check", "file", type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Only tell whether FILE can be read as a policy; no party is asked.",
)  # fmt: skip
@click.option(
    "--explain", "job", type=click.Path(exists=True, path_type=Path),
    help="Tell what the site would decide of a job, and why: its folder.",
)  # fmt: skip
@click.option("--as-party", "party", metavar="PARTY", help="With --explain: as if that party submitted it.")
@click.option("--as-user", "user", metavar="USER", help="With --explain: as if that user submitted it.")
@click.option("--as-role", "user_role", metavar="ROLE", help="With --explain: as if the user had that role.")
@click.option("--signed", "is_signed", is_flag=True, help="With --explain: as if it were signed.")
@session_options
@output_option
def policy(
    file: Path | None, job: Path | None, party: str | None, user: str | None, user_role: str | None, is_signed: bool,
    profile: str | None, home: Path | None, output: str,
) -> int:  # fmt: skip
    """Show what a site allows now; with --explain, what it would decide, ending with 0 if all is allowed."""
    if file is not None:
        return _check(file)
    with open_session(profile, home) as session:
        if job is None:
            found = session.policy()
            show(output, found, _lines(found))
            return 1 if found["fault"] else 0
        question = {
            "description": _description(job), "party": party, "user": user, "user_role": user_role,
            "signed": is_signed,
        }  # fmt: skip
        decisions = session.decisions(question)
    show(output, decisions, [_decision(each) for each in decisions] or ["the site plays no role in this job"])
    return 0 if all(each["allowed"] for each in decisions) else 1


def _check(file: Path) -> int:
    from fedparty.flow.policy.reading import read

    found = read(file.read_bytes(), str(file))
    click.echo(f"{file}: {len(found.rules)} rules")
    return 0


def _description(path: Path) -> Any:
    from fedparty.jobs import folder

    return json.loads(folder.read(path).travelling())


def _lines(found: dict[str, Any]) -> list[str]:
    fault = [f"NOT IN FORCE: {found['fault']}"] if found["fault"] else []
    signed = ["every submission must be signed by its user"] if found["signed"] else []
    rules = [line for rule in found["rules"] for line in _rule(rule)]
    return [*fault, f"in force: {found['source']}", *signed, *(rules or ["no rule: everything is refused"])]


def _rule(rule: dict[str, Any]) -> list[str]:
    return [f"{rule['name']}:", *(f"  {key}: {_text(value)}" for key, value in rule.items() if key != "name")]


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "no limit" if value is None else str(value)


def _decision(decision: dict[str, Any]) -> str:
    word = "allowed" if decision["allowed"] else "REFUSED"
    return f"{word}  {decision['task']} as {decision['role']} ({decision['component']}): {decision['why']}"
