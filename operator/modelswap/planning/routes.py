"""The plan of a ModelRoute: where its Service leads, and every step of a swap.

    Swap:      Preparing ─▶ Draining ─▶ Swapping ─▶ Verifying ─▶ Completed
    Rollback:  Preparing ─▶ Swapping ─▶ Draining ─▶ Verifying ─▶ Completed
                   │            │
                   └────────────┴─▶ Failed (before the switch: the source goes on serving)

Each step is derived anew from what is observed; the status keeps only what cannot be observed: which swap runs, and
when its parts began.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime

from modelswap.api.v1alpha1.model_route import ModelRoute, SwapKind, SwapState, SwapStatus
from modelswap.api.v1alpha1.model_version import LoadState
from modelswap.manifests.child import fingerprint_of
from modelswap.manifests.service import route_service

from .needs import ACTIVE, Target, load_failed, resolve, served_before
from .observed import ObservedRoute
from .plan import Action, Apply, Plan
from .registry import Versions
from .route_status import RouteView, finish
from .swap_steps import Step, abandon, advance
from .traffic import toward

RETRY_SECONDS = 30.0
"""Before a swap that failed to drain is tried again; doubles with every attempt."""
RETRY_SECONDS_MAX = 600.0


@dataclass(frozen=True)
class Refusal:
    """Why a target is not taken up."""

    reason: str
    message: str


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
    swap = observed.route.status.swap
    if swap.switch_time is None and target.version != swap.to_version:
        wish = f"the spec now asks for {target.version}" if target.version else target.message
        step = abandon(observed, "Superseded", f"cancelled before the switch: {wish}", now)
    else:
        step = advance(observed, now)
    actions = step.actions
    if step.serving is not None:
        actions += _service(observed, step.serving)
    return finish(observed, RouteView(step=step, target=target.version, actions=actions), now)


def _settled(observed: ObservedRoute, target: Target, now: datetime) -> Plan:
    """No swap runs: keep what serves, and begin one if another version is wanted."""
    route = observed.route
    current = route.status.current_version
    actions: tuple[Action, ...] = ()
    if current:
        actions = (*_service(observed, current), *toward(observed.versions, current))
    refusal = _refusal(observed, target)
    if refusal:
        return finish(
            observed,
            RouteView(target=target.version, refusal=(refusal.reason, refusal.message), actions=actions),
            now,
        )
    if target.version == current:
        return finish(observed, RouteView(target=current, actions=actions), now)
    wait = _retry_in(route, target.version, now)
    if wait > 0:
        return finish(observed, RouteView(target=target.version, actions=actions, requeue_after=wait), now)
    step = Step(swap=_begin(route, target.version, now), again=True)
    return finish(observed, RouteView(step=step, target=target.version, actions=actions), now)


def _refusal(observed: ObservedRoute, target: Target) -> Refusal | None:
    route = observed.route
    if not target.version:
        return Refusal(target.reason, target.message)
    if target.version == route.status.current_version:
        return None
    version = observed.versions[target.version]
    if load_failed(version.resource):
        return Refusal("TargetLoadFailed", f"{version.name} failed to load: {version.resource.status.last_error}")
    if version.resource.spec.load.state is LoadState.UNLOADED:
        return Refusal("TargetUnloaded", f"{version.name} is kept unloaded: set its spec.load.state to Auto or Loaded")
    if version.resource.spec.replicas == 0:
        return Refusal("TargetScaledToZero", f"{version.name} has no serving pods: set its spec.replicas to 1 or more")
    swap = route.status.swap
    if _failed_here(route, target.version) and swap.switch_time is not None:
        return Refusal("SwapFailed", f"{swap.message}. Change the spec to try again")
    return None


def _failed_here(route: ModelRoute, version: str) -> bool:
    swap = route.status.swap
    return (
        swap.state is SwapState.FAILED and swap.to_version == version and swap.generation == route.metadata.generation
    )


def _retry_in(route: ModelRoute, version: str, now: datetime) -> float:
    """Seconds until a swap that failed before its switch may be tried again."""
    swap = route.status.swap
    if not _failed_here(route, version) or swap.end_time is None:
        return 0
    wait: float = min(RETRY_SECONDS * 2.0 ** (swap.attempt - 1), RETRY_SECONDS_MAX)
    return wait - (now - swap.end_time).total_seconds()


def _begin(route: ModelRoute, version: str, now: datetime) -> SwapStatus:
    current = route.status.current_version
    attempt = route.status.swap.attempt + 1 if _failed_here(route, version) else 1
    seed = f"{route.metadata.uid}/{current}/{version}/{now.isoformat()}"
    return SwapStatus(
        id=hashlib.sha256(seed.encode()).hexdigest()[:10],
        kind=SwapKind.ROLLBACK if current and served_before(route, version) else SwapKind.SWAP,
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
