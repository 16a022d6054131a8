"""A queue of keys: each at most once, each in one pair of hands at a time, each at its due time."""

from __future__ import annotations

import asyncio
import heapq
import random
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)

BACKOFF_BASE = 0.1
BACKOFF_MAX = 60.0


class KeyedQueue(Generic[K]):
    """Keys that want work. Bounded by the number of different keys.

    A key that is added while it is worked on is handed out again afterwards, so that nothing that happened meanwhile
    is missed.
    """

    def __init__(self) -> None:
        self._due: dict[K, float] = {}
        self._heap: list[tuple[float, int, K]] = []
        self._sequence = 0
        self._busy: set[K] = set()
        self._failures: dict[K, int] = {}
        self._changed = asyncio.Event()

    def add(self, key: K, *, after: float = 0.0) -> None:
        """Want work on a key, `after` seconds from now; an earlier wish stands."""
        due = asyncio.get_running_loop().time() + after
        if key in self._due and self._due[key] <= due:
            return
        self._due[key] = due
        self._sequence += 1
        heapq.heappush(self._heap, (due, self._sequence, key))
        self._changed.set()

    async def get(self) -> K:
        """The next key that is due and in nobody's hands."""
        while True:
            now = asyncio.get_running_loop().time()
            key = self._pop(now)
            if key is not None:
                self._busy.add(key)
                return key
            self._changed.clear()
            wait = self._heap[0][0] - now if self._heap else None
            try:
                await asyncio.wait_for(self._changed.wait(), wait)
            except TimeoutError:
                continue

    def _pop(self, now: float) -> K | None:
        while self._heap and self._heap[0][0] <= now:
            due, _, key = heapq.heappop(self._heap)
            if self._due.get(key) != due:
                continue  # an earlier wish has taken this one's place
            if key in self._busy:
                continue  # `done` brings it back
            del self._due[key]
            return key
        return None

    def done(self, key: K) -> None:
        """Work on a key has ended well."""
        self._failures.pop(key, None)
        self._release(key)

    def failed(self, key: K) -> float:
        """Work on a key has failed; it comes back after the returned seconds, longer each time, with jitter."""
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        ceiling = min(BACKOFF_BASE * 2.0**failures, BACKOFF_MAX)
        delay = ceiling * (0.5 + random.random() / 2)  # noqa: S311 - spreads load, guards nothing
        self._release(key)
        self.add(key, after=delay)
        return delay

    def _release(self, key: K) -> None:
        self._busy.discard(key)
        if key in self._due:
            self._sequence += 1
            heapq.heappush(self._heap, (self._due[key], self._sequence, key))
            self._changed.set()

    def __len__(self) -> int:
        return len(self._due)

    def oldest_seconds(self) -> float:
        """How long the most overdue key has waited."""
        now = asyncio.get_running_loop().time()
        return max((now - due for due in self._due.values()), default=0.0)
