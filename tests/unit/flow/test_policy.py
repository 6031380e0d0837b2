"""Policies: what they allow, that nothing else is allowed, and what is said of a file that is wrong."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedparty.components.requirements import Requirements, Reveals
from fedparty.errors import ConfigurationError
from fedparty.flow.policy import DEFAULT, PolicyFile, Submission, decide, read
from fedparty.flow.policy.decisions import Needs
from fedparty.flow.policy.model import Policy, Rule
from fedparty.jobs.description import JobDescription
from fedparty.types import PartyId

HERE, OTHER = PartyId("9999"), PartyId("10000")
ALICE = Submission(OTHER, "alice", "researcher", is_signed=True)


def _needs(*tables: str, reveals: Reveals = Reveals.AGGREGATES, min_group: int = 10) -> Needs:
    return lambda _component, _parameters: Requirements(tables, reveals if tables else Reveals.NOTHING, min_group)


def _job(component: str = "statistics", role: str = "host") -> JobDescription:
    roles = {"lead": [OTHER], role: [HERE]}
    return JobDescription.model_validate({"name": "j", "roles": roles, "tasks": {"t": {"component": component}}})


def _rule(**words: Any) -> Policy:
    rule = {"name": "study", "parties": [OTHER], "components": ["statistics"], "tables": ["patients"], **words}
    return Policy.model_validate({"version": 1, "rules": (rule,)})


@pytest.mark.parametrize(
    ("words", "by", "needs", "missing"),
    [
        ({}, ALICE, _needs(), ""),
        ({}, ALICE, _needs("patients"), ""),
        ({"parties": "all", "components": "all", "tables": "all"}, ALICE, _needs("wages"), ""),
        ({"users": ["alice"], "user_roles": ["researcher"], "roles": ["host"], "signed": True}, ALICE, _needs(), ""),
        ({"parties": [HERE]}, ALICE, _needs(), "party 10000"),
        ({"users": ["bob"]}, ALICE, _needs(), "user alice"),
        ({"users": ["alice"]}, Submission(OTHER), _needs(), "user unknown"),
        ({"user_roles": ["operator"]}, ALICE, _needs(), "a researcher"),
        ({"components": ["secure_sum"]}, ALICE, _needs(), "component statistics"),
        ({"roles": ["guest"]}, ALICE, _needs(), "role host"),
        ({"signed": True}, Submission(OTHER, "alice", "researcher"), _needs(), "without the user's signature"),
        ({}, ALICE, _needs("patients", "wages"), "table wages"),
        ({"tables": []}, ALICE, _needs("patients"), "table patients"),
        ({}, ALICE, _needs("patients", reveals=Reveals.INDIVIDUAL), "values of single rows"),
        ({}, ALICE, _needs("patients", reveals=Reveals.UNKNOWN), "may reveal anything"),
        ({"reveals": "individual"}, ALICE, _needs("patients", reveals=Reveals.INDIVIDUAL), ""),
        ({"min_group": 10}, ALICE, _needs("patients"), ""),
        ({"min_group": 11}, ALICE, _needs("patients"), "groups of fewer than 11 rows"),
        ({"min_group": 11}, ALICE, _needs(), ""),
    ],
)
def test_a_rule(words: dict[str, Any], by: Submission, needs: Needs, missing: str) -> None:
    (decision,) = decide(_rule(**words), HERE, _job(), by, needs)
    assert decision.is_allowed is not bool(missing)
    assert missing in decision.why
    assert "study" in decision.why


@pytest.mark.parametrize(
    ("shows", "seen"),
    [((), ()), (["logs"], ("logs",)), (["metrics"], ("metrics",)), ("all", ("logs", "metrics"))],
)
def test_what_a_rule_shows(shows: Any, seen: tuple[str, ...]) -> None:
    for kind in ("logs", "metrics"):
        (decision,) = decide(_rule(shows=shows), HERE, _job(), ALICE, _needs(), kind)
        assert decision.is_allowed is (kind in seen)
        assert decision.is_allowed or f"the nearest rule, 'study', is not for showing {kind}" in decision.why
    (decision,) = decide(_rule(shows="all"), HERE, _job("secure_sum"), ALICE, _needs(), "logs")
    assert "no rule shows logs of component secure_sum" in decision.why


def test_every_task_and_role_of_this_site_is_decided_and_no_others() -> None:
    job = JobDescription.model_validate(
        {
            "name": "j",
            "roles": {"guest": [HERE], "host": [HERE, OTHER]},
            "tasks": {"a": {"component": "secure_sum"}, "b": {"component": "statistics"}},
        }
    )
    found = {(each.task, each.role): each.is_allowed for each in decide(DEFAULT, HERE, job, ALICE, _needs())}
    assert found == {("a", "guest"): True, ("a", "host"): True, ("b", "guest"): False, ("b", "host"): False}


def test_the_default_lets_the_toy_verify_and_nothing_else() -> None:
    toy, other = _job("secure_sum"), _job("statistics")
    assert all(each.is_allowed for each in decide(DEFAULT, HERE, toy, Submission(OTHER), _needs()))
    assert not any(each.is_allowed for each in decide(DEFAULT, HERE, other, ALICE, _needs()))
    assert not any(each.is_allowed for each in decide(DEFAULT, HERE, toy, ALICE, _needs("patients")))


def test_a_site_that_wants_signatures_takes_nothing_else() -> None:
    policy = DEFAULT.model_copy(update={"signed": True})
    (refused,) = decide(policy, HERE, _job("secure_sum"), Submission(OTHER, "alice", "site-admin"), _needs())
    assert (refused.is_allowed, "own signature only" in refused.why) == (False, True)
    assert decide(policy, HERE, _job("secure_sum"), ALICE, _needs())[0].is_allowed


_words = st.sampled_from(["alice", "bob", "statistics", "secure_sum", "host", "guest", "patients"])
_some = st.lists(_words, max_size=3).map(tuple)
_parties = st.lists(st.sampled_from([HERE, OTHER]), max_size=2).map(tuple)


@given(
    st.lists(st.tuples(_parties, _some, _some, _some), max_size=4),
    st.sampled_from([Submission(OTHER), ALICE, Submission(HERE, "bob", "viewer")]),
    st.sampled_from(["statistics", "secure_sum", "x"]),
)
def test_what_no_rule_names_is_refused(rules: list[Any], by: Submission, component: str) -> None:
    policy = Policy(
        version=1,
        rules=tuple(
            Rule(name=str(number), parties=parties, users=users, components=components, roles=("host",), tables=tables)
            for number, (parties, users, components, tables) in enumerate(rules)
        ),
    )
    (decision,) = decide(policy, HERE, _job(component), by, _needs("patients"))
    named = [
        by.party in parties and by.user in users and component in components and "patients" in tables
        for parties, users, components, tables in rules
    ]
    assert decision.is_allowed is any(named)


@given(st.binary(max_size=300))
def test_no_rule_means_refused_whatever_the_file(content: bytes) -> None:
    try:
        policy = read(content, "policy.yaml")
    except ConfigurationError as exc:
        assert exc.message.startswith("policy.yaml")  # noqa: PT017 - most are refused, which is well
        return
    if not policy.rules:
        assert not any(each.is_allowed for each in decide(policy, HERE, _job(), ALICE, _needs()))


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "p.yaml:1:1: the file as a whole: keys and values are meant"),
        ("version: 2", "p.yaml:1:1: version: Input should be 1"),
        ("rules: []", "p.yaml:1:1: the file as a whole: version is missing"),
        ("version: 1\nrule: []", "p.yaml:2:1: rule: there is no such key"),
        ("version: 1\nsigned: maybe", "p.yaml:2:1: signed"),
        ("version: 1\nrules:\n- name: a\n  parties: all", "p.yaml:3:3: rules.0: components is missing"),
        ("version: 1\nrules:\n- {name: a, components: all, parties: [012]}", "'012' is not a party id"),
        ("version: 1\nrules:\n- {name: a, parties: all,\n   components: secure_sum}", "p.yaml:4:4: rules.0.components"),
        ("version: 1\nrules: [", "p.yaml:2:9:"),
        ("version: 1\nversion: 1", "p.yaml:2:1: version is given twice"),
        ("version: !!python/object/apply:os.system [ls]", "tags are not allowed"),
        ("version: 1\nrules: [{name: a, parties: all, components: all, user_roles: [boss]}]", "'boss' is not one of"),
        ("[" * 100_000, "deep in each other"),
        ("#" * 300_000, "larger than"),
    ],
)
def test_a_fault_is_named_with_its_place(text: str, fault: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        read(text.encode(), "p.yaml")
    assert fault in raised.value.message
    assert "--check" in raised.value.hint


def test_numbers_in_lists_are_read_as_they_are_written() -> None:
    (rule,) = read(b"version: 1\nrules: [{name: a, parties: [10000, '9999'], components: [1e3]}]", "p").rules
    assert (rule.parties, rule.components) == (("10000", "9999"), ("1e3",))


def test_a_live_file(tmp_path: Path) -> None:
    path = tmp_path / "policy" / "policy.yaml"
    file = PolicyFile(path)
    assert (file.policy, file.fault) == (DEFAULT, "")
    assert "the default" in file.source
    path.parent.mkdir()
    path.write_text("version: 1\n")
    assert (file.policy.rules, file.fault) == ((), "")
    path.write_text("version: 1\nrules: oops\n")
    assert (file.policy.rules, "policy.yaml:2:1: rules" in file.fault) == ((), True)
    path.unlink()
    assert (file.policy, file.fault) == (DEFAULT, "")


def test_a_file_that_is_broken_from_the_start_allows_nothing(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text("version: [")
    file = PolicyFile(path)
    assert (file.policy.rules, bool(file.fault), "nothing is allowed" in file.source) == ((), True, True)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_may_not_be_read_is_a_fault(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text("version: 1\n")
    path.chmod(0)
    assert PolicyFile(path).fault


async def test_changes_are_seen_also_of_a_folder_that_is_made_later(tmp_path: Path) -> None:
    path = tmp_path / "policy" / "policy.yaml"
    file = PolicyFile(path)
    changes = file.changes()
    path.parent.mkdir()
    path.write_text("version: 1\n")
    await anext(changes)
    assert file.digest
    (path.parent / "new").write_text("version: 1\nsigned: true\n")
    (path.parent / "new").rename(path)
    await anext(changes)
    assert file.policy.signed
    await changes.aclose()  # type: ignore[attr-defined]
