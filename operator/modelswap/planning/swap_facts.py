"""What is observed of a running swap: whom it concerns, what is in flight, what was held, what is still to prove."""

from __future__ import annotations

from datetime import datetime

from modelswap.api.agent import HoldOutcome, HoldReport, TrafficMode
from modelswap.api.v1alpha1.model_route import SwapStatus

from .observed import ObservedRoute, ServingPod, ServingVersion

UNREACHABLE_SECONDS = 2.0
"""How long an agent that does not answer keeps a swap waiting; its pod cannot hold, but loses nothing either."""


def sources(observed: ObservedRoute) -> list[ServingVersion]:
    """Every loaded version but the target: each may still be reached by a client of the route."""
    target = observed.route.status.swap.to_version
    return [v for name, v in observed.versions.items() if name != target and v.pods]


def source_pods(observed: ObservedRoute) -> list[ServingPod]:
    """Their pods."""
    return [pod for version in sources(observed) for pod in version.pods]


def pods_to_hold(observed: ObservedRoute) -> list[ServingPod]:
    """The pods to hold: the sources', and those of a target that hands over until now."""
    target = observed.versions[observed.route.status.swap.to_version]
    return [
        *source_pods(observed),
        *(p for p in target.live_pods if p.report and p.report.mode is TrafficMode.HAND_OVER),
    ]


def is_unheard(observed: ObservedRoute, since: float) -> bool:
    """Whether a serving source's agent has not been heard of, and still may be."""
    return since < UNREACHABLE_SECONDS and any(p.ready and not p.reachable for p in source_pods(observed))


def hold_expired(pod: ServingPod, swap_id: str) -> bool:
    """Whether a pod's agent has released its requests by itself."""
    hold = pod.report.hold if pod.report else None
    return hold is not None and hold.id == swap_id and hold.outcome is HoldOutcome.EXPIRED


def in_flight(pods: list[ServingPod]) -> int:
    """Requests of the route that these pods' models have begun and not answered."""
    return sum(pod.report.in_flight for pod in pods if pod.report)


def holds_of(observed: ObservedRoute) -> list[HoldReport]:
    """The running swap's, of all agents."""
    swap_id = observed.route.status.swap.id
    reports = (pod.report for version in observed.versions.values() for pod in version.pods)
    return [r.hold for r in reports if r and r.hold and r.hold.id == swap_id]


def missing_proof(observed: ObservedRoute, target: ServingVersion) -> str:
    """What is still missing until the address is proven to lead to the target; empty when it is."""
    swap, service, probe = observed.route.status.swap, observed.service, observed.probe
    assert swap.switch_time is not None
    if service is None or service.selected != target.name:
        return "waiting for the Service"
    addresses = {pod.ip for pod in target.pods}
    if not service.endpoints or not service.endpoints <= addresses:
        return "waiting for the Service's endpoints"
    if probe is None or probe.at < swap.switch_time:
        return "asking the route which version answers"
    if probe.answered != target.name:
        return f"the route answered with {probe.answered or probe.error}, not with {target.name}"
    return ""


def drain_left(observed: ObservedRoute, now: datetime) -> float:
    """Seconds that the source still has to end what it has begun."""
    swap = observed.route.status.swap
    began = swap.drain_time or swap.switch_time or now
    return observed.route.spec.swap.drain_timeout_seconds - (now - began).total_seconds()


def counted(swap: SwapStatus, observed: ObservedRoute, *, remaining: int) -> SwapStatus:
    """With what the agents have counted while they held."""
    holds = holds_of(observed)
    begun = sum(hold.in_flight_at_start for hold in holds)
    return swap.model_copy(
        update={
            "requests_drained": max(begun - remaining, 0),
            "requests_remaining": remaining,
            "held_requests": sum(hold.held_requests for hold in holds),
            "hold_seconds": round(max((hold.longest_hold_seconds for hold in holds), default=0.0), 3),
        }
    )
