"""How late an event loop is, as a service's metrics tell it."""

from __future__ import annotations

import asyncio
import time

from prometheus_client import CollectorRegistry

from fedparty.rpc.lag import watching_lag


async def test_what_blocks_the_loop_is_seen() -> None:
    registry = CollectorRegistry()
    async with watching_lag(registry):
        await asyncio.sleep(0.05)
        time.sleep(0.3)  # noqa: ASYNC251 - this is what must not happen
        await asyncio.sleep(0.05)
    assert (registry.get_sample_value("fedparty_event_loop_lag_max_seconds") or 0) >= 0.2
    slow = registry.get_sample_value("fedparty_event_loop_lag_seconds_bucket", {"le": "0.1"}) or 0
    assert slow < (registry.get_sample_value("fedparty_event_loop_lag_seconds_count") or 0)
