"""A party more or less in a parties.conf: every other line stays as its author wrote it."""

from __future__ import annotations

import pytest

from fedparty.config import ConfigurationErrors
from fedparty.config.edit import check, with_party, without_party

CONF = """\
# mine
engine=process
partylist=(10000
           9999)   # an older spelling, two lines
party_ip_list=(127.0.0.1 127.0.0.1)

[10000]
# of 10000
cores=2

# about 9999
[9999]
proxy_port=9370

rest_port=0
"""


def test_a_party_comes_in_at_the_end() -> None:
    text = with_party(CONF, "9998", "127.0.0.1", {"proxy_port": 9400, "rest_port": 9401})
    assert text == (
        CONF.replace("(10000\n           9999)", "(10000 9999 9998)").replace(
            "(127.0.0.1 127.0.0.1)", "(127.0.0.1 127.0.0.1 127.0.0.1)"
        )
        + "\n[9998]\nproxy_port=9400\nrest_port=9401\n"
    )
    assert [party.id for party in check(text, "parties.conf").federation.parties] == ["10000", "9999", "9998"]


@pytest.mark.parametrize("party", ["10000", "9999"])
def test_a_party_goes_with_its_section(party: str) -> None:
    text = without_party(CONF, party)
    (left,) = check(text, "parties.conf").federation.parties
    assert left.id != party
    assert f"[{party}]" not in text
    assert "# mine" in text
    assert "# about 9999" in text


def test_in_and_out_again() -> None:
    once = with_party(CONF, "9998", "127.0.0.1", {"proxy_port": 9400})
    assert without_party(once, "9998").rstrip() == without_party(with_party(CONF, "1", "::1", {}), "1").rstrip()


def test_lists_by_position_stay_matched() -> None:
    text = CONF.replace("engine=process", "serving_ip_list=(192.168.0.1 192.168.0.2)\nengine=process")
    assert "serving_ip_list=(192.168.0.2)" in without_party(text, "10000")


def test_a_text_with_faults_is_refused() -> None:
    with pytest.raises(ConfigurationErrors):
        check(with_party(CONF, "9999", "127.0.0.1", {}), "parties.conf")
