"""Why serving pods do not come up, read from what Kubernetes says of them: a reason, and what to do, in words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from modelswap.api.v1alpha1.model_version import ModelVersion

from .observed import ContainerState, ServingPod, ServingVersion

SHOWN = 1000
"""Characters of a container's last lines that a message shows."""

STOPPED = frozenset({0, 137, 143})
"""Exit codes of a process that was ended by SIGTERM or SIGKILL; many servers end well when they are told to."""
EVICTED = "Evicted"
KILL_MARGIN = timedelta(seconds=75)
"""A container that its startup probe has failed may take so long to end."""

RETRY_HINT = "Nothing is tried again until the spec or the annotation modelswap.dev/retry changes"

_WAITING = {
    "ErrImagePull": ("ImagePullFailed", "the image cannot be pulled"),
    "ImagePullBackOff": ("ImagePullFailed", "the image cannot be pulled"),
    "ErrImageNeverPull": ("ImagePullFailed", "the image is not on the node, and its pull policy is Never"),
    "InvalidImageName": ("ImagePullFailed", "the image's name is invalid"),
    "CreateContainerConfigError": ("InvalidConfiguration", "the container cannot be configured"),
    "CreateContainerError": ("InvalidConfiguration", "the container cannot be created"),
    "RunContainerError": ("InvalidConfiguration", "the container cannot be run"),
}
_HINTS = {
    "ImagePullFailed": "Check the image's name in the ModelRuntime, and its imagePullSecrets",
    "Unschedulable": "Lower spec.resources.requests, or make room: more nodes, fewer versions loaded",
}


@dataclass(frozen=True, kw_only=True)
class Cause:
    """One thing that is wrong."""

    reason: str
    """CamelCase, such as `OutOfMemory`."""
    message: str
    pod: str = ""
    at: datetime | None = None
    """When it happened, of what happens at one time; None of what lasts."""


def causes(version: ServingVersion) -> Iterator[Cause]:
    """Everything that is wrong with a version's pods, the worst first."""
    if version.pods_refused:
        yield _refused(version.pods_refused)
    for pod in version.pods:
        if has_failed(pod):
            yield _failed_pod(pod)
        elif not pod.terminating and (cause := cause_of(pod, version.resource)):
            yield cause


def cause_of(pod: ServingPod, resource: ModelVersion) -> Cause | None:
    """Why a pod does not come up or is not well; None when there is nothing to say."""
    if pod.unschedulable:
        return _cause("Unschedulable", f"no node takes the pod: {pod.unschedulable}", pod)
    if pod.fetched and pod.fetched.reason:
        message = f"the artifact cannot be fetched: {pod.fetched.message}"
        return Cause(reason=pod.fetched.reason, message=message, pod=pod.name, at=pod.fetch.ended_at)
    containers = (("proxy", pod.proxy), ("agent", pod.agent), ("fetch", pod.fetch), ("model-server", pod.model_server))
    for name, state in containers:
        if cause := _container(name, state, pod, resource):
            return cause
    if pod.report and pod.report.message:
        return Cause(reason="ModelNotWell", message=pod.report.message, pod=pod.name)
    return None


def _cause(reason: str, message: str, pod: ServingPod) -> Cause:
    hint = _HINTS.get(reason)
    return Cause(reason=reason, message=f"{message}. {hint}" if hint else message, pod=pod.name)


def _refused(message: str) -> Cause:
    if "exceeded quota" in message:
        hint = "Lower spec.resources or spec.replicas, or raise the ResourceQuota"
        return Cause(reason="QuotaExceeded", message=f"the quota does not allow the pods: {message}. {hint}")
    return Cause(reason="PodsForbidden", message=f"Kubernetes refuses the pods: {message}")


def has_failed(pod: ServingPod) -> bool:
    """Whether it came to its end against everybody's will: one that is deleted may end badly, too."""
    return bool(pod.failed_reason) and (not pod.terminating or pod.failed_reason == EVICTED)


def _failed_pod(pod: ServingPod) -> Cause:
    if pod.failed_reason == EVICTED:
        message = f"the node ran short and put the pod out: {pod.failed_message}"
        return Cause(reason="NodePressure", message=message, pod=pod.name, at=pod.failed_at)
    message = f"the pod failed: {pod.failed_reason}: {pod.failed_message}"
    return Cause(reason="PodFailed", message=message, pod=pod.name, at=pod.failed_at)


def _container(name: str, state: ContainerState, pod: ServingPod, resource: ModelVersion) -> Cause | None:
    if waiting := _WAITING.get(state.waiting_reason):
        reason, words = waiting
        return _cause(reason, f"{name}: {words}: {state.waiting_message}", pod)
    if state.running:
        return None
    return ended(name, state, pod, resource)


def ended(name: str, state: ContainerState, pod: ServingPod, resource: ModelVersion) -> Cause | None:
    """What the newest end of a container tells, whether or not it runs again."""
    # A server is not to end by itself, not even well.
    if state.exit_code is None or (state.exit_code == 0 and name != "model-server"):
        return None
    reason, words = _end(name, state, resource)
    lines = state.exit_message.strip()[-SHOWN:]
    message = f"{words}: {lines}" if lines else words
    return Cause(reason=reason, message=message, pod=pod.name, at=state.ended_at)


def _end(name: str, state: ContainerState, resource: ModelVersion) -> tuple[str, str]:
    if state.exit_reason == "OOMKilled":
        limit = resource.spec.resources.limits.get("memory") if name == "model-server" else None
        of = f" of {limit}" if limit else ""
        raise_what = "Raise spec.resources.limits.memory" if name == "model-server" else "This is a fault of modelswap"
        return "OutOfMemory", f"{name} needed more memory than its limit{of} and was killed. {raise_what}"
    seconds = resource.spec.load.timeout_seconds
    if name == "model-server" and _startup_timed_out(state, seconds):
        hint = "Raise spec.load.timeoutSeconds if it needs longer; its last lines"
        return "LoadTimeout", f"the model did not answer within {seconds} s, and its server was stopped. {hint}"
    reasons = {"fetch": "FetchFailed", "agent": "AgentExited"}
    return reasons.get(name, "ModelServerExited"), f"{name} exited with code {state.exit_code} ({state.exit_reason})"


def _startup_timed_out(state: ContainerState, seconds: int) -> bool:
    """Kubernetes keeps no word of a failed startup probe with the container: how long it ran and how it ended tell."""
    if state.exit_code not in STOPPED or state.ended_at is None or state.ended_started_at is None:
        return False
    ran = state.ended_at - state.ended_started_at
    return timedelta(seconds=seconds - 2) <= ran <= timedelta(seconds=seconds) + KILL_MARGIN


def ends(version: ServingVersion) -> Iterable[Cause]:
    """What happened at one time, in any pod that is there: also what a running container went through before."""
    for pod in version.pods:
        yield from (cause for cause in _ends_of(pod, version.resource) if cause and cause.at)


def _ends_of(pod: ServingPod, resource: ModelVersion) -> Iterable[Cause | None]:
    if has_failed(pod):
        yield _failed_pod(pod)
    if pod.fetched and pod.fetched.reason:
        yield cause_of(pod, resource)
    else:
        yield ended("fetch", pod.fetch, pod, resource)
    if not pod.terminating:  # a container that ends because its pod does tells nothing of the model
        yield ended("proxy", pod.proxy, pod, resource)
        yield ended("agent", pod.agent, pod, resource)
        yield ended("model-server", pod.model_server, pod, resource)
