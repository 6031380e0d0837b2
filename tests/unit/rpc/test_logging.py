"""Log lines are JSON and say whose they are."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from fedparty.rpc.logging import JsonFormatter, bind, log_context

logger = logging.getLogger("tests.logging")


@pytest.fixture
def written() -> Iterator[io.StringIO]:
    text = io.StringIO()
    handler = logging.StreamHandler(text)
    handler.setFormatter(JsonFormatter())
    logger.addHandler(handler)
    logger.setLevel("INFO")
    yield text
    logger.removeHandler(handler)


def lines(written: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in written.getvalue().splitlines()]


async def test_context_is_on_each_line_of_its_task(written: io.StringIO) -> None:
    async def service(name: str) -> None:
        bind(service=name, party="9999")
        with log_context(job="j", task="sum"):
            await asyncio.sleep(0)
            logger.info("inside")
        logger.info("outside")

    await asyncio.gather(service("federation"), service("flow"))
    inside = [line for line in lines(written) if line["message"] == "inside"]
    assert {(line["service"], line["party"], line["job"], line["task"]) for line in inside} == {
        ("federation", "9999", "j", "sum"),
        ("flow", "9999", "j", "sum"),
    }
    assert all("job" not in line for line in lines(written) if line["message"] == "outside")


def test_a_line_stays_one_line(written: io.StringIO) -> None:
    try:
        raise ValueError("two\nlines")
    except ValueError:
        logger.exception("it %s", "fäiled")
    (line,) = lines(written)
    assert line["message"] == "it fäiled"
    assert line["level"] == "ERROR"
    assert line["time"].endswith("+00:00")
    assert "ValueError: two\nlines" in line["error"]
