"""Where the agents of a route's versions should send their requests."""

from __future__ import annotations

from collections.abc import Iterable

from modelswap.api.agent import HANDOVER_PORT, MAX_PEERS, Hold, HoldOutcome, TrafficMode, TrafficRequest
from modelswap.api.v1alpha1.model_route import ModelRoute

from .observed import ObservedRoute, ServingPod
from .plan import Direct


def peers_of(pods: Iterable[ServingPod]) -> tuple[str, ...]:
    """Addresses that requests are handed over to."""
    return tuple(sorted(f"{pod.ip}:{HANDOVER_PORT}" for pod in pods if pod.ip))[:MAX_PEERS]


def as_is(pod: ServingPod, hold: Hold | None) -> TrafficRequest:
    """An agent's present mode, with a hold on top."""
    if pod.report is None:
        return TrafficRequest(hold=hold)
    report = pod.report
    return TrafficRequest(mode=report.mode, peers=report.peers, upgraded_seconds=report.upgraded_seconds, hold=hold)


LOCAL = TrafficRequest()


def hand_over(peers: tuple[str, ...], route: ModelRoute) -> TrafficRequest:
    """Send requests to the peers."""
    seconds = route.spec.swap.upgraded_timeout_seconds
    return TrafficRequest(mode=TrafficMode.HAND_OVER, peers=peers, upgraded_seconds=seconds)


def follows(pod: ServingPod, request: TrafficRequest) -> bool:
    """Whether an agent does already what it would be told; one that cannot be reached cannot be told."""
    report = pod.report
    if report is None:
        return True
    if report.mode is not request.mode:
        return False
    # An agent of an earlier release tells no limit, and would be told one for ever.
    limited = report.upgraded_seconds in (None, request.upgraded_seconds)
    if request.mode is TrafficMode.HAND_OVER and not (limited and report.peers == request.peers):
        return False
    holding = report.hold is not None and report.hold.outcome is HoldOutcome.HOLDING
    if request.hold is None:
        return not holding
    return report.hold is not None and report.hold.id == request.hold.id


def direct(pods: Iterable[ServingPod], request: TrafficRequest, reason: str) -> tuple[Direct, ...]:
    """The calls that are still missing."""
    return tuple(Direct(pod=pod.name, request=request, reason=reason) for pod in pods if not follows(pod, request))


def toward(observed: ObservedRoute, serving: str) -> tuple[Direct, ...]:
    """Calls for the settled state: the serving version answers by itself, every other loaded one hands over to it."""
    versions = observed.versions
    if serving not in versions:
        return ()
    home = versions[serving]
    targets = peers_of(pod for pod in home.live_pods if pod.ready)
    calls = direct(home.live_pods, LOCAL, "Serving")
    if not targets:
        return calls  # with nobody to hand over to, the others stay as they are
    others = [pod for name, v in versions.items() if name != serving for pod in v.pods]
    return calls + direct(others, hand_over(targets, observed.route), "FormerVersion")
