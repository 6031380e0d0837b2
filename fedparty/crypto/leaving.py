"""What a task's role may send to other parties: part of its token, so that receivers can hold it to that, too.

Owns the limits, their check and their form in a token. Does not own who sets them (the site's policy).
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Leaving:
    """Limits of what leaves a site.

    Parameters
    ----------
    tags
        Patterns as in file names, one of which a tag must match; None: any tag.
    object_bytes, task_bytes
        Size of one object, and of all that one role of an attempt sends; 0: no limit.
    """

    tags: tuple[str, ...] | None = None
    object_bytes: int = 0
    task_bytes: int = 0

    def refusal(self, tag: str, size_bytes: int, sent_bytes: int = 0) -> str:
        """Return why an object may not leave, or nothing.

        Parameters
        ----------
        sent_bytes
            What left before it.
        """
        if self.tags is not None and not any(fnmatch.fnmatchcase(tag, pattern) for pattern in self.tags):
            return f"tag {tag!r} is none that may leave ({', '.join(self.tags) or 'none may'})"
        if 0 < self.object_bytes < size_bytes:
            return f"tag {tag!r} has {size_bytes} bytes, an object may have {self.object_bytes}"
        if 0 < self.task_bytes < sent_bytes + size_bytes:
            return f"tag {tag!r} makes it {sent_bytes + size_bytes} bytes, the task may send {self.task_bytes}"
        return ""

    def to_claims(self) -> dict[str, Any]:
        """Return it as JSON values; nothing where there is no limit."""
        tags = {} if self.tags is None else {"tags": list(self.tags)}
        sizes = {"object_bytes": self.object_bytes, "task_bytes": self.task_bytes}
        return tags | {name: size for name, size in sizes.items() if size}

    @classmethod
    def from_claims(cls, claims: Mapping[str, Any]) -> Leaving:
        """Read what `to_claims` returned.

        Raises
        ------
        ValueError
            It is something else.
        """
        tags, object_bytes, task_bytes = (claims.get(name) for name in ("tags", "object_bytes", "task_bytes"))
        is_list = tags is None or (isinstance(tags, list) and all(isinstance(tag, str) for tag in tags))
        if not is_list or not all(size is None or isinstance(size, int) for size in (object_bytes, task_bytes)):
            raise ValueError("it does not say what may leave")
        return cls(None if tags is None else tuple(tags), object_bytes or 0, task_bytes or 0)
