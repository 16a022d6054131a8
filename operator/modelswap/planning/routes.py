"""The plan of a ModelRoute: where its Service leads, and every step of a swap.

    DrainThenRoute:  Preparing ─▶ Draining ─▶ Swapping ─▶ Verifying ─▶ Completed
    RouteThenDrain:  Preparing ─▶ Swapping ─▶ Draining ─▶ Verifying ─▶ Completed
                         │            │           │            │
                         └────────────┴───────────┴────────────┴─▶ Failed: the source serves (on, or again)

A rollback routes, then drains. An automatic one begins when what serves proves bad.

Each step is derived anew from what is observed; the status keeps only what cannot be observed: which swap runs, and
when its parts began.
"""

from __future__ import annotations

import hashlib
from datetime import datetime

from modelswap.api.v1alpha1.model_route import (
    ModelRoute,
    SwapKind,
    SwapState,
    SwapStatus,
    SwapStrategy,
    SwapTrigger,
)
from modelswap.manifests.child import fingerprint_of
from modelswap.manifests.service import route_service

from .candidates import has_well_pod, refuge_of, unfit
from .needs import ACTIVE, Target, resolve, served_before
from .observed import ObservedRoute, Refusal
from .plan import Action, Apply, Plan
from .registry import Versions
from .rejection import LOST_SECONDS, Fault, fault_of, lost_for
from .route_status import RouteView, finish
from .swap_steps import DRAIN_TIMEOUT, Step, abandon, advance
from .traffic import toward

RETRY_SECONDS = 5.0
"""Before a swap that failed is tried again; doubles with every attempt."""
RETRY_DRAIN_SECONDS = 30.0
"""The same where it could not drain: every attempt keeps clients waiting."""
RETRY_SECONDS_MAX = 600.0


def plan_route(observed: ObservedRoute, now: datetime) -> Plan:
    """Decide what to do about one ModelRoute."""
    route = observed.route
    if route.metadata.deletion_timestamp:
        return Plan()  # the garbage collector takes the Service
    if observed.conflict:
        return finish(observed, RouteView(refusal=("ModelAlreadyRouted", observed.conflict)), now)
    target = resolve(route, Versions.of(v.resource for v in observed.versions.values()))
    swap = route.status.swap
    if swap.state in ACTIVE:
        return _run(observed, target, now)
    return _settled(observed, target, now)


def _run(observed: ObservedRoute, target: Target, now: datetime) -> Plan:
    """Go on with the swap that runs."""
    step = _cancelled(observed, target, now) or advance(observed, now)
    actions = step.actions
    if step.serving is not None:
        actions += _service(observed, step.serving)
    return finish(observed, RouteView(step=step, target=target.version, actions=actions), now)


def _cancelled(observed: ObservedRoute, target: Target, now: datetime) -> Step | None:
    """Before its switch, a swap that is no longer wanted ends."""
    swap = observed.route.status.swap
    if swap.switch_time is not None:
        return None
    wish = f"the spec now asks for {target.version}" if target.version else target.message
    if swap.trigger is SwapTrigger.SPEC:
        superseded = target.version != swap.to_version
    else:
        superseded = swap.generation != observed.route.metadata.generation
    if superseded:
        return abandon(observed, "Superseded", f"cancelled before the switch: {wish}", now)
    if swap.trigger is SwapTrigger.LOST_HEALTH and has_well_pod(observed, swap.from_version):
        return abandon(observed, "Recovered", f"{observed.route.spec.model}-{swap.from_version} is well again", now)
    return None


def _settled(observed: ObservedRoute, target: Target, now: datetime) -> Plan:
    """No swap runs: keep what serves, and begin one if another version is wanted or the one that serves is bad."""
    route = observed.route
    current = route.status.current_version
    actions: tuple[Action, ...] = ()
    if current:
        actions = (*_service(observed, current), *toward(observed, current))
    begin, wait = _next_swap(observed, target, now)
    if begin is not None:
        step = Step(swap=begin, again=True)
        return finish(observed, RouteView(step=step, target=target.version, actions=actions), now)
    refusal = _refusal(observed, target)
    waits = [seconds for seconds in (wait, _until_next_judgement(observed, now)) if seconds > 0]
    view = RouteView(
        target=target.version,
        refusal=(refusal.reason, refusal.message) if refusal else None,
        actions=actions,
        requeue_after=min(waits, default=None),
        retrying=wait > 0,
    )
    return finish(observed, view, now)


def _next_swap(observed: ObservedRoute, target: Target, now: datetime) -> tuple[SwapStatus | None, float]:
    """The swap to begin now, if any; otherwise in how many seconds one that failed is to be tried again, if any."""
    route = observed.route
    if not _refusal(observed, target) and target.version != route.status.current_version:
        wait = _retry_in(route, target.version, now)
        return (_begin(route, target.version, now) if wait <= 0 else None), wait
    fault = fault_of(observed, now)
    refuge = refuge_of(observed) if fault else ""
    if fault and refuge:
        wait = _retry_in(route, refuge, now)
        return (_begin(route, refuge, now, fault) if wait <= 0 else None), wait
    return None, 0


def _until_next_judgement(observed: ObservedRoute, now: datetime) -> float:
    """Seconds until time alone may change what is thought of the version that serves; 0 if it cannot."""
    route = observed.route
    until = route.status.swap.observe_until
    lost = lost_for(route, now)
    times = [(until - now).total_seconds()] if until else []
    if lost and route.status.current_version and route.spec.rollback.automatic:
        times.append((LOST_SECONDS - lost).total_seconds())
    return min((seconds for seconds in times if seconds > 0), default=0)


def _refusal(observed: ObservedRoute, target: Target) -> Refusal | None:
    """Why the version that the spec asks for is not taken up."""
    if not target.version:
        return Refusal(target.reason, target.message)
    if target.version == observed.route.status.current_version:
        return None
    return unfit(observed.versions[target.version])


def _failed_here(route: ModelRoute, version: str) -> bool:
    swap = route.status.swap
    return (
        swap.state is SwapState.FAILED and swap.to_version == version and swap.generation == route.metadata.generation
    )


def _retry_in(route: ModelRoute, version: str, now: datetime) -> float:
    """Seconds until a swap that failed may be tried again."""
    swap = route.status.swap
    if not _failed_here(route, version) or swap.end_time is None:
        return 0
    first = RETRY_DRAIN_SECONDS if swap.reason == DRAIN_TIMEOUT else RETRY_SECONDS
    wait: float = min(first * 2.0 ** (swap.attempt - 1), RETRY_SECONDS_MAX)
    return wait - (now - swap.end_time).total_seconds()


def _begin(route: ModelRoute, version: str, now: datetime, fault: Fault | None = None) -> SwapStatus:
    current = route.status.current_version
    attempt = route.status.swap.attempt + 1 if _failed_here(route, version) else 1
    seed = f"{route.metadata.uid}/{route.metadata.generation}/{current}/{version}/{attempt}/{now.isoformat()}"
    rollback = fault is not None or bool(current and served_before(route, version))
    return SwapStatus(
        id=hashlib.sha256(seed.encode()).hexdigest()[:10],
        kind=SwapKind.ROLLBACK if rollback else SwapKind.SWAP,
        trigger=fault.trigger if fault else SwapTrigger.SPEC,
        cause=fault.cause if fault else "",
        strategy=SwapStrategy.ROUTE_THEN_DRAIN if rollback else route.spec.swap.strategy,
        state=SwapState.PREPARING,
        from_version=current,
        to_version=version,
        generation=route.metadata.generation,
        start_time=now,
        attempt=attempt,
        message=f"waiting for {route.spec.model}-{version} to be ready",
    )


def _service(observed: ObservedRoute, serving: str) -> tuple[Apply, ...]:
    route, service = observed.route, observed.service
    name = f"{route.spec.model}-{serving}"
    manifest = route_service(route, name)
    if service and service.selected == name and service.fingerprint == fingerprint_of(manifest):
        return ()
    return (Apply(manifest=manifest, reason="Route", exists=service is not None),)
