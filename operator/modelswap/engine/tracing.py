"""A trace of every swap, for who collects them by OpenTelemetry's protocol (OTLP over HTTP)."""

from __future__ import annotations

import asyncio
import threading
from datetime import datetime

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Status, StatusCode, set_span_in_context

from modelswap import __version__
from modelswap.api.v1alpha1.model_route import SwapState, SwapStatus

from .measurements import ended, phases

TIMEOUT_SECONDS = 5
CLOSE_SECONDS = 2
QUEUE_SPANS = 2048
"""A collector that is away costs the oldest spans, never a swap."""


class SwapTracer:
    """Sends a trace when a swap has ended: its times are in the status, so that a restart in between loses nothing."""

    def __init__(self, endpoint: str) -> None:
        """Prepare; nothing is sent yet.

        Args:
            endpoint: of the collector, such as `http://collector.observability:4318`.

        """
        exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces", timeout=TIMEOUT_SECONDS)
        resource = Resource({SERVICE_NAME: "modelswap", SERVICE_VERSION: __version__})
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        # A thread of its own sends: the event loop never waits.
        self._provider.add_span_processor(BatchSpanProcessor(exporter, max_queue_size=QUEUE_SPANS))
        self._tracer = self._provider.get_tracer("modelswap")

    def trace(self, namespace: str, route: str, before: SwapStatus, after: SwapStatus) -> None:
        """Tell of a swap, if it has just ended."""
        if not ended(before, after):
            return
        assert after.start_time is not None
        assert after.end_time is not None
        attributes: dict[str, str | int | float] = {
            "k8s.namespace.name": namespace,
            "modelswap.route": route,
            "modelswap.swap.id": after.id,
            "modelswap.swap.trigger": after.trigger.value,
            "modelswap.swap.source": after.from_version,
            "modelswap.swap.target": after.to_version,
            "modelswap.swap.requests_held": after.held_requests,
            "modelswap.swap.requests_drained": after.requests_drained,
            "modelswap.swap.requests_remaining": after.requests_remaining,
            "modelswap.swap.hold_seconds": after.hold_seconds,
        }
        whole = self._tracer.start_span(after.kind.value, start_time=_ns(after.start_time), attributes=attributes)
        if after.state is SwapState.FAILED:
            whole.set_status(Status(StatusCode.ERROR, f"{after.reason}: {after.message}"))
        context = set_span_in_context(whole)
        for phase in phases(after):
            part = self._tracer.start_span(phase.name, context=context, start_time=_ns(phase.start))
            part.end(_ns(phase.end))
        whole.end(_ns(after.end_time))

    async def close(self) -> None:
        """Send what is left, for a moment: the next leader waits."""
        # A daemon, which a collector that does not answer cannot keep.
        closing = threading.Thread(target=self._provider.shutdown, daemon=True)
        closing.start()
        await asyncio.to_thread(closing.join, CLOSE_SECONDS)


def _ns(at: datetime) -> int:
    """Since the epoch, in nanoseconds."""
    return int(at.timestamp() * 1_000_000) * 1000
