"""What a run comes to: pure."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Run:
    """One swap under load."""

    way: str
    """`modelswap` or `selector-flip`."""
    kind: str
    """`swap` or `rollback`."""
    sent: int
    failed: int
    strict: bool
    """A swap: no old answer arrived after the first new one. A rollback, which drains after it has routed: no request
    that was sent after the first new answer had arrived was answered by the old version."""
    versions: dict[str, int]
    first_new_seconds: float | None
    """After the apply; None when the target never answered."""
    last_old_seconds: float | None
    """After the apply; None when the source never answered."""
    apply_to_completed_seconds: float | None
    held_seconds_max: float | None
    held_requests: int | None
    added_latency_seconds_max: float
    """The slowest quick request, over the median."""
    large_bodies: int
    """Requests whose body took 1.5 s to send."""
    failures: list[str]

    def as_json(self) -> dict[str, Any]:
        """For the report."""
        return asdict(self)


def run_of(
    *,
    way: str,
    kind: str,
    summary: dict[str, Any],
    old: str,
    new: str,
    applied: float,
    completed: float | None,
    swap: dict[str, Any] | None,
) -> Run:
    """Put a run's figures together.

    Args:
        way: `modelswap` or `selector-flip`.
        kind: `swap` or `rollback`.
        summary: what the clients counted; times are seconds since the epoch.
        old: the source's version.
        new: the target's version.
        applied: when the swap was asked for, in seconds since the epoch.
        completed: seconds from then to Completed.
        swap: the route's status.swap at the end.

    """
    first_new = summary["first_answer"].get(new)
    old_end = (summary["last_answer"] if kind == "swap" else summary["last_sent"]).get(old)
    return Run(
        way=way,
        kind=kind,
        sent=summary["sent"],
        failed=summary["failed"],
        strict=first_new is not None and old_end is not None and old_end <= first_new,
        versions=summary["versions"],
        first_new_seconds=_since(applied, first_new),
        last_old_seconds=_since(applied, summary["last_answer"].get(old)),
        apply_to_completed_seconds=_since(0, completed),
        held_seconds_max=swap["holdSeconds"] if swap else None,
        held_requests=swap["heldRequests"] if swap else None,
        added_latency_seconds_max=round(summary["max_latency"] - summary["median_latency"], 3),
        large_bodies=summary["large_answers"],
        failures=summary["failures"],
    )


def _since(begin: float, at: float | None) -> float | None:
    return None if at is None else round(at - begin, 3)


def table(runs: list[Run]) -> str:
    """Runs side by side, one column each."""
    rows: list[tuple[str, list[str]]] = [
        ("", [f"{r.way} {r.kind}" for r in runs]),
        ("requests sent", [f"{r.sent:,}" for r in runs]),
        ("failed", [str(r.failed) for r in runs]),
        ("answers by version", [", ".join(f"{v}: {n:,}" for v, n in sorted(r.versions.items())) for r in runs]),
        ("first new answer after", [_seconds(r.first_new_seconds) for r in runs]),
        ("last old answer after", [_seconds(r.last_old_seconds) for r in runs]),
        ("cut-over strict", ["yes" if r.strict else "no" for r in runs]),
        ("apply to Completed", [_seconds(r.apply_to_completed_seconds) for r in runs]),
        ("requests held", ["-" if r.held_requests is None else str(r.held_requests) for r in runs]),
        ("longest hold", [_seconds(r.held_seconds_max) for r in runs]),
        ("longest added latency", [f"{r.added_latency_seconds_max:.2f} s" for r in runs]),
    ]
    widths = [max(len(cells[i]) for _, cells in rows) for i in range(len(runs))]
    return "\n".join(
        f"  {title:<24}" + "   ".join(cell.rjust(width) for cell, width in zip(cells, widths, strict=True))
        for title, cells in rows
    )


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f} s"
