"""From assignments to typed settings: which key is meant, is it allowed there, is its value one.

Owns the rules about a single assignment: unknown, foreign, misplaced and repeated keys, and the reading of values.
Does not own rules that compare settings (`validate`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fedparty.config.errors import Finding
from fedparty.config.parse import Assignment, Document, Section, Word
from fedparty.config.schema import BY_SPELLING, FOREIGN, PUBLISHED_PASSWORDS, Key, Scope
from fedparty.config.values import Unfit
from fedparty.types import EXCHANGE


@dataclass(frozen=True, slots=True)
class Setting:
    """What one assignment says.

    Parameters
    ----------
    spelled
        The key as the user spelled it.
    value
        As the model holds it; a tuple for a list, with None for an element that could not be read.
    words
        The words as written.
    is_broken
        Its value cannot be used; a fault says why.
    count
        Number of a list's elements; None when that cannot be told.
    """

    key: Key
    spelled: str
    line: int
    value: object
    words: tuple[Word, ...]
    is_broken: bool
    count: int | None


@dataclass(frozen=True, slots=True)
class Settings:
    """Every setting of a file by place and key name, with what was found on the way."""

    file: str
    top: Mapping[str, Setting]
    sections: Mapping[str, Mapping[str, Setting]]
    headings: tuple[Section, ...]
    faults: tuple[Finding, ...]
    warnings: tuple[Finding, ...]

    def given(self, key: str, section: str) -> Setting | None:
        """Return the setting that holds for `section`: its own, else the one above the sections."""
        return self.sections.get(section, {}).get(key) or self.top.get(key)

    def finding(self, setting: Setting, what: str, remedy: str, line: int = 0) -> Finding:
        """Return a finding about `setting`, on `line` where that is not the setting's own."""
        return Finding(self.file, line or setting.line, setting.spelled, what, remedy)


def resolve(document: Document) -> Settings:
    """Give every assignment of `document` its key and its value."""
    resolver = _Resolver(document)
    for assignment in document.assignments:
        resolver.take(assignment)
    return resolver.finish()


class _Resolver:
    def __init__(self, document: Document) -> None:
        self._document = document
        self._top: dict[str, Setting] = {}
        self._sections: dict[str, dict[str, Setting]] = {section.name: {} for section in document.sections}
        self._faults = list(document.faults)
        self._warnings: list[Finding] = []

    def take(self, given: Assignment) -> None:
        key = BY_SPELLING.get(given.key)
        if key is None:
            self._take_unknown(given)
            return
        place = self._top if given.section is None else self._sections[given.section]
        if earlier := place.get(key.name):
            what = f"was given on line {earlier.line} already, as {earlier.spelled}"
            self._fault(given, what, "Remove one of the two.")
        elif given.section is not None and (fault := _misplaced(key, given.section)):
            self._fault(given, *fault)
        else:
            place[key.name] = self._read(key, given)

    def finish(self) -> Settings:
        file, headings = self._document.file, self._document.sections
        return Settings(file, self._top, self._sections, headings, tuple(self._faults), tuple(self._warnings))

    def _take_unknown(self, given: Assignment) -> None:
        if given.key not in FOREIGN:
            self._fault(given, "is not a key", _nearest(given.key))
            return
        what = "has no effect here"
        if given.key.endswith("_password") and any(word.text in PUBLISHED_PASSWORDS for word in given.words):
            what = f"the published password {given.words[0].text!r} is not used; every secret is random"
        self._warnings.append(Finding(self._document.file, given.line, given.key, what, f"{FOREIGN[given.key]}."))

    def _read(self, key: Key, given: Assignment) -> Setting:
        read = self._read_list if key.is_list else self._read_one
        value, is_broken = (key.default_value, True) if given.is_broken else read(key, given)
        has_comma = any("," in word.text for word in given.words)
        count = None if given.is_broken or has_comma else len(given.words)
        return Setting(key, given.key, given.line, value, given.words, is_broken, count)

    def _read_one(self, key: Key, given: Assignment) -> tuple[object, bool]:
        if given.is_array:
            self._fault(given, "takes one value, not a list", f"Write {given.key}=value, without brackets.")
            return key.default_value, True
        if not given.words or not given.words[0].text:
            return key.default_value, False
        try:
            return key.read(given.words[0].text), False
        except Unfit as unfit:
            self._fault(given, unfit.what, unfit.remedy)
            return key.default_value, True

    def _read_list(self, key: Key, given: Assignment) -> tuple[object, bool]:
        elements: list[object] = []
        for word in given.words:
            try:
                elements.append(_element(key, given, word.text))
            except Unfit as unfit:
                elements.append(None)
                self._fault(given, unfit.what, unfit.remedy, word.line)
        return tuple(elements), None in elements

    def _fault(self, given: Assignment, what: str, remedy: str, line: int = 0) -> None:
        self._faults.append(Finding(self._document.file, line or given.line, given.key, what, remedy))


def _element(key: Key, given: Assignment, text: str) -> object:
    if "," in text:
        raise Unfit(f"{text!r} has a comma; a list is separated by spaces", f"Write {given.key}=(first second).")
    return key.read(text)


def _misplaced(key: Key, section: str) -> tuple[str, str] | None:
    if key.scope is Scope.FEDERATION:
        return "is for the whole federation, but stands in a section", "Write it above the first section."
    if key.scope is Scope.PARTY and section == EXCHANGE:
        return "means nothing for the exchange", "Write it above the first section or in a party's section."
    return None


def _nearest(unknown: str) -> str:
    # Only a file with such a fault pays for the import.
    from difflib import get_close_matches

    known = {name.lower(): name for name in (*FOREIGN, *BY_SPELLING)}
    found = get_close_matches(unknown.lower(), known, n=1)
    return f"Did you mean {known[found[0]]}?" if found else "docs/parties.conf.md lists every key."
