"""A route's status and events, from what its plan came to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from modelswap.api.v1alpha1.base import Condition
from modelswap.api.v1alpha1.model_route import (
    HistoryEntry,
    ModelRoute,
    ModelRouteStatus,
    SwapState,
    SwapStatus,
    SwapTrigger,
)

from .assessment import assess
from .conditions import Verdict, find, progress, settle
from .needs import ACTIVE
from .observed import ObservedRoute
from .plan import Action, Event, Plan
from .rejection import rejections
from .swap_steps import Step

QUICK_SECONDS = 1.0
"""A swap that takes less is told by its begin and its end."""


@dataclass(frozen=True, kw_only=True)
class RouteView:
    """What a look at a route came to."""

    step: Step | None = None
    target: str = ""
    refusal: tuple[str, str] | None = None
    """Reason and message of a target that is not taken up."""
    actions: tuple[Action, ...] = ()
    requeue_after: float | None = None
    retrying: bool = False
    """A swap that failed waits to be tried again."""


def finish(observed: ObservedRoute, view: RouteView, now: datetime) -> Plan:
    """The whole plan: status when it has changed, the events of its change, the actions."""
    route = observed.route
    old = route.status
    status = _status(observed, view, now)
    before, after = dump(old), dump(status)
    write = before != after
    step = view.step
    return Plan(
        status=after if write else None,
        actions=view.actions,
        events=tuple(_events(route, status, now)) if write else (),
        requeue_after=0.0 if step and step.again else (step.requeue_after if step else view.requeue_after),
    )


def dump(status: ModelRouteStatus) -> dict[str, Any]:
    """A status as it is written; what is not set is left out."""
    return status.model_dump(by_alias=True, exclude_none=True, mode="json")


def _status(observed: ObservedRoute, view: RouteView, now: datetime) -> ModelRouteStatus:
    route, old, step = observed.route, observed.route.status, view.step
    swap = _seen_through(step.swap if step else old.swap, now)
    current = step.current if step and step.current is not None else old.current_version
    generation = route.metadata.generation
    return ModelRouteStatus(
        observed_generation=generation,
        conditions=settle(old.conditions, _verdicts(observed, view, swap, current), generation=generation, now=now),
        current_version=current,
        target_version=view.target or old.target_version,
        pending_requests=_pending(observed) if swap.state in ACTIVE else 0,
        swap=swap,
        history=_history(route, swap),
        rejected=rejections(observed, swap, current),
    )


def _seen_through(swap: SwapStatus, now: datetime) -> SwapStatus:
    """An observation that is over is no longer told."""
    over = swap.observe_until is not None and now >= swap.observe_until
    return swap.model_copy(update={"observe_until": None}) if over else swap


def _pending(observed: ObservedRoute) -> int:
    reports = (pod.report for version in observed.versions.values() for pod in version.pods)
    return sum(r.in_flight + r.held for r in reports if r)


def _history(route: ModelRoute, swap: SwapStatus) -> list[HistoryEntry]:
    history = list(route.status.history)
    ended = swap.end_time is not None and swap.start_time is not None
    if ended and not any(entry.id == swap.id for entry in history):
        assert swap.start_time is not None
        assert swap.end_time is not None
        history.insert(
            0,
            HistoryEntry(
                id=swap.id,
                version=swap.to_version,
                from_version=swap.from_version,
                kind=swap.kind,
                trigger=swap.trigger,
                cause=swap.cause,
                start_time=swap.start_time,
                end_time=swap.end_time,
                result=swap.state,
                message=swap.message,
                requests_drained=swap.requests_drained,
                requests_remaining=swap.requests_remaining,
            ),
        )
    return history[: route.spec.history_limit]


def _verdicts(observed: ObservedRoute, view: RouteView, swap: SwapStatus, current: str) -> list[Verdict]:
    healthy = _healthy(observed, current)
    if observed.refusal:
        return _stalled(observed.refusal.reason, observed.refusal.message, healthy)
    if view.refusal:
        return _stalled(*view.refusal, healthy)
    if swap.state in ACTIVE:
        message = f"{swap.kind.value} from {swap.from_version or 'nothing'} to {swap.to_version}: {swap.message}"
        return [
            Verdict("Ready", False, swap.state.value, message),
            healthy,
            *progress(stalled=None, reconciling=Verdict("Reconciling", True, swap.state.value, message)),
        ]
    if view.retrying:
        reason = "WaitingToRetry"
        return [
            Verdict("Ready", False, reason, swap.message),
            healthy,
            *progress(stalled=None, reconciling=Verdict("Reconciling", True, reason, swap.message)),
        ]
    ready = Verdict("Ready", healthy.status, "Serving" if healthy.status else healthy.reason, healthy.message)
    working = None if healthy.status else Verdict("Reconciling", True, healthy.reason, healthy.message)
    return [ready, healthy, *progress(stalled=None, reconciling=working)]


def _stalled(reason: str, message: str, healthy: Verdict) -> list[Verdict]:
    return [
        Verdict("Ready", False, reason, message),
        healthy,
        *progress(stalled=Verdict("Stalled", True, reason, message), reconciling=None),
    ]


def _healthy(observed: ObservedRoute, current: str) -> Verdict:
    """Whether the address answers well now, whatever the spec asks for."""
    if not current:
        return Verdict("Healthy", False, "NothingServed", "no version has been routed yet")
    version = observed.versions.get(current)
    if version is None:
        name = f"{observed.route.spec.model}-{current}"
        return Verdict("Healthy", False, "CurrentVersionGone", f"{name}, which serves, has been deleted")
    assessment = assess(version)
    if not assessment.ready:
        return Verdict("Healthy", False, "NoServingPod", f"{version.name}: {assessment.message}")
    return Verdict("Healthy", True, "Serving", f"{version.name} serves")


def _events(route: ModelRoute, status: ModelRouteStatus, now: datetime) -> Iterable[Event]:
    old, swap = route.status, status.swap
    if (old.swap.id, old.swap.state) != (swap.id, swap.state) and _worth_telling(swap, now):
        yield _swap_event(swap)
    before, after = find(old.conditions, "Stalled"), find(status.conditions, "Stalled")
    if after and after.status == "True" and (before is None or _differ(before, after)):
        yield Event(reason=after.reason, message=after.message, warning=True)
    before, after = find(old.conditions, "Healthy"), find(status.conditions, "Healthy")
    if before and after and before.status == "True" and after.status == "False":
        yield Event(reason=after.reason, message=after.message, warning=True)


def _worth_telling(swap: SwapStatus, now: datetime) -> bool:
    """A swap's begin and end always; between them only what takes its time.

    Events are ordered by the second: what happens within one would be told in any order.
    """
    if swap.state in (SwapState.PREPARING, SwapState.COMPLETED, SwapState.FAILED) or swap.start_time is None:
        return True
    return (now - swap.start_time).total_seconds() >= QUICK_SECONDS


def _differ(before: Condition, after: Condition) -> bool:
    return (before.status, before.reason, before.message) != (after.status, after.reason, after.message)


def _swap_event(swap: SwapStatus) -> Event:
    what = f"{swap.kind.value} {swap.id}, {swap.from_version or 'nothing'} → {swap.to_version}"
    if swap.state is SwapState.COMPLETED:
        assert swap.end_time is not None
        assert swap.start_time is not None
        seconds = (swap.end_time - swap.start_time).total_seconds()
        return Event(
            reason="Completed",
            message=f"{what}: {swap.message}, after {seconds:.2f} s; {swap.requests_drained} requests drained, "
            f"{swap.requests_remaining} remaining, {swap.held_requests} held for at most {swap.hold_seconds:.3f} s",
        )
    if swap.state is SwapState.PREPARING and swap.trigger is not SwapTrigger.SPEC:
        return Event(reason="AutomaticRollback", message=f"{what}: {swap.cause}", warning=True)
    return Event(
        reason="SwapFailed" if swap.state is SwapState.FAILED else swap.state.value,
        message=f"{what}: {swap.message}",
        warning=swap.state is SwapState.FAILED,
    )
