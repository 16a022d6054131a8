"""What clients saw of each swap: pure."""

from __future__ import annotations

import statistics
from bisect import bisect_left
from dataclasses import dataclass


@dataclass(frozen=True)
class Answer:
    """One request that was answered; times in seconds since the epoch."""

    sent: float
    arrived: float
    version: str
    large: bool


@dataclass(frozen=True)
class Change:
    """One swap or rollback, as it was asked for."""

    kind: str
    """`swap` or `rollback`."""
    old: str
    new: str
    applied: float
    done: float
    """When its user was told that it is done."""


@dataclass(frozen=True)
class Seen:
    """What clients saw of it, until the next one."""

    kind: str
    sent: int
    failed: int
    first_new_seconds: float | None
    """From the apply to the first new answer; None when there was none."""
    old_after_first_new: int
    """Old answers that arrived after the first new one had; of a change that drains after it has routed, only of
    requests that were sent after that."""
    apply_to_done_seconds: float
    added_latency_seconds_max: float
    """The slowest quick request, over the median of all."""


def seen(answers: list[Answer], failures: list[float], changes: list[Change], end: float) -> list[Seen]:
    """Each change's part of the timeline, from its apply to the next one's."""
    answers = sorted(answers, key=lambda a: a.arrived)
    arrivals = [answer.arrived for answer in answers]
    median = statistics.median(a.arrived - a.sent for a in answers if not a.large)
    ends = [*(change.applied for change in changes[1:]), end]
    found = []
    for change, until in zip(changes, ends, strict=True):
        part = answers[bisect_left(arrivals, change.applied) : bisect_left(arrivals, until)]
        failed = sum(change.applied <= at < until for at in failures)
        found.append(_seen(change, part, failed, median))
    return found


def _seen(change: Change, part: list[Answer], failed: int, median: float) -> Seen:
    first_new = min((a.arrived for a in part if a.version == change.new), default=None)
    late = 0
    if first_new is not None:
        old = (a for a in part if a.version == change.old)
        late = sum((a.sent if change.kind == "rollback" else a.arrived) > first_new for a in old)
    return Seen(
        kind=change.kind,
        first_new_seconds=None if first_new is None else first_new - change.applied,
        sent=len(part) + failed,
        failed=failed,
        old_after_first_new=late,
        apply_to_done_seconds=change.done - change.applied,
        added_latency_seconds_max=max((a.arrived - a.sent for a in part if not a.large), default=0) - median,
    )


@dataclass(frozen=True)
class Figures:
    """All changes of one way together."""

    way: str
    sent: int
    failed: int
    strict: bool
    """No change let an old answer come after the first new one."""
    old_after_first_new: int
    apply_to_done_seconds: dict[str, float]
    added_latency_seconds_max: float
    rollback_to_first_answer_seconds: dict[str, float]
    """From the apply of a rollback to the first answer of the version that it goes back to."""
    changes: int


def figures(way: str, parts: list[Seen]) -> Figures:
    """Put them together."""
    done = [part.apply_to_done_seconds for part in parts]
    back = [part.first_new_seconds for part in parts if part.kind == "rollback" and part.first_new_seconds is not None]
    late = sum(part.old_after_first_new for part in parts)
    return Figures(
        way=way,
        sent=sum(part.sent for part in parts),
        failed=sum(part.failed for part in parts),
        strict=late == 0,
        old_after_first_new=late,
        apply_to_done_seconds=_spread(done),
        rollback_to_first_answer_seconds=_spread(back),
        added_latency_seconds_max=round(max(part.added_latency_seconds_max for part in parts), 3),
        changes=len(parts),
    )


def _spread(seconds: list[float]) -> dict[str, float]:
    return {"p50": round(statistics.median(seconds), 3), "max": round(max(seconds), 3)} if seconds else {}
