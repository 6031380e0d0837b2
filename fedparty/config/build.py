"""From settings to the frozen `Federation`.

Owns the way of a value to its field: a party's section, else what stands above the sections, else the default.
Does not own any check: what could not be read is left out or is its default, so that every rule can look at the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import zip_longest
from typing import Any, cast

from fedparty.config.model import Database, Exchange, Federation, Party
from fedparty.config.resolve import Setting, Settings
from fedparty.config.schema import KEYS, Scope
from fedparty.types import EXCHANGE, PartyId

_Fields = dict[str, Any]


def build(settings: Settings) -> Federation:
    """Return the federation that `settings` describe, as far as they could be read."""
    ids, addresses, serving = (_list(settings, name) for name in ("party_list", "party_ip_list", "serving_ip_list"))
    shared = _fields(settings.top, Scope.PARTY, Scope.MACHINE)
    parties: dict[PartyId, Party] = {}
    for party, address, serving_address in zip_longest(ids, addresses, serving):
        if party and address and party not in parties:
            parties[party] = _party(party, address, serving_address, shared | _own_fields(settings, party))
    top = _fields(settings.top, Scope.FEDERATION)
    exchange = _exchange(settings, _inside(top, "exchange"))
    return Federation(parties=tuple(parties.values()), exchange=exchange, **_plain(top))


def _party(party: PartyId, address: str, serving_address: str | None, fields: _Fields) -> Party:
    database = Database(**_inside(fields, "database")) if fields["database.host"] else None
    return Party(id=party, address=address, serving_address=serving_address, database=database, **_plain(fields))


def _exchange(settings: Settings, placed: _Fields) -> Exchange | None:
    if not placed["address"]:
        return None
    machine = _fields(settings.top, Scope.MACHINE) | _own_fields(settings, EXCHANGE)
    return Exchange(**placed, **machine)


def _fields(given: Mapping[str, Setting], *scopes: Scope) -> _Fields:
    """Return field -> value of every key of `scopes`, defaults included."""
    keys = (key for key in KEYS if key.scope in scopes)
    return {key.field: given[key.name].value if key.name in given else key.default_value for key in keys}


def _own_fields(settings: Settings, section: str) -> _Fields:
    return {setting.key.field: setting.value for setting in settings.sections.get(section, {}).values()}


def _plain(fields: _Fields) -> _Fields:
    return {name: value for name, value in fields.items() if "." not in name}


def _inside(fields: _Fields, outer: str) -> _Fields:
    prefix = f"{outer}."
    return {name.removeprefix(prefix): value for name, value in fields.items() if name.startswith(prefix)}


def _list(settings: Settings, name: str) -> tuple[Any, ...]:
    setting = settings.top.get(name)
    return cast("tuple[Any, ...]", setting.value) if setting else ()
