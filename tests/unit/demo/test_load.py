"""The clients, as the demo's pod runs them, against a model server that misbehaves."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

SCRIPT = Path(__file__).resolve().parents[3] / "deploy" / "demo" / "scripts" / "load.py"
SECONDS = 2.0

Answer = Callable[[web.Request, int], Awaitable[web.StreamResponse]]
Measure = Callable[[Answer], Awaitable[dict[str, Any]]]


@pytest.fixture
async def measure() -> AsyncIterator[Measure]:
    """Runs the clients against a server whose n-th quick request the test answers; what they counted."""
    runners: list[web.AppRunner] = []

    async def run(answer: Answer) -> dict[str, Any]:
        seen = {"quick": 0, "large": 0}

        async def handle(request: web.Request) -> web.StreamResponse:
            content = await request.read()
            rows = json.loads(content)["inputs"][0]["shape"][0]
            if rows > 1:
                seen["large"] += len(content) >= 5_000_000
                return infer(0, rows)
            seen["quick"] += 1
            return await answer(request, seen["quick"])

        app = web.Application(client_max_size=2**24)
        app.router.add_post("/infer", handle)
        runner = web.AppRunner(app, access_log=None)
        runners.append(runner)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        arguments = ["--url", f"http://{host}:{port}/infer", "--seconds", str(SECONDS)]
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, str(SCRIPT), *arguments, "--answers", '{"1.0.0": 0, "1.1.0": 1}'),
            stdout=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(30):
            output, _ = await process.communicate()
        *progress, last = [json.loads(line) for line in output.splitlines()]
        assert [p["sent"] for p in progress] == sorted(p["sent"] for p in progress)
        found: dict[str, Any] = last["summary"]
        assert found["sent"] == seen["quick"] + seen["large"], "nothing is sent twice, nothing is left uncounted"
        return found

    yield run
    for runner in runners:
        await runner.cleanup()


def infer(answer: int, rows: int = 1) -> web.Response:
    return web.json_response({"outputs": [{"data": [answer] * rows}]})


async def test_every_answer_is_counted_for_its_version(measure: Measure) -> None:
    async def swap(_: web.Request, number: int) -> web.Response:
        return infer(0 if number <= 100 else 1)

    found = await measure(swap)
    assert found["failed"] == 0
    assert found["large_answers"] > 0, "bodies of 5 MB, sent slowly"
    assert found["versions"]["1.1.0"] == found["sent"] - 100 - found["large_answers"]
    assert found["sent"] > 100 * SECONDS
    assert found["first_answer"]["1.1.0"] > found["first_answer"]["1.0.0"]


async def test_what_is_no_good_answer_has_failed(measure: Measure) -> None:
    bad = {
        10: lambda: web.Response(status=503, text="busy"),
        20: lambda: infer(7),
        30: lambda: web.Response(text="not JSON"),
        40: lambda: web.json_response({"outputs": []}),
        50: lambda: web.json_response([]),
        60: lambda: infer(0, 0),
    }

    async def answer(_: web.Request, number: int) -> web.Response:
        return bad[number]() if number in bad else infer(0)

    found = await measure(answer)
    assert found["failed"] == len(bad)
    assert any("status 503: busy" in failure for failure in found["failures"])
    assert found["versions"] == {"1.0.0": found["sent"] - len(bad)}


async def test_a_connection_that_breaks_is_a_failure_and_no_second_request(measure: Measure) -> None:
    async def answer(request: web.Request, number: int) -> web.StreamResponse:
        if number in (10, 20):
            assert request.transport is not None
            request.transport.abort()
        return infer(0)

    assert (await measure(answer))["failed"] == 2
