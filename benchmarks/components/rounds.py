"""Components of the benchmarks: rounds of an exchange, and one that does nothing for a while.

Owns what is timed. Does not own how they are installed or reported (``rounds.py``, ``event_loop.py``).
"""

from __future__ import annotations

import time
from time import perf_counter
from typing import Any

import numpy as np


class Rounds:
    """Exchange an array of ``size_bytes`` for so many ``rounds``; the guest returns the seconds of each."""

    def guest(self, ctx: Any) -> list[float]:
        """Send to all hosts, receive from all, add up."""
        value, hosts, times = np.zeros(ctx.parameters["size_bytes"] // 4, np.float32), _hosts(ctx), []
        for number in range(ctx.parameters["rounds"]):
            began = perf_counter()
            for host in hosts:
                ctx.send(f"out.{number}", value, to=host)
            del value  # it goes from memory when it has arrived
            total = ctx.receive(f"back.{number}", hosts[0])
            for host in hosts[1:]:
                total += ctx.receive(f"back.{number}", host)
            value = np.divide(total, len(hosts), out=total)
            times.append(perf_counter() - began)
        if float(value[-1]) != len(times):
            raise ValueError(f"after {len(times)} rounds of adding 1 the value is {value[-1]}")
        return times

    def host(self, ctx: Any) -> None:
        """Add 1 to what comes, and send it back."""
        for number in range(ctx.parameters["rounds"]):
            value = ctx.receive(f"out.{number}", "guest")
            value += 1
            ctx.send(f"back.{number}", value, to="guest")


class Idles:
    """Do nothing for ``idle_s`` seconds."""

    def guest(self, ctx: Any) -> None:
        """Wait."""
        time.sleep(ctx.parameters["idle_s"])

    host = guest


def _hosts(ctx: Any) -> list[Any]:
    return [member for member in ctx.members if member.role == "host"]
