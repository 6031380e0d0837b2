"""Whatever the file holds, it loads or is refused with a `ConfigurationError`: nothing else ever comes out."""

from contextlib import suppress

from hypothesis import example, given, settings
from hypothesis import strategies as st

from fedparty.config import loader
from fedparty.config.parse import parse
from fedparty.config.schema import BY_SPELLING, FOREIGN
from fedparty.config.validate import validate
from fedparty.errors import ConfigurationError

MARKS = "()[]=+'\"\\#$`;, \t\r\n\u00a0\u0661"
WORDS = "10000 9999 127.0.0.1 localhost ::1 fe80::1%eth0 9370 0 -1 1e9 10GiB /a ~/a mysql fate_dev exchange"
LISTS = ("[exchange]\n", "[10000]\n", "(10000 9999)", "(127.0.0.1 127.0.0.1)")
FRAGMENTS = st.sampled_from([*MARKS, *WORDS.split(" "), *LISTS])
VALUES = st.one_of(st.text(max_size=20), st.lists(FRAGMENTS, max_size=6).map("".join))
ASSIGNMENTS = st.tuples(st.sampled_from([*BY_SPELLING, *FOREIGN, "other"]), VALUES).map("=".join)
LINES = st.one_of(
    ASSIGNMENTS, VALUES, st.sampled_from(["[10000]", "[9999]", "[exchange]", "[", "party_list=(10000 9999)"])
)
FILES = st.lists(LINES, max_size=12).map("\n".join)
VALID = "party_list=(10000 9999)\nparty_ip_list=(127.0.0.1 127.0.0.1)\n"


def loads_or_is_refused(text: str) -> None:
    with suppress(ConfigurationError):
        assert validate(parse(text, "parties.conf")).federation.parties


@given(st.text())
@example("[")
@example("party_list=(")
def test_any_text(text: str) -> None:
    loads_or_is_refused(text)


@settings(max_examples=400)
@given(FILES)
def test_text_that_looks_like_a_configuration(text: str) -> None:
    loads_or_is_refused(text)


@settings(max_examples=400)
@given(FILES)
def test_text_after_a_valid_start(text: str) -> None:
    loads_or_is_refused(VALID + text)


@given(st.binary())
def test_any_bytes(content: bytes) -> None:
    with suppress(ConfigurationError):
        assert loader.decode(content, "parties.conf").strip()
