from __future__ import annotations

import asyncio

import pytest
from modelswap.engine.queue import KeyedQueue


async def test_a_key_waits_once_and_is_in_one_pair_of_hands() -> None:
    queue: KeyedQueue[str] = KeyedQueue()
    queue.add("a")
    queue.add("a")
    assert await queue.get() == "a"
    queue.add("a")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(queue.get(), 0.02)
    queue.done("a")
    assert await asyncio.wait_for(queue.get(), 1) == "a"
    queue.done("a")
    assert len(queue) == 0


async def test_an_earlier_wish_takes_the_place_of_a_later_one() -> None:
    queue: KeyedQueue[str] = KeyedQueue()
    queue.add("late", after=60)
    queue.add("late", after=0.01)
    assert await asyncio.wait_for(queue.get(), 1) == "late"
    queue.done("late")
    assert len(queue) == 0


async def test_failures_come_back_later_each_time() -> None:
    queue: KeyedQueue[str] = KeyedQueue()
    queue.add("a")
    delays = []
    for _ in range(4):
        await queue.get()
        delays.append(queue.failed("a"))
        queue.add("a")  # something happened meanwhile: no need to wait
    assert delays[3] > delays[0]
    await queue.get()
    queue.done("a")
