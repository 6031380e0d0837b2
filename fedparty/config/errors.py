"""What is found wrong, or worth saying, in a parties.conf.

Owns one finding and the exception that carries all of them. Does not own any rule: those are in `parse`, `resolve`
and `validate`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from fedparty.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Finding:
    """One fault or warning: where, what, and what to write instead.

    Parameters
    ----------
    file
        The file as the user named it.
    line
        Line number from 1; 0 when the finding is about the whole file.
    key
        The key as the user spelled it, or ``[section]``; empty when there is none.
    what
        What is wrong, without a full stop.
    remedy
        What to write, as a sentence.
    """

    file: str
    line: int
    key: str
    what: str
    remedy: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        key = f"{self.key}: " if self.key else ""
        return f"{place}: {key}{self.what}. {self.remedy}"


class ConfigurationErrors(ConfigurationError):
    """Every fault of a parties.conf at once; nothing was written.

    Parameters
    ----------
    faults
        At least one.
    """

    def __init__(self, faults: Iterable[Finding]) -> None:
        self.faults = tuple(sorted(faults, key=lambda fault: fault.line))
        super().__init__(
            "\n".join(map(str, self.faults)),
            hint="Correct the file and run the command again; docs/parties.conf.md explains every key.",
        )
