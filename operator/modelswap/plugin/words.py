"""Times and conditions as people say them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from modelswap.api.v1alpha1.base import Condition


def ago(then: datetime, now: datetime) -> str:
    """Such as `3 min ago`."""
    seconds = max((now - then).total_seconds(), 0)
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds // size:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"


def condition(conditions: Iterable[Condition], type_: str) -> Condition | None:
    """The condition of a type, if there is one."""
    return next((c for c in conditions if c.type == type_), None)


def is_true(found: Condition | None) -> bool:
    """Whether a condition is there and holds."""
    return found is not None and found.status == "True"
