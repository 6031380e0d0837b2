"""The file, the model and the documentation say the same, because one schema says it."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fedparty.config import Database, Exchange, Federation, Loaded, Party, load, reference
from fedparty.config.schema import BY_SPELLING, FOREIGN, KEYS, Key, Scope

Read = Callable[[str], Loaded]
ROOT = Path(__file__).resolve().parents[3]
SAMPLES = {
    "party_list": "(1 2)",
    "party_ip_list": "(a b)",
    "serving_ip_list": "(c d)",
    "engine": "process",
    "managed": "manual",
    "service_layout": "together",
    "log_level": "DEBUG",
    "ssh_port": "2022",
    "dir": "/somewhere",
    "rest_bind": "0.0.0.0",
    "federation_name": "other",
    "spool_quota": "1GiB",
    "log_limit": "1MiB",
    "proxy_window": "1MiB",
    "mysql_port": "3307",
    "image": "registry.example.org:5000/team/worker:2.0",
    "mysql_db": "other",
    "ca_lifetime_days": "3000",
}
DATABASE = {"mysql_ip": "10.0.0.1", "mysql_user": "someone", "mysql_password": "x1"}


def sample(key: Key) -> str:
    """Return a value for `key` that is not its default."""
    if key.default.isdecimal() and key.name not in SAMPLES:
        return str(int(key.default) + 1)
    return SAMPLES.get(key.name) or key.example


def field_of(federation: Federation, key: Key) -> Any:
    """Return what the model holds for `key`, by its dotted field."""
    outer, _, name = key.field.rpartition(".")
    if outer == "parties":
        return tuple(getattr(party, name) for party in federation.parties)
    holder: Any = federation if key.scope is Scope.FEDERATION else federation.parties[0]
    return getattr(getattr(holder, outer) if outer else holder, name)


def test_the_shipped_file_is_what_the_schema_says() -> None:
    assert (ROOT / "parties.conf").read_text(encoding="utf-8") == reference.example()


def test_the_documentation_is_what_the_schema_says() -> None:
    assert (ROOT / "docs/parties.conf.md").read_text(encoding="utf-8") == reference.reference()


def test_the_command_writes_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("docs").mkdir()
    reference.main()
    assert Path("parties.conf").read_text(encoding="utf-8") == reference.example()
    assert Path("docs/parties.conf.md").read_text(encoding="utf-8") == reference.reference()


def test_the_shipped_file_is_two_parties_on_this_machine() -> None:
    loaded = load(ROOT / "parties.conf")
    assert [(party.id, party.address, party.engine) for party in loaded.federation.parties] == [
        ("10000", "127.0.0.1", "docker"),
        ("9999", "127.0.0.1", "docker"),
    ]
    assert loaded.federation.exchange is None
    assert loaded.warnings == ()


def test_the_commented_keys_of_the_shipped_file_are_possible(read: Read) -> None:
    text = (ROOT / "parties.conf").read_text(encoding="utf-8")
    lines = text.partition("# ---- Sections")[0].split("\n")
    active = [line.removeprefix("#") if line.startswith("#") and line[1:2].islower() else line for line in lines]
    for once in ("proxy_port", "rest_port", "board_port", "mysql_ip"):
        active = [line for line in active if not line.startswith(f"{once}=")]
    assert len(read("\n".join(active)).federation.parties) == 2


def test_every_key_is_documented_once() -> None:
    example, table = reference.example(), reference.reference()
    for key in KEYS:
        assert example.count(f"\n{key.name}=") + example.count(f"\n#{key.name}=") == 1 + (
            key.name in ("rest_port", "cores")
        )
        assert sum(line.startswith(f"| `{key.name}`") for line in table.split("\n")) == 1
        assert key.doc.endswith(".")
        assert key.unit
        assert bool(key.default) != bool(key.unset)


def test_spellings_are_unique() -> None:
    spellings = [name for key in KEYS for name in key.spellings]
    assert len(spellings) == len(set(spellings)) == len(BY_SPELLING)
    assert not set(spellings) & set(FOREIGN)
    assert len({key.field for key in KEYS}) == len(KEYS)


def test_every_field_of_the_model_has_a_key() -> None:
    top = {key.field for key in KEYS if key.scope is Scope.FEDERATION}
    machine = {key.field for key in KEYS if key.scope is Scope.MACHINE}
    party = {key.field for key in KEYS if key.scope is Scope.PARTY}
    own = {field.removeprefix("parties.") for field in top if field.startswith("parties.")}
    assert names(Federation) - {"parties", "exchange"} == {field for field in top if "." not in field}
    assert names(Exchange) == machine | {
        field.removeprefix("exchange.") for field in top if field.startswith("exchange.")
    }
    assert names(Party) - {"database"} == machine | own | {field for field in party if "." not in field}
    assert names(Database) == {field.removeprefix("database.") for field in party if field.startswith("database.")}


def names(kind: type[Any]) -> set[str]:
    return {field.name for field in dataclasses.fields(kind)}


@pytest.mark.parametrize("spelling", BY_SPELLING)
def test_every_key_reaches_its_field(read: Read, spelling: str) -> None:
    key = BY_SPELLING[spelling]
    given = {"party_list": "(10000 9999)", "party_ip_list": "(127.0.0.1 127.0.0.2)", "exchange_ip": "10.0.0.9"}
    database = DATABASE if key.field.startswith("database.") else {}
    text = "".join(f"{name}={value}\n" for name, value in given.items())
    own = "".join(f"{name}={value}\n" for name, value in ({"mysql_db": "one"} | database).items())
    before = read(f"{text}[10000]\n{own}").federation if database else read(text).federation
    if key.scope is Scope.FEDERATION:
        given.pop(key.name, None)
        text = "".join(f"{name}={value}\n" for name, value in given.items()) + f"{spelling}={sample(key)}\n"
    else:
        database = {"mysql_db": "one"} | database if database else {}
        own = "".join(f"{name}={value}\n" for name, value in database.items() if name != key.name)
        text += f"[10000]\n{own}{spelling}={sample(key)}\n"
    after = read(text).federation
    assert field_of(after, key) != field_of(before, key)


@pytest.mark.parametrize("name", FOREIGN)
def test_every_foreign_key_is_named_with_what_replaces_it(read: Read, name: str) -> None:
    (warning,) = read(f"party_list=(1)\nparty_ip_list=(a)\n{name}=something\n").warnings
    assert str(warning) == f"parties.conf:3: {name}: has no effect here. {FOREIGN[name]}."
