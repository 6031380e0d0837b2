"""Changing a parties.conf as its author would: a party more or less, every other line as it was.

Owns text -> text. Does not own the file, nor what the result means (`validate`); `check` says whether it holds.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from fedparty.config.loader import decode
from fedparty.config.parse import Assignment, parse
from fedparty.config.schema import KEYS
from fedparty.config.validate import Loaded, validate

_PARTIES, _ADDRESSES, _SERVING = "party_list", "party_ip_list", "serving_ip_list"
_BARE = re.compile(r"[A-Za-z0-9._:-]+")


def check(text: str, file: str) -> Loaded:
    """Return what a text describes.

    Raises
    ------
    ConfigurationErrors
        With every fault in it.
    """
    return validate(parse(decode(text.encode(), file), file))


def with_party(text: str, party: str, address: str, settings: Mapping[str, object]) -> str:
    """Return the text with one more party at the end of the lists, and a section with its settings."""
    text = _rewritten(text, _PARTIES, lambda words: [*words, party])
    text = _rewritten(text, _ADDRESSES, lambda words: [*words, address])
    section = "\n".join([f"[{party}]", *(f"{key}={value}" for key, value in settings.items())])
    return f"{text.rstrip()}\n\n{section}\n"


def without_party(text: str, party: str) -> str:
    """Return the text without a party: out of each list that is matched by position, its section removed."""
    position = _words(text, _PARTIES).index(party)
    for key in (_PARTIES, _ADDRESSES, _SERVING):
        text = _rewritten(text, key, lambda words: [*words[:position], *words[position + 1 :]])
    return _without_section(text, party)


def _words(text: str, key: str) -> list[str]:
    found = _assignment(text, key)
    return [word.text for word in found.words] if found else []


def _assignment(text: str, key: str) -> Assignment | None:
    """Return the list of this name, or of an older spelling of it."""
    spellings = next(each.spellings for each in KEYS if each.name == key)
    found = (each for each in parse(text, "").assignments if each.section is None and each.key in spellings)
    return next(found, None)


def _rewritten(text: str, key: str, change: Callable[[Sequence[str]], Sequence[str]]) -> str:
    found = _assignment(text, key)
    if found is None or not found.words:
        return text
    lines = text.split("\n")
    start, end = found.line - 1, _end(lines, found.line)
    _, _, comment = lines[end - 1].partition(")")
    words = " ".join(map(_quoted, change([word.text for word in found.words])))
    lines[start:end] = [f"{found.key}=({words}){comment}"]
    return "\n".join(lines)


def _end(lines: Sequence[str], first: int) -> int:
    """Return the number of the line that a statement, which starts at line `first`, ends at."""
    ends = (end for end in range(first, len(lines) + 1) if not parse("\n".join(lines[first - 1 : end]), "").faults)
    return next(ends, first)


def _without_section(text: str, name: str) -> str:
    """Return the text without a section; the comments below its last setting stay."""
    document, lines = parse(text, ""), text.split("\n")
    for section in reversed([each for each in document.sections if each.name == name]):
        later = [each.line for each in document.sections if each.line > section.line]
        own = [
            each.line for each in document.assignments if section.line < each.line < min(later, default=len(lines) + 1)
        ]
        end = _end(lines, max(own)) if own else section.line
        del lines[section.line - 1 : end]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines))


def _quoted(word: str) -> str:
    return word if _BARE.fullmatch(word) else f"'{word}'"
