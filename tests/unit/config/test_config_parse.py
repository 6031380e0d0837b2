"""The grammar: what bash would read, this reads; what bash would run, this refuses."""

import pytest

from fedparty.config.parse import parse


def values(text: str) -> dict[str, list[str]]:
    document = parse(text, "parties.conf")
    assert not document.faults
    return {given.key: [word.text for word in given.words] for given in document.assignments}


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("fate", ["fate"]),
        ("", []),
        ("   ", []),
        ("''", [""]),
        ("fate # who", ["fate"]),
        ("fate\t#who", ["fate"]),
        (" #none", []),
        ("#some", ["#some"]),
        ("pass#word", ["pass#word"]),
        ("'a b # $c `d` (e)'", ["a b # $c `d` (e)"]),
        ('"a \\"b\\" \\$c \\\\ \\x"', ['a "b" $c \\ \\x']),
        ("a\\ b\\$c", ["a b$c"]),
        ("a'b'\"c\"d", ["abcd"]),
        ("hdfs://namenode:9000", ["hdfs://namenode:9000"]),
        ("fate   ", ["fate"]),
        ("fate\r", ["fate"]),
    ],
)
def test_a_scalar_means_what_it_means_in_bash(written: str, meant: list[str]) -> None:
    assert values(f"key={written}") == {"key": meant}


@pytest.mark.parametrize(
    "written",
    [
        "(10000 9999)",
        "( 10000 9999 )",
        "(10000\t9999) ",
        "(10000   9999) # two",
        "(10000\n9999)",
        "(\n  10000 # the guest\n\n  9999 # the host, in brackets (9999)\n)",
        "(10000 \\\n 9999)",
        "('10000' \"9999\")",
        "(10000\r\n9999)\r",
        "(10000\u00a09999)",
    ],
)
def test_an_array_may_have_any_spacing(written: str) -> None:
    assert values(f"party_list={written}\nuser=fate") == {"party_list": ["10000", "9999"], "user": ["fate"]}


@pytest.mark.parametrize("line", ["user=fate", "  user=fate", "user = fate", "user= fate", "\tuser =fate"])
def test_spaces_around_a_key_do_not_matter(line: str) -> None:
    assert values(line) == {"user": ["fate"]}


def test_words_and_sections_know_their_lines() -> None:
    document = parse("#!/bin/bash\n\na=(1\n2)\n[ 10000 ] # mine\nb=3\n[9999]\nb=4\n", "parties.conf")
    assert [(given.section, given.key, given.line) for given in document.assignments] == [
        (None, "a", 3),
        ("10000", "b", 6),
        ("9999", "b", 8),
    ]
    assert [word.line for word in document.assignments[0].words] == [3, 4]
    assert [tuple(section) for section in document.sections] == [("10000", 5), ("9999", 7)]


EXPANDED = "a shell would expand this; the file is read, never executed. "
EXPANDED += "Write the value itself; a literal $ or ` belongs in 'single quotes'."
SHELL_ONLY = "has a meaning in a shell only. Put it in 'single quotes' if it is meant."


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("key=$(rm -rf /)", f"1: key: {EXPANDED}"),
        ("key=`id`", f"1: key: {EXPANDED}"),
        ("key=$HOME/x", f"1: key: {EXPANDED}"),
        ("key=${HOME}", f"1: key: {EXPANDED}"),
        ('key="a $HOME"', f"1: key: {EXPANDED}"),
        ('key="`id`"', f"1: key: {EXPANDED}"),
        ("key=(1\n$(id))", f"2: key: {EXPANDED}"),
        ("key=a;id", f"1: key: ; {SHELL_ONLY}"),
        ("key=a && id", f"1: key: & {SHELL_ONLY}"),
        ("key=a|id", f"1: key: | {SHELL_ONLY}"),
        ("key=a>b", f"1: key: > {SHELL_ONLY}"),
        ("key=a)", f"1: key: ) {SHELL_ONLY}"),
        ("key=((1))", f"1: key: ( {SHELL_ONLY}"),
        ("key='a", "1: key: the quote ' is not closed. Close it with ' on the same line."),
        ('key="a', '1: key: the quote " is not closed. Close it with " on the same line.'),
        ("key=(1 'a\n2)", "1: key: the quote ' is not closed. Close it with ' on the same line."),
        ("key=(1 2", "1: key: the bracket is not closed. Write key=(...) with a closing bracket."),
        ("key=(1 2\n\nuser=a", "1: key: the bracket is not closed. Write key=(...) with a closing bracket."),
        ("key=(1 2\n[10000]", "1: key: the bracket is not closed. Write key=(...) with a closing bracket."),
        (
            "key=(1 2) 3",
            "1: key: something follows the closing bracket. Put # before a comment, or start a new line.",
        ),
        ("key=(1)# no", "1: key: something follows the closing bracket. Put # before a comment, or start a new line."),
        ("key=a b", "1: key: there are several words. Put the value in quotes, or # before a comment."),
        ("key+=(3)", "1: key: += is not possible here. Write the whole value: key=..."),
        ("export key=1", "1: 'export' is not key=value. Write key=value, or put # before a comment."),
        ("key", "1: 'key' is not key=value. Write key=value, or put # before a comment."),
        ("10=20", "1: '10=20' is not key=value. Write key=value, or put # before a comment."),
        ("[10000", "1: [10000: the bracket is not closed. Write [10000]."),
        ("[10000] user=a", "1: [10000]: something follows the bracket. Write it on the next line."),
    ],
)
def test_a_syntax_fault_names_line_key_and_remedy(text: str, message: str) -> None:
    assert list(map(str, parse(text, "parties.conf").faults)) == [f"parties.conf:{message}"]


def test_reading_goes_on_after_a_fault() -> None:
    document = parse("a=(1 $x\n2)\nb='\nc=(3\nd=4\n[9999\ne=5", "parties.conf")
    assert [fault.line for fault in document.faults] == [1, 3, 4, 6]
    assert [(given.key, given.is_broken) for given in document.assignments] == [
        ("a", True),
        ("b", True),
        ("c", True),
        ("d", False),
        ("e", False),
    ]


def test_a_message_never_repeats_a_value() -> None:
    text = "mysql_password=hunter2$x\nmysql_password hunter2\nmysql_password='hunter2\nmysql_password=a hunter2"
    document = parse(text, "parties.conf")
    assert len(document.faults) == 4
    assert "hunter2" not in "".join(map(str, document.faults))


@pytest.mark.parametrize("text", ["[" + " " * 200_000, "a=" + '"\\' * 100_000, "a=(" * 50_000, "a" * 200_000])
@pytest.mark.timeout(5)
def test_strange_text_is_read_in_linear_time(text: str) -> None:
    assert parse(text, "parties.conf").faults
