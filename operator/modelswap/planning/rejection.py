"""What speaks against a version that a route leads to, and which versions are turned away for it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from modelswap.api.v1alpha1.model_route import (
    ModelRoute,
    RejectedVersion,
    SwapKind,
    SwapState,
    SwapStatus,
    SwapTrigger,
)
from modelswap.api.v1alpha1.model_version import ModelVersion
from modelswap.manifests.labels import RETRY

from .assessment import assess
from .conditions import find
from .counts import count
from .observed import ObservedRoute, ServingVersion

TARGET_UNHEALTHY = "TargetUnhealthy"
LOST_SECONDS = timedelta(seconds=30)
"""How long a version that has proven itself may be without a well pod: its model server is restarted meanwhile."""


@dataclass(frozen=True)
class Fault:
    """Why the version that serves should not."""

    trigger: SwapTrigger
    cause: str


def fault_of(observed: ObservedRoute, now: datetime) -> Fault | None:
    """What speaks against the version that serves now; None while nothing does."""
    current = observed.route.status.current_version
    if not current or not observed.route.spec.rollback.automatic:
        return None
    version = observed.versions.get(current)
    if version is None:
        return Fault(SwapTrigger.LOST_HEALTH, f"{observed.route.spec.model}-{current} has been deleted")
    return _errors(observed, version, now) or _lost(observed, version, now)


def errors_of_target(observed: ObservedRoute, now: datetime) -> Fault | None:
    """Whether a swap's target fails more requests than it may, from the switch to the end of its observation."""
    target = observed.versions.get(observed.route.status.swap.to_version)
    if target is None or not observed.route.spec.rollback.automatic:
        return None
    return _errors(observed, target, now)


def _errors(observed: ObservedRoute, version: ServingVersion, now: datetime) -> Fault | None:
    spec, swap = observed.route.spec.rollback, observed.route.status.swap
    if version.version != swap.to_version or not is_observed(swap, now):
        return None
    counts = count(version, version.resource.status)
    requests = counts.requests - swap.target_requests_before
    errors = counts.errors - swap.target_errors_before
    if requests < spec.min_requests or errors * 100 <= spec.max_error_percent * requests:
        return None
    share = f"{errors} of {requests} requests ({100 * errors / requests:.1f} %) failed"
    cause = (
        f"{version.name}: {share} since the switch, more than spec.rollback.maxErrorPercent {spec.max_error_percent}"
    )
    return Fault(SwapTrigger.ERROR_PERCENT, cause)


def is_observed(swap: SwapStatus, now: datetime) -> bool:
    """Whether the answers of a swap's target are watched."""
    if swap.kind is not SwapKind.SWAP or swap.switch_time is None:
        return False
    if swap.state is SwapState.COMPLETED:
        return swap.observe_until is not None and now < swap.observe_until
    return swap.state in (SwapState.SWAPPING, SwapState.VERIFYING, SwapState.DRAINING)


def _lost(observed: ObservedRoute, version: ServingVersion, now: datetime) -> Fault | None:
    """A version without any well pod, and that is not only because its pods are new."""
    assessment = assess(version)
    if assessment.ready or assessment.trouble is None or assessment.wanted == 0:
        return None
    if not is_observed(observed.route.status.swap, now) and lost_for(observed.route, now) < LOST_SECONDS:
        return None
    return Fault(SwapTrigger.LOST_HEALTH, f"{version.name}: {assessment.message}")


def lost_for(route: ModelRoute, now: datetime) -> timedelta:
    """How long the route has had no well pod to lead to; zero while it has."""
    healthy = find(route.status.conditions, "Healthy")
    if healthy is None or healthy.status == "True":
        return timedelta()
    return now - healthy.last_transition_time


def key_of(route_generation: int, version: ModelVersion) -> str:
    """What a rejection was about: another key is another try."""
    meta = version.metadata
    about = f"{route_generation}/{meta.uid}/{meta.generation}/{meta.annotations.get(RETRY, '')}"
    return hashlib.sha256(about.encode()).hexdigest()[:12]


def in_force(route: ModelRoute, find_version: Callable[[str], ModelVersion | None]) -> dict[str, RejectedVersion]:
    """The rejections that still hold, by version, newest first."""
    kept = {}
    for entry in route.status.rejected:
        version = find_version(entry.version)
        if version is not None and entry.key == key_of(route.metadata.generation, version):
            kept[entry.version] = entry
    return kept


def rejections(observed: ObservedRoute, swap: SwapStatus, current: str) -> list[RejectedVersion]:
    """The status's list after this look: those that hold, and the one that the swap has just turned away.

    It is written together with the swap's own change, so that none is missed and none comes back.
    """
    route = observed.route
    kept = in_force(route, observed.resource_of)
    turned = _turned_away(swap, current)
    known = route.status.swap.id == swap.id and _turned_away(route.status.swap, route.status.current_version)
    version = observed.versions.get(turned.version) if turned else None
    if turned is None or known or version is None or swap.generation != route.metadata.generation:
        return list(kept.values())
    new = turned.model_copy(update={"key": key_of(swap.generation, version.resource)})
    return [new, *(entry for name, entry in kept.items() if name != new.version)]


def _turned_away(swap: SwapStatus, current: str) -> RejectedVersion | None:
    """The version that a swap has led away from for its faults."""
    if swap.switch_time is None:
        return None
    if swap.trigger is not SwapTrigger.SPEC and current == swap.to_version:
        return RejectedVersion(
            version=swap.from_version, reason=swap.trigger.value, message=swap.cause, time=swap.switch_time, key=""
        )
    failed = swap.state is SwapState.FAILED and swap.reason in (TARGET_UNHEALTHY, SwapTrigger.ERROR_PERCENT)
    if failed and swap.end_time is not None and current == swap.from_version:
        message = swap.message.removeprefix(f"{swap.reason}: ")
        return RejectedVersion(version=swap.to_version, reason=swap.reason, message=message, time=swap.end_time, key="")
    return None
