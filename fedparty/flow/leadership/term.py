"""The time in which a flow may act for its party.

Owns what the rest of the flow sees of it. Does not own how a replica comes to lead (`leadership`).
"""

from __future__ import annotations

from typing import Protocol

from fedparty.database.engine import Fence


class Term(Protocol):
    """What a leading flow shows, and asks itself.

    Constraints
    -----------
    Once `check` or the fence has refused, both refuse for ever: what was decided on a refusal is never recorded.
    """

    @property
    def epoch(self) -> int:
        """Which term it is: a later one has a higher number. 0: this flow has no other replicas."""
        ...

    @property
    def fence(self) -> Fence | None:
        """What each transaction that writes begins with; None: nothing."""
        ...

    def check(self) -> None:
        """Make sure that this flow may still ask others to do something.

        Raises
        ------
        RpcError
            SHUTTING_DOWN: its term is over, or may be.
        """
        ...


class _Alone:
    """The term of a flow without other replicas: it has no end, and costs nothing."""

    epoch = 0
    fence = None

    def check(self) -> None:
        """Do nothing."""


ALONE: Term = _Alone()
