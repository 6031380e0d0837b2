"""Work in the background: once for a key, and what goes wrong there is recorded."""

from __future__ import annotations

import asyncio
import logging

import pytest

from fedparty.errors import DatabaseError
from fedparty.flow.background import Background, until_read, until_recorded


async def test_one_piece_of_work_for_a_key() -> None:
    background, done = Background(), []

    async def work(number: int) -> None:
        done.append(number)

    background.keep("a", work(1))
    background.keep("a", work(2))
    background.keep("b", work(3))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    background.keep("a", work(4))
    await asyncio.sleep(0)
    assert done == [1, 3, 4]


async def test_cancelled_work_makes_room_at_once() -> None:
    background, done = Background(), []

    async def work(number: int) -> None:
        await asyncio.Event().wait() if number == 1 else done.append(number)

    background.keep("a", work(1))
    await asyncio.sleep(0)
    background.cancel("a")
    background.keep("a", work(2))
    await asyncio.sleep(0)
    await background.close()
    assert done == [2]


async def test_work_does_not_cancel_itself() -> None:
    background, done = Background(), []

    async def work() -> None:
        background.cancel("a")
        await asyncio.sleep(0)
        done.append(True)

    background.keep("a", work())
    for _ in range(3):
        await asyncio.sleep(0)
    assert done == [True]


async def test_what_nobody_foresaw_is_recorded(caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        raise ZeroDivisionError

    background = Background()
    background.keep("a", work())
    with caplog.at_level(logging.ERROR):
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert "unforeseen error in the background" in caplog.text


async def test_what_must_be_recorded_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedparty.flow.background._BACKOFF_S", 0)
    answers = [DatabaseError("the disk is full"), DatabaseError("the disk is full"), "recorded"]

    async def write() -> str:
        answer = answers.pop(0)
        if isinstance(answer, DatabaseError):
            raise answer
        return answer

    assert await until_recorded(write) == "recorded"


async def test_what_must_be_known_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedparty.flow.background._BACKOFF_S", 0)
    is_away = True

    async def read() -> str:
        nonlocal is_away
        if is_away:
            is_away = False
            raise DatabaseError("the database is away")
        return "known"

    assert await until_read(read) == "known"
