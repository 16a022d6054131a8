"""Clients, most of them keep-alive, and one that sends a large body slowly; every answer is checked and counted.

Prints a JSON line every half second and a summary at the end, which SIGTERM brings forward: requests that are under way
are still answered. Needs aiohttp only, and runs in the operator's image.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import statistics
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from functools import partial

import aiohttp

CLIENTS = 30
NEW_CONNECTION_EVERY = 5
"""One client in so many opens a new connection for every request."""
REQUESTS_PER_SECOND = 200
LARGE_ROWS = 10_000
LARGE_BYTES = 5_000_000
"""White space makes up what the rows leave: more rows would occupy the model, and this is about the way there."""
LARGE_SECONDS = 1.5
REPORT_SECONDS = 0.5
TIMEOUT = aiohttp.ClientTimeout(total=60)
FAILURES_SHOWN = 5

PROBE = [6.0, 2.7, 5.1, 1.6]


@dataclass(frozen=True, slots=True)
class Answer:
    """One request and what came of it; times are seconds since the epoch."""

    sent: float
    arrived: float
    version: str
    large: bool


@dataclass
class Span:
    """How long the clients send; seconds since the epoch."""

    until: float

    @property
    def over(self) -> bool:
        """Whether that time has passed."""
        return time.time() >= self.until

    def end(self) -> None:
        """Send nothing any more."""
        self.until = time.time()


@dataclass
class Record:
    """Everything that happened."""

    answers: list[Answer] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def counts(self) -> dict[str, object]:
        """For a progress line."""
        versions = Counter(answer.version for answer in self.answers)
        return {"sent": len(self.answers) + len(self.failures), "failed": len(self.failures), "versions": versions}


def body(rows: int, size: int = 0) -> bytes:
    """An inference request of the Open Inference Protocol, of at least so many bytes."""
    content = {"inputs": [{"name": "x", "shape": [rows, 4], "datatype": "FP64", "data": [PROBE] * rows}]}
    return json.dumps(content).encode().ljust(size)


QUICK_BODY, LARGE_BODY = body(1), body(LARGE_ROWS, LARGE_BYTES)


async def slowly(content: bytes, seconds: float) -> AsyncIterator[bytes]:
    """A body that takes its time."""
    pieces = 15
    size = len(content) // pieces + 1
    for start in range(0, len(content), size):
        yield content[start : start + size]
        await asyncio.sleep(seconds / pieces)


async def ask(http: aiohttp.ClientSession, url: str, record: Record, versions: dict[int, str], *, large: bool) -> None:
    """Send one request and check the answer. Nothing is sent twice: aiohttp does not retry a POST."""
    data = slowly(LARGE_BODY, LARGE_SECONDS) if large else QUICK_BODY
    sent = time.time()
    try:
        async with http.post(url, data=data, headers={"Content-Type": "application/json"}) as response:
            text = await response.text()
            if response.status != 200:
                raise ValueError(f"status {response.status}: {text[:120]}")
            found = json.loads(text)["outputs"][0]["data"]
            if len(set(found)) != 1 or found[0] not in versions:
                raise ValueError(f"answer {found[:4]}")
    except (aiohttp.ClientError, TimeoutError, ValueError, LookupError, TypeError, OSError) as error:
        record.failures.append(f"{type(error).__name__}: {error}")
        return
    record.answers.append(Answer(sent, time.time(), versions[found[0]], large))


async def client(
    url: str, record: Record, versions: dict[int, str], *, span: Span, pause: float, large: bool, keep_alive: bool
) -> None:
    """One client with a connection of its own: one that it keeps, or a new one for every request."""
    connector = aiohttp.TCPConnector(limit=1, **({"keepalive_timeout": 120} if keep_alive else {"force_close": True}))
    async with aiohttp.ClientSession(connector=connector, timeout=TIMEOUT) as http:
        due = time.time()
        while not span.over:
            await ask(http, url, record, versions, large=large)
            due = max(due + pause, time.time() - pause)
            await asyncio.sleep(max(due - time.time(), 0))


async def report(record: Record, span: Span) -> None:
    """Print where the run is."""
    while not span.over:
        await asyncio.sleep(REPORT_SECONDS)
        print(json.dumps({"time": time.time(), **record.counts()}), flush=True)


def summary(record: Record) -> dict[str, object]:
    """The whole run, told by the versions in the order in which they began to answer."""
    first: dict[str, float] = {}
    last: dict[str, float] = {}
    last_sent: dict[str, float] = {}
    for answer in sorted(record.answers, key=lambda a: a.arrived):
        first.setdefault(answer.version, answer.arrived)
        last[answer.version] = answer.arrived
        last_sent[answer.version] = max(last_sent.get(answer.version, 0), answer.sent)
    quick = [answer.arrived - answer.sent for answer in record.answers if not answer.large]
    return {
        **record.counts(),
        "failures": record.failures[:FAILURES_SHOWN],
        "failure_kinds": Counter(failure.partition(":")[0] for failure in record.failures),
        "first_answer": first,
        "last_answer": last,
        "last_sent": last_sent,
        "median_latency": statistics.median(quick) if quick else 0,
        "max_latency": max(quick, default=0),
        "large_answers": sum(answer.large for answer in record.answers),
    }


async def main() -> None:
    """Run all clients side by side."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--answers", required=True, help='version → class, as in {"1.0.0": 2}')
    arguments = parser.parse_args()
    versions = {answer: version for version, answer in json.loads(arguments.answers).items()}
    record, span = Record(), Span(time.time() + arguments.seconds)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, span.end)
    pause = CLIENTS / REQUESTS_PER_SECOND
    start = partial(client, arguments.url, record, versions, span=span)
    clients = [start(pause=pause, large=False, keep_alive=n % NEW_CONNECTION_EVERY != 0) for n in range(CLIENTS)]
    await asyncio.gather(report(record, span), start(pause=1.0, large=True, keep_alive=True), *clients)
    print(json.dumps({"summary": summary(record)}), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
