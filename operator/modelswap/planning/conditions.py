"""Conditions: kept in place, moved only when their status moves."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from modelswap.api.v1alpha1.base import Condition


@dataclass(frozen=True)
class Verdict:
    """What a condition should say now."""

    type: str
    status: bool | None
    reason: str
    message: str = ""


def settle(
    previous: Iterable[Condition], verdicts: Iterable[Verdict], *, generation: int, now: datetime
) -> list[Condition]:
    """The new list of conditions; `lastTransitionTime` of one whose status is as before stays."""
    before = {condition.type: condition for condition in previous}
    return [_settle_one(before.get(v.type), v, generation, now) for v in verdicts]


def _settle_one(old: Condition | None, verdict: Verdict, generation: int, now: datetime) -> Condition:
    status = {True: "True", False: "False", None: "Unknown"}[verdict.status]
    moved = old is None or old.status != status
    return Condition(
        type=verdict.type,
        status=status,
        reason=verdict.reason,
        message=verdict.message[:32768],
        observed_generation=generation,
        # Seconds, as in Kubernetes' own conditions.
        last_transition_time=now.replace(microsecond=0) if moved or old is None else old.last_transition_time,
    )


def find(conditions: Iterable[Condition], type_: str) -> Condition | None:
    """The condition of a type, if there is one."""
    return next((c for c in conditions if c.type == type_), None)


def progress(*, stalled: Verdict | None, reconciling: Verdict | None) -> list[Verdict]:
    """The kstatus pair: both are there, and true only when abnormal."""
    return [
        reconciling or Verdict("Reconciling", False, "Settled"),
        stalled or Verdict("Stalled", False, "NotStalled"),
    ]
