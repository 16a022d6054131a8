"""Traces of swaps, as a collector gets them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from aiohttp import web
from localcluster.apiserver import free_port
from modelswap.api.v1alpha1.model_route import SwapKind, SwapState, SwapStatus
from modelswap.engine.tracing import CLOSE_SECONDS, SwapTracer
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.support.objects import NOW

SECOND = timedelta(seconds=1)
RUNNING = SwapStatus(id="s1", state=SwapState.DRAINING, start_time=NOW)
ENDED = SwapStatus(
    id="s1",
    kind=SwapKind.SWAP,
    state=SwapState.COMPLETED,
    from_version="1.0.0",
    to_version="1.1.0",
    start_time=NOW,
    drain_time=NOW + SECOND,
    switch_time=NOW + 3 * SECOND,
    end_time=NOW + 4 * SECOND,
    held_requests=7,
)


class Collector:
    """Keeps what it gets."""

    def __init__(self) -> None:
        self.url = f"http://127.0.0.1:{free_port()}"
        self.spans: list[Span] = []
        self.services: set[str] = set()

    async def take(self, request: web.Request) -> web.Response:
        message = ExportTraceServiceRequest.FromString(await request.read())
        for resource in message.resource_spans:
            self.services |= {a.value.string_value for a in resource.resource.attributes if a.key == "service.name"}
            self.spans += [span for scope in resource.scope_spans for span in scope.spans]
        return web.Response()


@pytest.fixture
async def collector() -> AsyncIterator[Collector]:
    made = Collector()
    app = web.Application()
    app.router.add_post("/v1/traces", made.take)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", int(made.url.rpartition(":")[2])).start()
    yield made
    await runner.cleanup()


async def test_a_swap_is_one_trace_with_its_phases(collector: Collector) -> None:
    tracer = SwapTracer(collector.url)
    tracer.trace("ns", "iris", RUNNING, RUNNING)
    tracer.trace("ns", "iris", RUNNING, ENDED)
    tracer.trace("ns", "iris", ENDED, ENDED)
    await tracer.close()
    assert collector.services == {"modelswap"}
    spans = {span.name: span for span in collector.spans}
    assert sorted(spans) == ["Swap", "draining", "preparing", "swapping"]
    whole = spans.pop("Swap")
    assert {span.parent_span_id for span in spans.values()} == {whole.span_id}
    assert {span.trace_id for span in spans.values()} == {whole.trace_id}
    seconds = {name: (s.end_time_unix_nano - s.start_time_unix_nano) / 1e9 for name, s in spans.items()}
    assert seconds == {"preparing": 1, "draining": 2, "swapping": 1}
    assert whole.start_time_unix_nano == int(NOW.timestamp()) * 10**9
    told = {a.key: a.value.string_value or a.value.int_value for a in whole.attributes}
    assert told["modelswap.swap.id"] == "s1"
    assert (told["modelswap.route"], told["modelswap.swap.target"]) == ("iris", "1.1.0")
    assert told["modelswap.swap.requests_held"] == 7


async def test_one_that_failed_says_why(collector: Collector) -> None:
    tracer = SwapTracer(collector.url)
    failed = ENDED.model_copy(update={"state": SwapState.FAILED, "reason": "DrainTimeout", "message": "3 in flight"})
    tracer.trace("ns", "iris", RUNNING, failed)
    await tracer.close()
    [whole] = [span for span in collector.spans if span.name == "Swap"]
    assert whole.status.message == "DrainTimeout: 3 in flight"


async def test_a_collector_that_is_away_keeps_nobody() -> None:
    """Five thousand swaps find room for some of them, and the operator's end waits for a moment."""
    tracer = SwapTracer(f"http://127.0.0.1:{free_port()}")
    for _ in range(5000):
        tracer.trace("ns", "iris", RUNNING, ENDED)
    async with asyncio.timeout(CLOSE_SECONDS + 3):
        await tracer.close()
