"""How late an event loop is: whatever blocks it delays every call of its service.

Owns the sampling and the two metrics. Does not own the listener that shows them (`operations`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from prometheus_client import CollectorRegistry, Gauge, Histogram

_INTERVAL_S = 0.02
"""A block is seen when it is longer, and then up to so much shorter than it was."""
_BUCKETS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)


@asynccontextmanager
async def watching_lag(registry: CollectorRegistry) -> AsyncIterator[None]:
    """Measure, while the block runs, how much later than asked for the running loop wakes who sleeps."""
    histogram = Histogram(
        "fedparty_event_loop_lag_seconds", "How late the event loop was", buckets=_BUCKETS, registry=registry
    )
    largest = Gauge("fedparty_event_loop_lag_max_seconds", "How late it was at most since the start", registry=registry)
    sampling = asyncio.create_task(_sample(histogram, largest))
    try:
        yield
    finally:
        sampling.cancel()
        with suppress(asyncio.CancelledError):
            await sampling


async def _sample(histogram: Histogram, largest: Gauge) -> None:
    known = 0.0
    while True:
        due = time.monotonic() + _INTERVAL_S
        await asyncio.sleep(_INTERVAL_S)
        lag = max(0.0, time.monotonic() - due)
        histogram.observe(lag)
        if lag > known:
            known = lag
            largest.set(lag)
