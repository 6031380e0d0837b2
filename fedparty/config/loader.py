"""Reading the file itself.

Owns bytes -> text and the faults of a file as a file: absent, unreadable, not text, empty. Does not own what the text
says.
"""

from __future__ import annotations

from pathlib import Path

from fedparty.config.errors import ConfigurationErrors, Finding
from fedparty.config.parse import parse
from fedparty.config.validate import Loaded, validate

LARGEST_BYTES = 4 * 2**20
_CONTROL = frozenset(map(chr, (*range(32), *range(127, 160)))) - set("\t\n\r\f\v")
_EXAMPLE = "Start from the parties.conf of this project."


def load(path: Path) -> Loaded:
    """Read and check a parties.conf.

    Parameters
    ----------
    path
        As the user named it; the findings repeat it.

    Raises
    ------
    ConfigurationErrors
        With every fault of the file.
    """
    file = str(path)
    return validate(parse(decode(_read(path), file), file))


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_BYTES + 1)
    except FileNotFoundError as exc:
        raise _refusal(path, "there is no such file", "Run this in its folder, or name it with -c.") from exc
    except IsADirectoryError as exc:
        raise _refusal(path, "is a folder", "Name the file in it with -c.") from exc
    except OSError as exc:
        raise _refusal(path, f"cannot be read ({exc.strerror})", "Make it readable for this user.") from exc
    if len(content) > LARGEST_BYTES:
        raise _refusal(path, "is larger than 4 MiB", _EXAMPLE)
    return content


def decode(content: bytes, file: str) -> str:
    """Return the text of a file.

    Raises
    ------
    ConfigurationErrors
        It is empty or not text.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise _not_text(file, content[: exc.start].count(b"\n") + 1) from exc
    if not text.strip():
        raise _refusal(file, "is empty", _EXAMPLE)
    found = _CONTROL & set(text)
    if found:
        raise _not_text(file, text[: min(map(text.index, found))].count("\n") + 1)
    return text


def _not_text(file: str, line: int) -> ConfigurationErrors:
    return _refusal(file, "is not text", "Save it as UTF-8 text.", line)


def _refusal(file: str | Path, what: str, remedy: str, line: int = 0) -> ConfigurationErrors:
    return ConfigurationErrors([Finding(str(file), line, "", what, remedy)])
