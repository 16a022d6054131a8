"""What a status that is about to be written tells Prometheus: a load that has ended, a swap that has."""

from __future__ import annotations

from modelswap import metrics
from modelswap.api.v1alpha1.model_route import SwapState, SwapStatus
from modelswap.api.v1alpha1.model_version import ModelVersionStatus


def measure_load(namespace: str, before: ModelVersionStatus, after: ModelVersionStatus) -> None:
    """Observe a load that has succeeded, and failures that have been added."""
    if after.load_count > before.load_count and after.last_load_seconds is not None:
        metrics.LOAD_SECONDS.labels(namespace).observe(after.last_load_seconds)
    for failure in after.failures[: max(after.failure_count - before.failure_count, 0)]:
        metrics.LOAD_FAILURES.labels(namespace, failure.reason).inc()


def measure_swap(before: SwapStatus, after: SwapStatus) -> None:
    """Observe a swap or rollback that has ended."""
    start, end = after.start_time, after.end_time
    if after.state == before.state or start is None or end is None:
        return
    kind = after.kind.value
    result = "completed" if after.state is SwapState.COMPLETED else "failed"
    metrics.SWAPS.labels(kind, after.trigger.value, result).inc()
    metrics.SWAP_SECONDS.labels(kind).observe((end - start).total_seconds())
    metrics.SWAP_HOLD_SECONDS.labels(kind).observe(after.hold_seconds)
    metrics.REQUESTS_HELD.labels(kind).inc(after.held_requests)
    metrics.REQUESTS_DRAINED.labels(kind).inc(after.requests_drained)
    metrics.REQUESTS_REMAINING.labels(kind).inc(after.requests_remaining)
    for phase, seconds in phases(after).items():
        metrics.SWAP_PHASE_SECONDS.labels(kind, phase).observe(seconds)


def phases(swap: SwapStatus) -> dict[str, float]:
    """Seconds that each phase of a swap that has ended took; one that it never came to is left out."""
    marks = (
        (SwapState.PREPARING, swap.start_time),
        (SwapState.DRAINING, swap.drain_time),
        (SwapState.SWAPPING, swap.switch_time),
        (None, swap.end_time),
    )
    times = sorted((at, phase) for phase, at in marks if at is not None and phase is not None)
    ends = [at for at, _ in times[1:]] + [swap.end_time]
    return {
        phase.value.lower(): (until - at).total_seconds()
        for (at, phase), until in zip(times, ends, strict=True)
        if until is not None
    }
