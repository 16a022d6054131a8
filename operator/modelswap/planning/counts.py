"""Counts of a version over all pods that it ever had, right over restarts of pods and of the operator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from modelswap.api.v1alpha1.model_version import ModelVersionStatus, ServingPodStatus

from .observed import ServingVersion


@dataclass(frozen=True)
class Counts:
    """What the status says after this look."""

    requests: int
    errors: int
    in_flight: int
    last_request_at: datetime | None
    pods: list[ServingPodStatus]


def count(version: ServingVersion, old: ModelVersionStatus) -> Counts:
    """Add what each pod has counted since the sums were written last.

    The status remembers both the sums and each pod's part in them, and they are written together: so an operator that
    dies before or after the write counts nothing twice.
    """
    parts = {part.name: part for part in old.serving_pods}
    requests, errors, in_flight = old.request_count, old.error_count, 0
    last = old.last_request_at
    pods = []
    for pod in sorted(version.pods, key=lambda p: p.name):
        before = parts.get(pod.name, ServingPodStatus(name=pod.name))
        if pod.report is None:
            pods.append(before)
            continue
        requests += _since(before.request_count, pod.report.request_count)
        errors += _since(before.error_count, pod.report.error_count)
        in_flight += pod.report.in_flight + pod.report.direct_in_flight + pod.report.held
        last = max(filter(None, (last, pod.report.last_request_at)), default=None)
        pods.append(_part(pod.name, pod.report.request_count, pod.report.error_count))
    return Counts(requests, errors, in_flight, last, pods)


def _part(name: str, requests: int, errors: int) -> ServingPodStatus:
    return ServingPodStatus(name=name, request_count=requests, error_count=errors)


def _since(before: int, now: int) -> int:
    """An agent that has lost its count began again at zero."""
    return now - before if now >= before else now


SOURCES = ("Runtime", "Metrics", "Limit")


def memory(version: ServingVersion) -> tuple[int | None, str | None]:
    """Bytes of all model servers and where the figure is from: the best source that every running pod has."""
    pods = [pod for pod in version.live_pods if pod.model_server.running]
    if not pods:
        return None, None
    figures: Mapping[str, list[int | None]] = {
        "Runtime": [pod.report.memory_bytes if pod.report else None for pod in pods],
        "Metrics": [pod.measured_memory_bytes for pod in pods],
        "Limit": [pod.memory_limit_bytes for pod in pods],
    }
    for source in SOURCES:
        found = [figure for figure in figures[source] if figure is not None]
        if len(found) == len(pods):
            return sum(found), source
    return None, None


def gpu_memory(version: ServingVersion) -> int | None:
    """Bytes on GPUs of all model servers; None when none tells."""
    figures = [pod.report.gpu_memory_bytes for pod in version.live_pods if pod.report]
    found = [figure for figure in figures if figure is not None]
    return sum(found) if found else None
