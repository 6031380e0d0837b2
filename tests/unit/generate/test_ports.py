"""Ports: given ones win, assigned ones stay, the rest are free."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedparty.config import Federation
from fedparty.errors import ConfigurationError
from fedparty.generate.ports import Assigned, assign

Read = Callable[..., Federation]


def test_first_choices_are_those_that_kubefate_users_know(federation_of: Callable[..., Federation]) -> None:
    ports = assign(federation_of(2, "exchange_ip=10.0.0.9\n"), {})
    assert ports == {
        "10000": Assigned("10.0.0.1", 9370, 9380),
        "10001": Assigned("10.0.0.2", 9370, 9380),
        "exchange": Assigned("10.0.0.9", 9371, None),
    }


def test_parties_on_one_machine_leave_the_first_choice_of_the_exchange_free(read: Read) -> None:
    ports = assign(read(), {})
    assert [(p.proxy_port, p.rest_port) for p in ports.values()] == [(9370, 9380), (9372, 9381)]


def test_all_loopback_addresses_are_one_machine(read: Read) -> None:
    federation = read("party_list=(1 2 3)\nparty_ip_list=(127.0.0.1 localhost ::1)\n")
    assert len({ports.proxy_port for ports in assign(federation, {}).values()}) == 3


def test_a_given_port_wins_and_is_planned_around(read: Read) -> None:
    ports = assign(read("", *_two("[9999]\nproxy_port=9370\nrest_port=9372\n")), {})
    assert ports["9999"] == Assigned("127.0.0.1", 9370, 9372)
    assert ports["10000"] == Assigned("127.0.0.1", 9373, 9380)


def test_rest_that_is_not_published_gets_no_port(read: Read) -> None:
    assert assign(read("", *_two("[9999]\nrest_port=0\n")), {})["9999"].rest_port is None


def test_nobody_is_moved_by_a_party_that_is_put_before_him(read: Read) -> None:
    first = assign(read(), {})
    later = assign(read("party_list=(5 10000 9999)\nparty_ip_list=(127.0.0.1 127.0.0.1 127.0.0.1)\n"), first)
    assert {party: later[party] for party in first} == first
    assert (later["5"].proxy_port, later["5"].rest_port) == (9373, 9382)


def test_a_party_that_changes_its_machine_is_planned_anew(read: Read) -> None:
    first = assign(read(), {})
    moved = assign(read("party_list=(10000 9999)\nparty_ip_list=(127.0.0.1 10.0.0.2)\n"), first)
    assert moved["9999"] == Assigned("10.0.0.2", 9370, 9380)


def test_a_given_port_that_another_party_has_had_is_refused(read: Read) -> None:
    first = assign(read(), {})
    with pytest.raises(ConfigurationError) as error:
        assign(read("", *_two("[9999]\nproxy_port=9370\n")), first)
    assert str(error.value) == (
        "port 9370 on 127.0.0.1 is taken twice: by proxy_port of 9999 and by proxy_port of 10000 since an earlier run"
    )


def test_two_given_ports_collide_even_if_nobody_checked_before(read: Read) -> None:
    federation = read()
    clash = tuple(replace(party, proxy_port=9000) for party in federation.parties)
    with pytest.raises(ConfigurationError, match=r"taken twice: by proxy_port of 10000 and by proxy_port of 9999$"):
        assign(replace(federation, parties=clash), {})


def test_a_port_reserved_for_the_board_stays_free(read: Read) -> None:
    assert assign(read("", *_two("[9999]\nboard_port=9370\n")), {})["10000"].proxy_port == 9372


def test_a_machine_can_be_full(read: Read) -> None:
    federation = read()
    full = replace(federation.parties[0], proxy_port=None)
    earlier = {str(port): Assigned("127.0.0.1", port, None) for port in range(9370, 65536)}
    crowd = tuple(replace(full, id=party, rest_port=0) for party in earlier)
    with pytest.raises(ConfigurationError, match=r"no port is left on 127\.0\.0\.1 for proxy_port of 5"):
        assign(replace(federation, parties=(*crowd, replace(full, id="5", rest_port=0))), earlier)


@given(
    hosts=st.lists(st.sampled_from(["10.0.0.1", "10.0.0.2"]), min_size=1, max_size=12),
    given=st.dictionaries(st.integers(0, 11), st.integers(9365, 9385), max_size=4),
)
def test_no_two_ever_share_a_port(template: Federation, hosts: list[str], given: dict[int, int]) -> None:
    parties = tuple(
        replace(template.parties[0], id=str(number + 1), address=host, proxy_port=given.get(number))
        for number, host in enumerate(hosts)
    )
    try:
        ports = assign(replace(template, parties=parties), {})
    except ConfigurationError:
        wanted = [(host, given[number]) for number, host in enumerate(hosts) if number in given]
        assert len(set(wanted)) < len(wanted)
        return
    taken = [(each.host, port) for each in ports.values() for port in (each.proxy_port, each.rest_port)]
    assert len(set(taken)) == len(taken)
    assert assign(replace(template, parties=parties), ports) == ports


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Federation:
    from fedparty.config import load

    path = tmp_path_factory.mktemp("ports") / "parties.conf"
    path.write_text("party_list=(1)\nparty_ip_list=(10.0.0.1)\n")
    return load(path).federation


def _two(section: str) -> tuple[str, str]:
    return "party_list=(10000 9999)\nparty_ip_list=(127.0.0.1 127.0.0.1)\n", section
