"""The operator's log, as a program reads it."""

from __future__ import annotations

import asyncio
import json
import logging
import sys

from modelswap.logs import JsonFormatter, about


def line(message: str = "m", error: Exception | None = None) -> dict[str, str]:
    info = (type(error), error, error.__traceback__) if error else None
    record = logging.LogRecord("modelswap.x", logging.WARNING, "f", 1, message, (), info)
    found: dict[str, str] = json.loads(JsonFormatter().format(record))
    return found


def test_a_line_tells_what_it_is_about_and_no_more() -> None:
    with about(namespace="ns", route="iris"):
        with about(swap="s1", version="1.1.0", source=""):
            inner = line("Größe")
        outer = line()
    assert (inner["namespace"], inner["route"], inner["swap"], inner["version"]) == ("ns", "iris", "s1", "1.1.0")
    assert "source" not in inner
    assert (inner["message"], inner["level"], inner["logger"]) == ("Größe", "warning", "modelswap.x")
    assert ("swap" in outer, outer["route"]) == (False, "iris")
    assert "route" not in line()


async def test_what_is_done_side_by_side_is_told_apart() -> None:
    async def work(route: str) -> str:
        with about(route=route):
            await asyncio.sleep(0)
            return line()["route"]

    assert await asyncio.gather(*map(work, "abc")) == ["a", "b", "c"]


def test_a_fault_has_its_traceback() -> None:
    try:
        raise ValueError("broken")
    except ValueError:
        error = sys.exc_info()[1]
    assert isinstance(error, ValueError)
    assert "ValueError: broken" in line(error=error)["traceback"]
