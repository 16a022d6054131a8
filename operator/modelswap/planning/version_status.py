"""The status of a ModelVersion, and whether it is worth a write."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from modelswap.api.v1alpha1.base import Condition
from modelswap.api.v1alpha1.model_version import FetchStatus, ModelVersion, ModelVersionStatus
from modelswap.manifests import labels

from .assessment import Assessment, Stage
from .conditions import Verdict, find, progress, settle
from .counts import count, gpu_memory, memory
from .failures import failures
from .needs import LOAD_FAILED, REMOVING, load_failed, removal_has_begun
from .observed import ObservedVersion, Refusal, ServingVersion
from .plan import Action, Event, Plan

COUNT_PERIOD = timedelta(seconds=30)
"""Counts alone are written this often at the most."""
FETCH_PERIOD = timedelta(seconds=5)
"""And how far the artifact is."""
MEMORY_STEP = 0.05
"""A change of memory that is smaller than this share of it is not told."""

_COUNTS = {"requestCount", "errorCount", "inFlight", "lastRequestAt", "servingPods", "countedAt"}
_WITH_OTHERS = {"lastHealthCheck"}
"""Worth no write of their own."""

_BAD = {LOAD_FAILED, "Unhealthy", "RuntimeNotFound", "NameTaken", "ChildRefused"}


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """What the planner has decided about a version."""

    wanted: bool
    """Whether it is to be loaded."""
    failure: str
    """Why its load is given up now; empty when it is not."""
    removing: bool
    """Whether what there is of it goes now, whatever is wanted: it would be loaded afresh."""
    routes_in_need: list[str]
    routed_by: list[str]
    """Routes that lead to it, or are about to: it may not go."""


def finish(
    observed: ObservedVersion,
    assessment: Assessment,
    outlook: Outlook,
    actions: tuple[Action, ...],
    now: datetime,
    *,
    requeue_after: float | None,
) -> Plan:
    """The whole plan: the actions, and the status if it says something new."""
    resource = observed.version.resource
    status = _status(observed, assessment, outlook, now)
    # What a pod has counted goes with it.
    going = any(pod.terminating for pod in observed.version.pods)
    wait = _write_in(resource.status, status, now, counts_at_once=going)
    write = wait is not None and wait <= 0
    if requeue_after is None and wait is not None and wait > 0:
        requeue_after = wait
    return Plan(
        status=dump(status) if write else None,
        actions=actions,
        events=tuple(_events(resource, status)) if write else (),
        requeue_after=requeue_after,
    )


def dump(status: ModelVersionStatus) -> dict[str, Any]:
    """A status as it is written; what is not set is left out."""
    return status.model_dump(by_alias=True, exclude_none=True, mode="json")


def _write_in(
    before: ModelVersionStatus, after: ModelVersionStatus, now: datetime, *, counts_at_once: bool
) -> float | None:
    """Seconds until the status is to be written; None when it says nothing new."""
    old, new = dump(before), dump(after)
    changed = {key for key in old.keys() | new.keys() if old.get(key) != new.get(key)} - {"countedAt"} - _WITH_OTHERS
    if not changed:
        return None
    period = COUNT_PERIOD if changed <= _COUNTS else FETCH_PERIOD if changed <= _COUNTS | {"fetch"} else timedelta()
    if not period or counts_at_once or before.counted_at is None:
        return 0.0
    return (before.counted_at + period - now).total_seconds()


def _status(observed: ObservedVersion, assessment: Assessment, outlook: Outlook, now: datetime) -> ModelVersionStatus:
    version = observed.version
    resource, old = version.resource, version.resource.status
    wanted, failure = outlook.wanted and not outlook.removing, outlook.failure
    loaded = wanted and _is_loaded(version)
    newly = loaded and not old.loaded
    reports = [pod.report for pod in version.live_pods if pod.report]
    seconds = max((r.load_seconds or 0 for r in reports if r.loaded), default=None) if newly else None
    problem = failure or ((old.last_error or "") if load_failed(resource) else "")
    # What its pods go through on their way out is no failure of the load.
    loading = outlook.wanted and not (load_failed(resource) or removal_has_begun(resource))
    failure_count, kept = failures(version, old, now) if loading else (old.failure_count, old.failures)
    trouble = assessment.trouble.message if assessment.trouble and wanted else ""
    return ModelVersionStatus(
        observed_generation=resource.metadata.generation,
        conditions=settle(
            old.conditions,
            _verdicts(observed, assessment, outlook, problem),
            generation=resource.metadata.generation,
            now=now,
        ),
        replicas=assessment.pods,
        ready_replicas=len(assessment.ready),
        selector=f"{labels.MODEL_VERSION}={resource.metadata.name}",
        loaded=loaded,
        loaded_at=(now if newly else old.loaded_at) if wanted and not problem else None,
        load_count=old.load_count + newly,
        load_attempts=assessment.attempts or old.load_attempts,
        last_load_seconds=seconds if newly else old.last_load_seconds,
        average_load_seconds=_average(old, seconds) if newly else old.average_load_seconds,
        failure_count=failure_count,
        failures=kept,
        routed_by=outlook.routes_in_need,
        last_error=problem or trouble or old.last_error,
        retry=resource.metadata.annotations.get(labels.RETRY, "")[:256],
        **_measured(version, old, assessment, now),
    )


def _is_loaded(version: ServingVersion) -> bool:
    """Whether the model answers in every pod that was asked for."""
    before = version.resource.status.loaded
    loaded = [
        pod
        for pod in version.live_pods
        # Until the agent is heard of, what was so is so, unless Kubernetes says otherwise.
        if (pod.report.loaded if pod.report else pod.model_server.running and (pod.ready or before))
    ]
    return len(loaded) >= version.resource.spec.replicas > 0


def _average(old: ModelVersionStatus, seconds: float | None) -> float | None:
    if seconds is None:
        return old.average_load_seconds
    return round(((old.average_load_seconds or 0) * old.load_count + seconds) / (old.load_count + 1), 3)


def _measured(
    version: ServingVersion, old: ModelVersionStatus, assessment: Assessment, now: datetime
) -> dict[str, Any]:
    counts = count(version, old)
    reports = [pod.report for pod in version.pods if pod.report]
    fetched = next((p.fetched for p in version.live_pods if p.fetched and p.fetched.digest), None)
    memory_bytes, source = memory(version) if _is_heard(version) else (old.memory_bytes, old.memory_source)
    moved = source != old.memory_source or _differs(memory_bytes, old.memory_bytes)
    gpu = gpu_memory(version)
    return {
        "request_count": counts.requests,
        "error_count": counts.errors,
        "in_flight": counts.in_flight,
        "last_request_at": counts.last_request_at,
        "serving_pods": counts.pods,
        "counted_at": now.replace(microsecond=0) if reports else old.counted_at,
        "last_health_check": max(
            (r.last_health_check for r in reports if r.last_health_check), default=old.last_health_check
        ),
        "memory_bytes": memory_bytes if moved else old.memory_bytes,
        "memory_source": source,
        "gpu_memory_bytes": gpu if _differs(gpu, old.gpu_memory_bytes) else old.gpu_memory_bytes,
        "fetch": _fetch(version) if assessment.stage is Stage.FETCHING else None,
        "artifact_digest": fetched.digest if fetched else old.artifact_digest,
        "artifact_bytes": fetched.bytes if fetched else old.artifact_bytes,
    }


def _is_heard(version: ServingVersion) -> bool:
    """Whether every running pod's agent has told what it knows: an operator that starts has heard of none yet."""
    return all(pod.report for pod in version.live_pods if pod.model_server.running)


def _differs(new: int | None, old: int | None) -> bool:
    if new is None or old is None:
        return new != old
    return abs(new - old) > MEMORY_STEP * old


def _fetch(version: ServingVersion) -> FetchStatus | None:
    running = [pod.report.fetch for pod in version.live_pods if pod.report and pod.report.fetch]
    behind = min(running, key=lambda fetch: fetch.bytes, default=None)
    return FetchStatus(bytes=behind.bytes, total_bytes=behind.total_bytes) if behind else None


def _verdicts(observed: ObservedVersion, assessment: Assessment, outlook: Outlook, problem: str) -> list[Verdict]:
    version = observed.version
    refusal = observed.refusal if outlook.wanted else None
    if refusal and not assessment.ready:
        return _not_ready(refusal.reason, refusal.message, stalled=True)
    if problem:
        return _not_ready(LOAD_FAILED, problem, stalled=True, removing=outlook.removing)
    if outlook.removing:
        again = "; it is loaded afresh then" if outlook.wanted else ""
        return _not_ready("Unloading", f"waiting until its pods are gone{again}", removing=True)
    if not outlook.wanted:
        return _not_wanted(version)
    if version.runtime is None:
        name = version.resource.spec.runtime.name
        return _not_ready(
            "RuntimeNotFound",
            f"there is no ModelRuntime {name}: create it, or register the version with another spec.runtime.name",
            stalled=True,
        )
    if not (assessment.wanted or assessment.pods or refusal or version.resource.metadata.deletion_timestamp):
        return _at_rest("ScaledToZero", assessment.message)
    return _of_loaded(version, assessment, outlook, refusal)


def _of_loaded(
    version: ServingVersion, assessment: Assessment, outlook: Outlook, refusal: Refusal | None
) -> list[Verdict]:
    healthy = assessment.stage is Stage.HEALTHY
    warmed = assessment.stage >= Stage.UNHEALTHY
    reason, cause = _reason(version, assessment), assessment.trouble.reason if assessment.trouble else ""
    working = None if healthy else Verdict("Reconciling", True, reason, assessment.message)
    if version.resource.metadata.deletion_timestamp:
        routes = ", ".join(outlook.routed_by)
        message = (
            f"deleted once no route leads here: ModelRoute {routes} does. Lead it to another version, or delete it"
        )
        working = Verdict("Reconciling", True, "DeletionDeferred", message)
    return [
        Verdict("Ready", healthy, reason, assessment.message),
        Verdict("Loaded", assessment.stage >= Stage.WARMING_UP, cause or reason),
        Verdict("WarmedUp", warmed, cause or reason),
        Verdict("Healthy", healthy, cause or reason, assessment.message),
        *progress(
            stalled=Verdict("Stalled", True, refusal.reason, refusal.message) if refusal else None, reconciling=working
        ),
    ]


def _reason(version: ServingVersion, assessment: Assessment) -> str:
    """Where it stands: one that has been loaded and has trouble now is unhealthy, however far its pods are."""
    if version.resource.status.loaded_at and assessment.trouble:
        return Stage.UNHEALTHY.reason
    return assessment.stage.reason


def _not_wanted(version: ServingVersion) -> list[Verdict]:
    if version.children or version.pods:
        return _not_ready("Unloading", "waiting until nothing reaches the version, then its pods go", working=True)
    was = version.resource.status.load_count or version.resource.status.load_attempts
    return _at_rest("Unloaded" if was else "Registered", "no route needs the version: it is loaded when one does")


def _at_rest(reason: str, message: str) -> list[Verdict]:
    """Not loaded, and as it should be: who waits for all objects of a repository (kstatus) has nothing to wait for."""
    return [
        Verdict("Ready", True, reason, message),
        Verdict("Loaded", False, reason),
        Verdict("WarmedUp", False, reason),
        Verdict("Healthy", False, reason),
        *progress(stalled=None, reconciling=None),
    ]


def _not_ready(
    reason: str, message: str, *, stalled: bool = False, working: bool = False, removing: bool = False
) -> list[Verdict]:
    work = REMOVING if removing else reason
    return [
        Verdict("Ready", False, reason, message),
        Verdict("Loaded", False, reason),
        Verdict("WarmedUp", False, reason),
        Verdict("Healthy", False, reason),
        *progress(
            stalled=Verdict("Stalled", True, reason, message) if stalled else None,
            reconciling=Verdict("Reconciling", True, work, message) if working or removing else None,
        ),
    ]


def _events(resource: ModelVersion, status: ModelVersionStatus) -> Iterable[Event]:
    old, new = find(resource.status.conditions, "Ready"), find(status.conditions, "Ready")
    if new and (old is None or old.reason != new.reason):
        yield Event(reason=new.reason, message=new.message or new.reason, warning=new.reason in _BAD)
    if new is None or new.reason != LOAD_FAILED:
        for failure in status.failures[: status.failure_count - resource.status.failure_count]:
            yield Event(reason=failure.reason, message=failure.message, warning=True)
    yield from _deferred(resource.status.conditions, status.conditions)


def _deferred(old: list[Condition], new: list[Condition]) -> Iterable[Event]:
    before, after = find(old, "Reconciling"), find(new, "Reconciling")
    if after and after.reason == "DeletionDeferred" and (before is None or before.reason != after.reason):
        yield Event(reason=after.reason, message=after.message, warning=True)
