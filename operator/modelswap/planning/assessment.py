"""How a version does, read from its pods: the one judgement that versions and routes are planned by."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

from .observed import ContainerState, ServingPod, ServingVersion


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


# What keeps a container waiting until somebody changes something, and what that would be.
_WAITING_HINTS = {
    "ErrImagePull": "the image cannot be pulled",
    "ImagePullBackOff": "the image cannot be pulled",
    "ErrImageNeverPull": "the image is not on the node, and its pull policy is Never",
    "InvalidImageName": "the image's name is invalid",
    "CreateContainerConfigError": "the container cannot be configured",
    "CreateContainerError": "the container cannot be created",
    "RunContainerError": "the container cannot be run",
}


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
    trouble = next(filter(None, (pod_trouble(pod) for pod in pods)), "")
    return Assessment(
        stage=stage,
        message=trouble or _progress(stage, worst, len(ready), wanted),
        wanted=wanted,
        pods=len(pods),
        ready=ready,
        attempts=max((_attempts(pod) for pod in pods), default=0),
        hopeless=next((pod.fetched.message for pod in pods if pod.fetched and pod.fetched.permanent), ""),
    )


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
    if not pod.model_server.running and not pod.model_server.restarts and not (report and report.loaded):
        return Stage.FETCHING if not pod.agent.running else Stage.LOADING
    if report is None or not report.loaded:
        return Stage.LOADING
    return Stage.UNHEALTHY if report.warmed_up and report.healthy is False else Stage.WARMING_UP


def _attempts(pod: ServingPod) -> int:
    return 1 + pod.fetch.restarts + pod.model_server.restarts


def pod_trouble(pod: ServingPod) -> str:
    """Why a pod does not come up or is not well, in words; empty when there is nothing to say."""
    if pod.unschedulable:
        return f"no node takes the pod: {pod.unschedulable}"
    if pod.fetched and pod.fetched.reason:
        return f"the artifact cannot be fetched: {pod.fetched.message}"
    containers = (("fetch", pod.fetch), ("agent", pod.agent), ("model-server", pod.model_server))
    return _container_trouble(containers) or (pod.report.message if pod.report else "")


def _container_trouble(containers: Iterable[tuple[str, ContainerState]]) -> str:
    for name, state in containers:
        if state.waiting_reason in _WAITING_HINTS:
            return f"{name}: {_WAITING_HINTS[state.waiting_reason]}: {state.waiting_message}"
        if not state.running and state.exit_code:
            last = f": {state.exit_message.strip()[-1000:]}" if state.exit_message.strip() else ""
            return f"{name} exited with code {state.exit_code} ({state.exit_reason}){last}"
    return ""


def _progress(stage: Stage, worst: ServingPod | None, ready: int, wanted: int) -> str:
    if stage is Stage.HEALTHY:
        return f"{ready} of {wanted} serving pods ready"
    if stage is Stage.FETCHING:
        return "bringing the artifact" if worst else "waiting for the serving pods to be created"
    if stage is Stage.WARMING_UP and worst and worst.report:
        if worst.report.warmed_up:
            return "waiting for Kubernetes to see the serving pods ready"
        return f"{worst.report.warm_up_done} of {worst.report.warm_up_total} warm-up requests answered"
    return "waiting for the model to answer"
