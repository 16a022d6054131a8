"""The demo's clients, until standard input ends: `timeline.py URL ANSWERS`. Prints everything that happened.

Lines of JSON: `{"answers": [[sent, arrived, version, large], …]}` in parts, then `{"failures": [[time, what], …]}`.
Times are seconds since the epoch. Stands beside load.py.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from functools import partial
from math import inf

from load import CLIENTS, NEW_CONNECTION_EVERY, REQUESTS_PER_SECOND, Record, Span, client

PART = 2000


class Timed(list[str]):
    """Failures, and when each was noted."""

    def __init__(self) -> None:
        super().__init__()
        self.times: list[float] = []

    def append(self, failure: str) -> None:
        """Note one."""
        self.times.append(time.time())
        super().append(failure)


async def main() -> None:
    """Run all clients side by side."""
    url, answers = sys.argv[1:]
    versions = {answer: version for version, answer in json.loads(answers).items()}
    failures = Timed()
    record = Record(failures=failures)
    pause = CLIENTS / REQUESTS_PER_SECOND
    span = Span(inf)
    start = partial(client, url, record, versions, span=span)
    clients = [start(pause=pause, large=False, keep_alive=n % NEW_CONNECTION_EVERY != 0) for n in range(CLIENTS)]
    tasks = [asyncio.create_task(work) for work in (start(pause=1.0, large=True, keep_alive=True), *clients)]
    await asyncio.to_thread(sys.stdin.read)
    span.end()
    await asyncio.gather(*tasks)
    for first in range(0, len(record.answers), PART):
        part = record.answers[first : first + PART]
        print(json.dumps({"answers": [[round(a.sent, 4), round(a.arrived, 4), a.version, a.large] for a in part]}))
    print(json.dumps({"failures": list(zip(failures.times, failures, strict=True))}), flush=True)


asyncio.run(main())
