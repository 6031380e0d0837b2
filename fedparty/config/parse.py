"""The grammar of parties.conf: a small, closed part of bash, read and never executed.

Owns text -> assignments with line numbers: ``key=value``, quotes, arrays over any number of lines, comments and
``[10000]`` sections. Does not own which keys exist or what their values mean.

Why not `shlex`: it takes the ``#`` in ``pass#word`` for a comment and cannot tell a ``$`` in single quotes, which is
text, from one that a shell would expand.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import NamedTuple

from fedparty.config.errors import Finding

_ASSIGNMENT = re.compile(r"\s*(?P<key>[A-Za-z_][A-Za-z0-9_]*)\s*(?P<append>\+?)=(?P<value>.*)$")
_NEXT_STATEMENT = re.compile(r"\s*(\[[^\]]*\]\s*(#.*)?$|[A-Za-z_][A-Za-z0-9_]*\s*\+?=)")
_PIECE = re.compile(
    r"""
    (?P<space>  \s+ | \\$ )
  | (?P<hash>   \# )
  | (?P<plain>  [^\s'"\\$`;&|<>()\#]+ )
  | (?P<single> '[^']*' )
  | (?P<double> "(?:[^"\\$`]|\\.)*" )
  | (?P<escape> \\. )
  | (?P<close>  \) )
    """,
    re.VERBOSE,
)
_EXPANDED = re.compile(r'"(?:[^"\\$`]|\\.)*[$`]')
_UNESCAPE = re.compile(r'\\(["\\$`])')


class Word(NamedTuple):
    """One word of a value and the line it stands on."""

    text: str
    line: int


@dataclass(frozen=True, slots=True)
class Assignment:
    """One ``key=value``.

    Parameters
    ----------
    section
        Name of the section it stands in; None above the first one.
    words
        The array's words; one word for a scalar, none for an empty one.
    is_broken
        The value could not be read; a fault says why.
    """

    section: str | None
    key: str
    line: int
    words: tuple[Word, ...]
    is_array: bool
    is_broken: bool = False


class Section(NamedTuple):
    """One ``[name]`` line."""

    name: str
    line: int


@dataclass(frozen=True, slots=True)
class Document:
    """What a file says, and what could not be read in it."""

    file: str
    assignments: tuple[Assignment, ...]
    sections: tuple[Section, ...]
    faults: tuple[Finding, ...]


class _SyntaxFault(Exception):
    def __init__(self, what: str, remedy: str) -> None:
        self.what = what
        self.remedy = remedy


@dataclass(slots=True)
class _OpenArray:
    key: str
    line: int
    words: list[Word] = field(default_factory=list)


def parse(text: str, file: str) -> Document:
    """Read the text of a parties.conf.

    Parameters
    ----------
    text
        The whole file.
    file
        Its name, for the findings.
    """
    parser = _Parser(file)
    for number, line in enumerate(text.split("\n"), start=1):
        parser.take(line.rstrip("\r"), number)
    return parser.finish()


class _Parser:
    def __init__(self, file: str) -> None:
        self._file = file
        self._section: str | None = None
        self._array: _OpenArray | None = None
        self._assignments: list[Assignment] = []
        self._sections: list[Section] = []
        self._faults: list[Finding] = []

    def take(self, line: str, number: int) -> None:
        if self._array and _NEXT_STATEMENT.match(line):
            self._give_up_array(self._array)
        if self._array:
            self._continue_array(self._array, line, number)
        elif not line.strip() or line.lstrip().startswith("#"):
            return
        elif line.lstrip().startswith("["):
            self._open_section(line, number)
        elif match := _ASSIGNMENT.match(line):
            self._assign(match, number)
        else:
            remedy = "Write key=value, or put # before a comment."
            self._fault(number, "", f"{_first_word(line)} is not key=value", remedy)

    def finish(self) -> Document:
        if self._array:
            self._give_up_array(self._array)
        return Document(self._file, tuple(self._assignments), tuple(self._sections), tuple(self._faults))

    def _open_section(self, line: str, number: int) -> None:
        inside, bracket, rest = line.strip()[1:].partition("]")
        name = inside.strip() if bracket else inside.partition("#")[0].strip()
        if not bracket:
            self._fault(number, f"[{name}", "the bracket is not closed", f"Write [{name}].")
        elif rest.strip() and not rest.lstrip().startswith("#"):
            self._fault(number, f"[{name}]", "something follows the bracket", "Write it on the next line.")
        self._section = name
        self._sections.append(Section(name, number))

    def _assign(self, match: re.Match[str], number: int) -> None:
        key, value = match["key"], match["value"]
        if match["append"]:
            self._break(key, number, number, "+= is not possible here", f"Write the whole value: {key}=...")
        elif value.lstrip().startswith("("):
            self._array = _OpenArray(key, number)
            self._continue_array(self._array, value.lstrip()[1:], number)
        else:
            self._assign_scalar(key, value, number)

    def _assign_scalar(self, key: str, value: str, number: int) -> None:
        try:
            words, _ = _split(value, in_array=False)
            if len(words) > 1:
                raise _SyntaxFault("there are several words", "Put the value in quotes, or # before a comment.")
        except _SyntaxFault as fault:
            self._break(key, number, number, fault.what, fault.remedy)
        else:
            self._add(key, number, tuple(Word(word, number) for word in words), is_array=False)

    def _continue_array(self, array: _OpenArray, text: str, number: int) -> None:
        try:
            words, is_closed = _split(text, in_array=True)
        except _SyntaxFault as fault:
            self._break(array.key, array.line, number, fault.what, fault.remedy)
            self._array = None if ")" in text else _OpenArray("", number)
            return
        array.words += (Word(word, number) for word in words)
        if is_closed:
            self._array = None
            if array.key:
                self._add(array.key, array.line, tuple(array.words), is_array=True)

    def _give_up_array(self, array: _OpenArray) -> None:
        self._array = None
        if array.key:
            what, remedy = "the bracket is not closed", f"Write {array.key}=(...) with a closing bracket."
            self._break(array.key, array.line, array.line, what, remedy)

    def _add(self, key: str, line: int, words: tuple[Word, ...], *, is_array: bool) -> None:
        self._assignments.append(Assignment(self._section, key, line, words, is_array))

    def _break(self, key: str, line: int, fault_line: int, what: str, remedy: str) -> None:
        if key:
            self._fault(fault_line, key, what, remedy)
            self._assignments.append(Assignment(self._section, key, line, (), is_array=False, is_broken=True))

    def _fault(self, line: int, key: str, what: str, remedy: str) -> None:
        self._faults.append(Finding(self._file, line, key, what, remedy))


def _split(text: str, *, in_array: bool) -> tuple[list[str], bool]:
    """Return the words of one line, unquoted, and whether a bracket closed the array on it."""
    words: list[str] = []
    word: str | None = None
    position = 0
    while position < len(text):
        piece = _PIECE.match(text, position)
        if piece is None or (piece.lastgroup == "close" and not in_array):
            raise _misread(text[position:])
        kind = piece.lastgroup
        if kind == "hash" and word is None and (position > 0 or in_array):  # key=#text is no comment in bash either
            break
        position = piece.end()
        if kind in ("space", "close"):
            words += [] if word is None else [word]
            word = None
            if kind == "close":
                _expect_nothing(text[position:])
                return words, True
        else:
            word = (word or "") + _unquote(piece[0], kind)
    return words + ([] if word is None else [word]), False


def _unquote(piece: str, kind: str | None) -> str:
    if kind == "single":
        return piece[1:-1]
    if kind == "double":
        return _UNESCAPE.sub(r"\1", piece[1:-1])
    return piece[1:] if kind == "escape" else piece


def _expect_nothing(rest: str) -> None:
    if rest.strip() and not re.match(r"\s+#", rest):
        raise _SyntaxFault("something follows the closing bracket", "Put # before a comment, or start a new line.")


def _misread(rest: str) -> _SyntaxFault:
    """Say why no piece starts at `rest`, without repeating it: it may be a password."""
    mark = rest[0]
    if mark in "$`" or _EXPANDED.match(rest):
        remedy = "Write the value itself; a literal $ or ` belongs in 'single quotes'."
        return _SyntaxFault("a shell would expand this; the file is read, never executed", remedy)
    if mark in "'\"":
        return _SyntaxFault(f"the quote {mark} is not closed", f"Close it with {mark} on the same line.")
    return _SyntaxFault(f"{mark} has a meaning in a shell only", "Put it in 'single quotes' if it is meant.")


def _first_word(line: str, limit: int = 40) -> str:
    """Return the start of a line that could not be read; the rest may be a password."""
    word = line.split()[0]
    return repr(word if len(word) <= limit else word[:limit] + "...")
