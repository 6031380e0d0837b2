"""A document becomes a valid `Federation`, or every fault at once.

Owns the rules that compare settings: lists of different length, sections without a party, ports and databases taken
twice. Does not own rules about one assignment (`resolve`) or one word (`values`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import cast

from fedparty.config.build import build
from fedparty.config.errors import ConfigurationErrors, Finding
from fedparty.config.model import Database, Federation, Party
from fedparty.config.parse import Document
from fedparty.config.resolve import Setting, Settings, resolve
from fedparty.config.schema import PUBLISHED_PASSWORDS
from fedparty.types import EXCHANGE, PARTY_ID, PartyId, Secret

_PORTS = ("proxy_port", "rest_port", "board_port")
_NAMED_AT_MOST = 3


@dataclass(frozen=True, slots=True)
class Loaded:
    """A valid file: what it describes, and what its author should know.

    Parameters
    ----------
    warnings
        In the order of the file; ``str(warning)`` is one line for people.
    """

    federation: Federation
    warnings: tuple[Finding, ...]


def validate(document: Document) -> Loaded:
    """Return the federation that `document` describes.

    Raises
    ------
    ConfigurationErrors
        With every fault of the file.
    """
    settings = resolve(document)
    faults = [*settings.faults, *_list_faults(settings), *_section_faults(settings)]
    federation = build(settings)
    for rule in (_lifetime_faults, _port_faults, _database_faults):
        faults += rule(federation, settings)
    if faults:
        raise ConfigurationErrors(dict.fromkeys(faults))
    warnings = [*settings.warnings, *_serving_warnings(settings), *_password_warnings(federation, settings)]
    return Loaded(federation, tuple(sorted(dict.fromkeys(warnings), key=lambda warning: warning.line)))


def _list_faults(settings: Settings) -> Iterator[Finding]:
    ids = settings.top.get("party_list")
    if ids is None:
        yield Finding(settings.file, 0, "party_list", "is missing", "Write party_list=(10000 9999).")
    elif ids.count == 0:
        yield settings.finding(ids, "there is no party in it", f"Write {ids.spelled}=(10000 9999).")
    if settings.top.get("party_ip_list") is None:
        remedy = "Write party_ip_list=(127.0.0.1 127.0.0.1), one address for each party."
        yield Finding(settings.file, 0, "party_ip_list", "is missing", remedy)
    if ids is not None:
        yield from _repeated_ids(ids, settings)
        yield from _length_faults(ids, settings)


def _repeated_ids(ids: Setting, settings: Settings) -> Iterator[Finding]:
    seen: set[str] = set()
    for text, line in ids.words:
        if text in seen:
            yield settings.finding(ids, f"{text} is given twice", "Give each party an id of its own.", line)
        seen.add(text)


def _length_faults(ids: Setting, settings: Settings) -> Iterator[Finding]:
    for name, may_be_empty in (("party_ip_list", False), ("serving_ip_list", True)):
        addresses = settings.top.get(name)
        if addresses is None or None in (ids.count, addresses.count) or (may_be_empty and not addresses.count):
            continue
        if addresses.count != ids.count:
            what = f"has {_counted(addresses.count, 'address', 'addresses')}, but {ids.spelled} has "
            what += _counted(ids.count, "party", "parties")
            yield settings.finding(addresses, what, "Write one address for each party, in the same order.")


def _section_faults(settings: Settings) -> Iterator[Finding]:
    ids = settings.top.get("party_list")
    listed = None if ids is None or ids.count is None else {word.text for word in ids.words}
    exchange = settings.top.get("exchange_ip")
    for name, line in settings.headings:
        what = remedy = ""
        if name == EXCHANGE:
            if exchange is None or not (exchange.is_broken or exchange.value):
                what, remedy = "there is no exchange", "Write exchange_ip above the first section, or remove this one."
        elif not PARTY_ID.fullmatch(name):
            what, remedy = "is not a party id", "Write the id of a party, e.g. [10000], or [exchange]."
        elif listed is not None and name not in listed:
            what, remedy = "is not in party_list", "Add the party there, or remove this section."
        if what:
            yield Finding(settings.file, line, f"[{name}]", what, remedy)


def _lifetime_faults(federation: Federation, settings: Settings) -> Iterator[Finding]:
    leaf_days, ca_days = federation.certificate_lifetime_days, federation.ca_lifetime_days
    given = [settings.top.get(name) for name in ("certificate_lifetime_days", "ca_lifetime_days")]
    culprits = [setting for setting in given if setting]
    if leaf_days > ca_days and not any(setting.is_broken for setting in culprits):
        what = f"a certificate for {leaf_days} days would outlive the CA with its {ca_days} days"
        yield settings.finding(culprits[0], what, "Write ca_lifetime_days larger than certificate_lifetime_days.")


def _port_faults(federation: Federation, settings: Settings) -> Iterator[Finding]:
    """Find ports that are given twice on one machine; ports that are not given are planned around the given ones."""
    claims: dict[tuple[str, int], list[tuple[str, Setting]]] = defaultdict(list)
    for party in federation.parties:
        for name in _PORTS:
            if setting := _used(settings.given(name, party.id)):
                claims[party.host, cast(int, setting.value)].append((f"{name} of {party.id}", setting))
    if federation.exchange and (setting := _used(settings.top.get("exchange_port"))):
        claims[federation.exchange.host, cast(int, setting.value)].append(("exchange_port", setting))
    for (host, port), owners in claims.items():
        if len(owners) > 1:
            last = max((setting for _, setting in owners), key=lambda setting: setting.line)
            what = f"{port} is taken twice on {host}, by {_named([owner for owner, _ in owners])}"
            yield settings.finding(last, what, "Give each its own, or leave the key out: free ports are planned.")


def _database_faults(federation: Federation, settings: Settings) -> Iterator[Finding]:
    users: dict[tuple[str, int, str], list[PartyId]] = defaultdict(list)
    for party in federation.parties:
        database, host = party.database, settings.given("mysql_ip", party.id)
        if database is None or host is None:
            continue
        users[database.host, database.port, database.name].append(party.id)
        yield from _credential_faults(party, database, host, settings)
    for (address, _, name), parties in users.items():
        if len(parties) > 1 and (culprit := settings.given("mysql_ip", parties[-1])):
            what = f"the database {name!r} on {address} would be shared by {_named(parties)}"
            yield settings.finding(culprit, what, "Write a mysql_db of its own into the section of each party.")


def _credential_faults(party: Party, database: Database, host: Setting, settings: Settings) -> Iterator[Finding]:
    for name, value in (("mysql_user", database.user), ("mysql_password", database.password)):
        setting = settings.given(name, party.id)
        if value is None and not (setting and setting.is_broken):
            yield settings.finding(host, f"an external database needs {name}", f"Write {name}=... as well.")
    password = settings.given("mysql_password", party.id)
    if password and _is_published(password):
        what = "a published default password protects nothing"
        yield settings.finding(password, what, "Set another one in the database and write it here.")


def _serving_warnings(settings: Settings) -> Iterator[Finding]:
    serving = settings.top.get("serving_ip_list")
    if serving and serving.count:
        what = "this release has no online serving"
        yield settings.finding(serving, what, "The addresses were checked and are kept for a later release.")


def _password_warnings(federation: Federation, settings: Settings) -> Iterator[Finding]:
    remedy = "A database of the party's own has a random password, or needs none."
    for party in federation.parties:
        password = settings.given("mysql_password", party.id)
        if party.database is None and password and password.words and password.words[0].text:
            if _is_published(password):
                text = password.words[0].text
                yield settings.finding(password, f"the published password {text!r} is not used", remedy)
            else:
                yield settings.finding(password, "is not used without mysql_ip", remedy)


def _used(setting: Setting | None) -> Setting | None:
    return setting if setting and not setting.is_broken and setting.value else None


def _is_published(password: Setting) -> bool:
    return isinstance(password.value, Secret) and password.value.reveal() in PUBLISHED_PASSWORDS


def _counted(count: int | None, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}"


def _named(names: Iterable[str]) -> str:
    named = list(names)
    shown, rest = named[:_NAMED_AT_MOST], len(named) - _NAMED_AT_MOST
    return ", ".join(shown) + (f" and {rest} more" if rest > 0 else "")
