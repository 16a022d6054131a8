"""What a status that is about to be written tells Prometheus: a load that has ended, a swap that has."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from modelswap import metrics
from modelswap.api.v1alpha1.model_route import SwapState, SwapStatus
from modelswap.api.v1alpha1.model_version import ModelVersionStatus


def measure_load(namespace: str, before: ModelVersionStatus, after: ModelVersionStatus) -> None:
    """Observe a load that has succeeded, and failures that have been added."""
    if after.load_count > before.load_count and after.last_load_seconds is not None:
        metrics.LOAD_SECONDS.labels(namespace).observe(after.last_load_seconds)
    for failure in after.failures[: max(after.failure_count - before.failure_count, 0)]:
        metrics.LOAD_FAILURES.labels(namespace, failure.reason).inc()


@dataclass(frozen=True)
class Phase:
    """A part of a swap."""

    name: str
    start: datetime
    end: datetime

    @property
    def seconds(self) -> float:
        """How long it took."""
        return (self.end - self.start).total_seconds()


def ended(before: SwapStatus, after: SwapStatus) -> bool:
    """Whether a swap has just come to its end."""
    return after.state != before.state and after.start_time is not None and after.end_time is not None


def measure_swap(before: SwapStatus, after: SwapStatus) -> None:
    """Observe a swap or rollback that has ended."""
    if not ended(before, after):
        return
    assert after.start_time is not None
    assert after.end_time is not None
    kind = after.kind.value
    result = "completed" if after.state is SwapState.COMPLETED else "failed"
    metrics.SWAPS.labels(kind, after.trigger.value, result).inc()
    metrics.SWAP_SECONDS.labels(kind).observe((after.end_time - after.start_time).total_seconds())
    metrics.SWAP_HOLD_SECONDS.labels(kind).observe(after.hold_seconds)
    metrics.REQUESTS_HELD.labels(kind).inc(after.held_requests)
    metrics.REQUESTS_DRAINED.labels(kind).inc(after.requests_drained)
    metrics.REQUESTS_REMAINING.labels(kind).inc(after.requests_remaining)
    for phase in phases(after):
        metrics.SWAP_PHASE_SECONDS.labels(kind, phase.name).observe(phase.seconds)


def phases(swap: SwapStatus) -> list[Phase]:
    """What a swap that has ended went through, in order; what it never came to is left out."""
    marks = (
        (swap.start_time, SwapState.PREPARING),
        (swap.drain_time, SwapState.DRAINING),
        (swap.switch_time, SwapState.SWAPPING),
    )
    times = sorted((at, state.value.lower()) for at, state in marks if at is not None)
    assert swap.end_time is not None
    ends = [*(at for at, _ in times[1:]), swap.end_time]
    return [Phase(name, start, end) for (start, name), end in zip(times, ends, strict=True)]
