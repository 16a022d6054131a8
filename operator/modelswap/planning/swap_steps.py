"""The steps of a running swap: from one state, by what is observed, to the next."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from modelswap.api.agent import Hold
from modelswap.api.v1alpha1.model_route import OnDrainTimeout, SwapKind, SwapState, SwapStatus, SwapStrategy
from modelswap.api.v1alpha1.model_version import ModelVersion

from .assessment import assess
from .candidates import TARGET_DELETED, has_well_pod, unfit
from .counts import count
from .needs import is_kept, removal_has_begun
from .observed import ObservedRoute, Refusal, ServingPod, ServingVersion
from .plan import Action, Probe
from .rejection import TARGET_UNHEALTHY, errors_of_target
from .swap_facts import (
    UNREACHABLE_SECONDS,
    counted,
    drain_left,
    hold_expired,
    holds_of,
    in_flight,
    is_unheard,
    missing_proof,
    pods_to_hold,
    source_pods,
    sources,
)
from .traffic import LOCAL, as_is, direct, follows, hand_over, peers_of, toward

RELEASE_MARGIN_SECONDS = 0.5
"""A hold is released this long before its deadline at the latest, so that no agent releases by itself meanwhile."""
BLINK_SECONDS = 0.3
"""RouteThenDrain holds only until every agent has heard of it: this long at the most."""
VERIFY_SECONDS = 30.0
"""How long the route may take to answer with the target."""
DRAIN_TIMEOUT = "DrainTimeout"
PROBE_SECONDS = 0.25
"""Between two requests that verify the route."""


@dataclass(frozen=True)
class Step:
    """What one look at a running swap comes to."""

    swap: SwapStatus
    actions: tuple[Action, ...] = ()
    serving: str | None = None
    """Version that the Service should select; None while it stays as it is."""
    again: bool = False
    """Whether the state has changed, so that the next look follows at once."""
    requeue_after: float | None = None
    current: str | None = None
    """The route's new current version."""


def advance(observed: ObservedRoute, now: datetime) -> Step:
    """Take the running swap as far as what is observed allows."""
    swap = observed.route.status.swap
    target = observed.versions.get(swap.to_version)
    if swap.switch_time is not None:
        if fault := _fault(observed, target, now):
            return _go_back(observed, fault, now)
    elif target is None:
        return abandon(observed, TARGET_DELETED, "the target has been deleted", now)
    elif refusal := unfit(target):
        return abandon(observed, refusal.reason, refusal.message, now)
    steps = {
        SwapState.PREPARING: _prepare,
        SwapState.DRAINING: _drain if swap.switch_time is None else _drain_after,
        SwapState.SWAPPING: _switch,
        SwapState.VERIFYING: _verify,
    }
    return steps[swap.state](observed, now)


def _fault(observed: ObservedRoute, target: ServingVersion | None, now: datetime) -> Refusal | None:
    """Why requests that have been switched to the target must go back: it is lost, or answers badly."""
    if target is None:
        return Refusal(TARGET_DELETED, "the target has been deleted")
    found = assess(target)
    if not found.ready and has_well_pod(observed, observed.route.status.swap.from_version):
        if refusal := unfit(target):
            return refusal
        # Pods that Kubernetes merely calls unready, as when it has not heard of their node, answer all the same.
        if found.trouble or not found.pods:
            return Refusal(TARGET_UNHEALTHY, f"{target.name}: {found.message}")
    if errors := errors_of_target(observed, now):
        return Refusal(errors.trigger.value, errors.cause)
    return None


def abandon(observed: ObservedRoute, reason: str, message: str, now: datetime) -> Step:
    """End a swap before its switch: release every hold, the source goes on serving."""
    source = observed.route.status.swap.from_version
    failed = _failed(observed, Refusal(reason, message), now)
    held = holds_of(observed)
    return Step(
        swap=counted(failed, observed, remaining=in_flight(source_pods(observed)) if held else 0),
        actions=toward(observed, source),
        again=True,
    )


def _prepare(observed: ObservedRoute, now: datetime) -> Step:
    swap = observed.route.status.swap
    target = observed.versions[swap.to_version]
    actions = toward(observed, swap.from_version)
    assessment = assess(target)
    if not assessment.serving:
        return Step(swap=_with(observed, message=f"{target.name}: {assessment.message}"), actions=actions)
    if reason := _may_vanish(target.resource):
        return Step(swap=_with(observed, message=f"{target.name}: {reason}"), actions=actions)
    if not assessment.directable:
        return Step(swap=_with(observed, message=f"{target.name}: waiting to hear of its agents"), actions=actions)
    if swap.strategy is SwapStrategy.DRAIN_THEN_ROUTE and swap.from_version and sources(observed):
        return Step(swap=_with(observed, state=SwapState.DRAINING, drain_time=now, message="draining"), again=True)
    return _to_switch(observed, now, "handing over")


def _may_vanish(target: ModelVersion) -> str:
    """Why the target might go the moment after a switch to it; empty when it is kept."""
    if removal_has_begun(target):
        return "waiting until it is unloaded, to be loaded afresh"
    if not is_kept(target):
        return "waiting until it is kept from being unloaded and deleted"
    return ""


def _drain(observed: ObservedRoute, now: datetime) -> Step:
    """Hold everywhere and wait until no request is in flight."""
    route, swap = observed.route, observed.route.status.swap
    assert swap.drain_time is not None
    target = observed.versions[swap.to_version]
    if not assess(target).serving:
        return abandon(observed, TARGET_UNHEALTHY, f"{target.name}: {assess(target).message}", now)
    hold = Hold(id=swap.id, seconds=route.spec.swap.max_hold_seconds)
    pods = pods_to_hold(observed)
    calls = tuple(call for pod in pods for call in direct([pod], as_is(pod, hold), "Hold"))
    since = (now - swap.drain_time).total_seconds()
    limit = min(route.spec.swap.max_hold_seconds - RELEASE_MARGIN_SECONDS, route.spec.swap.drain_timeout_seconds)
    unanswered = in_flight(source_pods(observed))
    state = _with(observed, message=f"{unanswered} requests in flight")
    waiting = calls or is_unheard(observed, since)
    expired = any(hold_expired(pod, swap.id) for pod in pods)
    if not waiting and unanswered == 0 and not expired:
        return _to_switch(observed, now, "handing over")
    if since >= limit or expired:
        if route.spec.swap.on_drain_timeout is OnDrainTimeout.ABORT:
            message = f"{unanswered} requests were still in flight after {since:.1f} s of holding"
            return abandon(observed, DRAIN_TIMEOUT, message, now)
        return _to_switch(observed, now, f"handing over with {unanswered} requests still in flight")
    return Step(swap=state, actions=calls, requeue_after=min(limit - since, UNREACHABLE_SECONDS))


def _to_switch(observed: ObservedRoute, now: datetime, message: str) -> Step:
    target = observed.versions[observed.route.status.swap.to_version]
    counts = count(target, target.resource.status)
    switched = _with(
        observed,
        state=SwapState.SWAPPING,
        switch_time=now,
        message=message,
        target_requests_before=counts.requests,
        target_errors_before=counts.errors,
    )
    return Step(swap=switched, again=True)


def _switch(observed: ObservedRoute, now: datetime) -> Step:
    """Hand over, then select: in this order, as the hand-over alone makes the cut-over right."""
    swap = observed.route.status.swap
    assert swap.switch_time is not None
    since = (now - swap.switch_time).total_seconds()
    if swap.strategy is SwapStrategy.ROUTE_THEN_DRAIN and since < BLINK_SECONDS:
        calls = _blink(observed)
        if calls:
            return Step(swap=_with(observed), actions=calls, requeue_after=BLINK_SECONDS - since)
    target = observed.versions[swap.to_version]
    first = direct(target.live_pods, LOCAL, "Serve")
    if first:
        return Step(swap=_with(observed), actions=first, requeue_after=UNREACHABLE_SECONDS)
    peers = peers_of(pod for pod in target.live_pods if pod.ready)
    rest = direct(source_pods(observed), hand_over(peers, observed.route), "HandOver") if peers else ()
    waiting = rest or is_unheard(observed, since)
    if waiting:
        return Step(swap=_with(observed), actions=rest, requeue_after=UNREACHABLE_SECONDS)
    selected = observed.service is not None and observed.service.selected == target.name
    if not selected:
        return Step(swap=_with(observed), serving=swap.to_version, requeue_after=UNREACHABLE_SECONDS)
    drains = swap.strategy is SwapStrategy.ROUTE_THEN_DRAIN
    state, message = (SwapState.DRAINING, "draining") if drains else (SwapState.VERIFYING, "verifying")
    return Step(
        swap=_with(observed, state=state, message=message),
        serving=swap.to_version,
        current=swap.to_version,
        again=True,
    )


def _blink(observed: ObservedRoute) -> tuple[Action, ...]:
    """The hold of one who routes first: only until all agents hold, so that none answers after the target has."""
    swap = observed.route.status.swap
    hold = Hold(id=swap.id, seconds=1)
    pods = [pod for pod in pods_to_hold(observed) if pod.report and not _handed_over(pod, observed)]
    return tuple(call for pod in pods for call in direct([pod], as_is(pod, hold), "Hold"))


def _handed_over(pod: ServingPod, observed: ObservedRoute) -> bool:
    target = observed.versions[observed.route.status.swap.to_version]
    return follows(pod, hand_over(peers_of(p for p in target.live_pods if p.ready), observed.route))


def _drain_after(observed: ObservedRoute, now: datetime) -> Step:
    """After the switch: let the requests end that the source had begun."""
    swap = observed.route.status.swap
    unanswered = in_flight(source_pods(observed))
    left = drain_left(observed, now)
    keep = _keep_switched(observed)
    if unanswered and left > 0:
        return Step(swap=_with(observed, message=f"{unanswered} requests in flight"), actions=keep, requeue_after=left)
    return Step(
        swap=_with(observed, state=SwapState.VERIFYING, message="verifying"),
        actions=keep,
        serving=swap.to_version,
        again=True,
    )


def _verify(observed: ObservedRoute, now: datetime) -> Step:
    """Prove that the address leads to the target, and let late requests on the source end."""
    swap = observed.route.status.swap
    assert swap.switch_time is not None
    target = observed.versions[swap.to_version]
    keep = _keep_switched(observed)
    proof = missing_proof(observed, target)
    if proof:
        if (now - swap.switch_time).total_seconds() > VERIFY_SECONDS + observed.route.spec.swap.drain_timeout_seconds:
            return _go_back(observed, Refusal("VerifyFailed", proof), now)
        return Step(
            swap=_with(observed, message=proof),
            actions=(*keep, *_probe(observed, now)),
            serving=swap.to_version,
            requeue_after=PROBE_SECONDS,
        )
    unanswered = in_flight(source_pods(observed))
    left = drain_left(observed, now)
    if unanswered and left > 0:
        message = f"{unanswered} requests in flight on the source"
        return Step(swap=_with(observed, message=message), actions=keep, serving=swap.to_version, requeue_after=left)
    done = _with(
        observed,
        state=SwapState.COMPLETED,
        end_time=now,
        observe_until=_observe_until(observed, now),
        message=f"{target.name} serves",
    )
    return Step(swap=counted(done, observed, remaining=unanswered), actions=keep, serving=swap.to_version, again=True)


def _probe(observed: ObservedRoute, now: datetime) -> tuple[Action, ...]:
    """Ask the address which version answers, but not as fast as it answers."""
    swap, probe = observed.route.status.swap, observed.probe
    if probe is not None and (now - probe.at).total_seconds() < PROBE_SECONDS:
        return ()
    return (Probe(expected=f"{observed.route.spec.model}-{swap.to_version}"),)


def _observe_until(observed: ObservedRoute, now: datetime) -> datetime | None:
    """How long to watch the target: there must be something to lead back to, and a wish to."""
    rollback, swap = observed.route.spec.rollback, observed.route.status.swap
    if not rollback.automatic or not rollback.observe_seconds or not swap.from_version:
        return None
    return now + timedelta(seconds=rollback.observe_seconds) if swap.kind is SwapKind.SWAP else None


def _go_back(observed: ObservedRoute, why: Refusal, now: datetime) -> Step:
    """The switch did not take, or the target proved bad: lead back to the source, if there is one."""
    swap = observed.route.status.swap
    failed = _failed(observed, why, now)
    source = swap.from_version
    if not has_well_pod(observed, source) and (
        source not in observed.versions or has_well_pod(observed, swap.to_version)
    ):
        # The other way would be no better.
        return Step(swap=counted(failed, observed, remaining=0), serving=swap.to_version, again=True)
    return Step(
        swap=counted(failed, observed, remaining=0),
        actions=toward(observed, source),
        serving=source,
        current=source,
        again=True,
    )


def _keep_switched(observed: ObservedRoute) -> tuple[Action, ...]:
    return toward(observed, observed.route.status.swap.to_version)


def _with(observed: ObservedRoute, **changes: Any) -> SwapStatus:
    return observed.route.status.swap.model_copy(update=changes)


def _failed(observed: ObservedRoute, why: Refusal, now: datetime) -> SwapStatus:
    message = f"{why.reason}: {why.message}"
    return _with(observed, state=SwapState.FAILED, end_time=now, reason=why.reason, message=message)
