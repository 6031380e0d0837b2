"""Breaking off a block: the error arrives, other cancellations are left alone."""

from __future__ import annotations

import asyncio

import pytest

from fedparty.errors import RpcError
from fedparty.rpc.breaking import Breakable

ERROR = RpcError("reason")


async def test_waiting_block_is_broken_off() -> None:
    block = Breakable()
    asyncio.get_running_loop().call_soon(block.break_off, ERROR)
    with pytest.raises(RpcError, match="reason"):
        async with block:
            await asyncio.Event().wait()
    assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]


async def test_block_that_does_not_wait_is_broken_off_at_its_end() -> None:
    with pytest.raises(RpcError, match="reason"):
        async with Breakable() as block:
            block.break_off(ERROR)
    await asyncio.sleep(0)


async def test_first_error_counts_and_an_ended_block_is_left_alone() -> None:
    block = Breakable()
    for error in (ERROR, RpcError("later")):
        asyncio.get_running_loop().call_soon(block.break_off, error)
    with pytest.raises(RpcError, match="reason"):
        async with block:
            await asyncio.Event().wait()
    block.break_off(ERROR)
    await asyncio.sleep(0)


async def test_other_errors_pass() -> None:
    with pytest.raises(KeyError):
        async with Breakable():
            raise KeyError


async def test_cancellation_from_outside_wins() -> None:
    block = Breakable()
    entered = asyncio.Event()

    async def wait() -> None:
        async with block:
            entered.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(wait())
    await entered.wait()
    task.cancel()
    block.break_off(ERROR)
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_nested_blocks_are_told_apart() -> None:
    outer, inner = Breakable(), Breakable()
    asyncio.get_running_loop().call_soon(outer.break_off, ERROR)
    with pytest.raises(RpcError, match="reason"):
        async with outer, inner:
            await asyncio.Event().wait()
