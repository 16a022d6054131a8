"""How a version does, read from its pods: the one judgement that versions and routes are planned by."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from .causes import Cause, cause_of, causes, has_failed
from .observed import ServingPod, ServingVersion


class Stage(IntEnum):
    """How far a serving pod has come; a version is as far as its last pod."""

    FETCHING = 0
    LOADING = 1
    WARMING_UP = 2
    UNHEALTHY = 3
    HEALTHY = 4

    @property
    def reason(self) -> str:
        """The reason of the condition Ready."""
        return "".join(word.capitalize() for word in self.name.split("_"))


@dataclass(frozen=True, kw_only=True)
class Assessment:
    """A version as a whole."""

    stage: Stage
    message: str
    wanted: int
    """Serving pods asked for."""
    pods: int
    """Serving pods that exist and are not on their way out."""
    ready: tuple[ServingPod, ...]
    """Pods that Kubernetes sends requests to, and whose agent says nothing to the contrary."""
    attempts: int
    """The most that one pod has needed so far."""
    hopeless: str
    """Why no further attempt can help; empty if one may."""
    trouble: Cause | None = None
    """The worst that is wrong with a pod."""

    @property
    def serving(self) -> bool:
        """Every pod that was asked for answers well."""
        return self.stage is Stage.HEALTHY and self.wanted > 0

    @property
    def directable(self) -> bool:
        """Every ready pod's agent can be told where requests go."""
        return all(pod.reachable for pod in self.ready)


def assess(version: ServingVersion) -> Assessment:
    """Judge a version by its pods."""
    pods = version.live_pods
    wanted = version.resource.spec.replicas
    ready = tuple(sorted((pod for pod in pods if _is_ready(pod)), key=lambda pod: pod.name))
    stage, worst = _worst(pods, ready, wanted)
    trouble = None if stage is Stage.HEALTHY else next(iter(causes(version)), None)
    return Assessment(
        stage=stage,
        message=trouble.message if trouble else _progress(stage, worst, len(ready), wanted),
        wanted=wanted,
        pods=len(pods),
        ready=ready,
        attempts=_attempts(version),
        hopeless=next((_why_hopeless(pod, version) for pod in pods if pod.fetched and pod.fetched.permanent), ""),
        trouble=trouble,
    )


def _why_hopeless(pod: ServingPod, version: ServingVersion) -> str:
    cause = cause_of(pod, version.resource)
    return cause.message if cause else ""


def _worst(pods: tuple[ServingPod, ...], ready: tuple[ServingPod, ...], wanted: int) -> tuple[Stage, ServingPod | None]:
    if len(ready) >= wanted > 0:
        return Stage.HEALTHY, None
    behind = [(_stage(pod), pod) for pod in pods if pod not in ready]
    return min(behind, key=lambda pair: pair[0], default=(Stage.FETCHING, None))


def _is_ready(pod: ServingPod) -> bool:
    """A pod is probed through its agent: until the operator has heard of the agent, the probe's word counts."""
    report = pod.report
    well = report is None or (report.loaded and report.warmed_up and report.healthy is not False)
    return bool(pod.ready and pod.ip and well)


def _stage(pod: ServingPod) -> Stage:
    report = pod.report
    if report is not None and report.loaded:
        return Stage.UNHEALTHY if report.warmed_up and report.healthy is False else Stage.WARMING_UP
    begun = pod.model_server.running or pod.model_server.restarts or pod.model_server.exit_code is not None
    fetched = pod.fetched is not None and not pod.fetched.reason
    return Stage.LOADING if begun or fetched else Stage.FETCHING


def _attempts(version: ServingVersion) -> int:
    """The most that one pod has tried, and every pod that was ended for good."""
    failed = sum(1 for pod in version.pods if has_failed(pod))
    return failed + max((1 + p.fetch.restarts + p.model_server.restarts for p in version.live_pods), default=0)


def _progress(stage: Stage, worst: ServingPod | None, ready: int, wanted: int) -> str:
    if stage is Stage.HEALTHY:
        return f"{ready} of {wanted} serving pods ready"
    if not wanted:
        return "spec.replicas is 0: it has no serving pods"
    if stage is Stage.FETCHING:
        return _fetch_progress(worst) if worst else "waiting for the serving pods to be created"
    if stage is Stage.WARMING_UP and worst and worst.report:
        if worst.report.warmed_up:
            return "waiting for Kubernetes to see the serving pods ready"
        return f"{worst.report.warm_up_done} of {worst.report.warm_up_total} warm-up requests answered"
    return "waiting for the model to answer"


def _fetch_progress(pod: ServingPod) -> str:
    """In tenths, so that the message does not change with every byte."""
    fetch = pod.report.fetch if pod.report else None
    if fetch is None or not fetch.total_bytes:
        return "fetching the artifact"
    tenths = min(10 * fetch.bytes // fetch.total_bytes, 10)
    return f"fetching the artifact: {10 * tenths} % of {_readable(fetch.total_bytes)}"


def _readable(size: int) -> str:
    value, units = float(size), ["bytes", "KiB", "MiB", "GiB", "TiB"]
    while value >= 1024 and len(units) > 1:
        value /= 1024
        units.pop(0)
    return f"{value:.1f} {units[0]}" if units[0] != "bytes" else f"{size} bytes"
