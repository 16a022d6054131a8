"""The plan of a ModelVersion: load it while it is needed, watch it, unload it without a trace."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from modelswap.api.v1alpha1.base import Condition
from modelswap.api.v1alpha1.model_version import LoadState, ModelVersion, ModelVersionStatus
from modelswap.manifests import labels, names
from modelswap.manifests.agent_files import agent_config, certificate_secret
from modelswap.manifests.child import fingerprint_of
from modelswap.manifests.deployment import ServingDefaults, deployment
from modelswap.manifests.service import version_service

from .assessment import Assessment, Stage, assess, pod_trouble
from .conditions import Verdict, find, progress, settle
from .needs import ACTIVE, LOAD_FAILED, load_failed, needed
from .observed import ObservedVersion, ServingVersion
from .plan import Action, Apply, Delete, Event, IssueCertificate, Plan

COUNTER_PERIOD = timedelta(seconds=30)
"""Counters alone are written to the status this often at the most."""

UNLOAD_GRACE = timedelta(seconds=35)
"""How long after a swap an idle client connection may keep its former version loaded: longer than the agents' own
keep-alive timeout."""

LEAVING_PERIOD = 2.0
"""Seconds between looks at a version that waits until nothing reaches it."""

_COUNTERS = {"requestCount", "errorCount", "lastRequestAt", "memoryBytes", "lastHealthCheck"}


def plan_version(observed: ObservedVersion, defaults: ServingDefaults, now: datetime) -> Plan:
    """Decide what to do about one ModelVersion."""
    version = observed.version
    resource = version.resource
    if resource.metadata.deletion_timestamp:
        return Plan()  # the garbage collector takes the children
    routes = _routes_in_need(observed)
    wanted = _load_wanted(observed, routes)
    assessment = assess(version)
    failure = _failure(version, assessment) if wanted else ""
    stay = wanted and not failure and not load_failed(resource)
    actions = _load(version, defaults, now) if stay else _unload(observed, now)
    status = _status(observed, assessment, routes, wanted=wanted, failure=failure, now=now)
    return _finish(resource, status, actions, now, leaving=not stay and bool(version.children))


def _routes_in_need(observed: ObservedVersion) -> list[str]:
    version = observed.version.version
    return sorted(r.metadata.name for r in observed.routes if version in needed(r, observed.siblings))


def _load_wanted(observed: ObservedVersion, routes: list[str]) -> bool:
    match observed.version.resource.spec.load.state:
        case LoadState.LOADED:
            return True
        case LoadState.AUTO:
            return bool(routes)
        case LoadState.UNLOADED:
            return _is_routed(observed)


def _is_routed(observed: ObservedVersion) -> bool:
    """Whether a route leads here now, or is about to: such a version is never unloaded."""
    version = observed.version.version
    return any(
        version == r.status.current_version
        or (r.status.swap.state in ACTIVE and version in (r.status.swap.from_version, r.status.swap.to_version))
        for r in observed.routes
    )


def _failure(version: ServingVersion, assessment: Assessment) -> str:
    """Why loading is given up. A version that has been loaded is never given up: it is restarted until it is well."""
    resource = version.resource
    if resource.status.loaded_at is not None:
        return ""
    if assessment.hopeless:
        return f"{assessment.hopeless}. Nothing is tried again until the spec changes"
    limit = resource.spec.load.max_attempts
    if assessment.attempts > limit or (assessment.attempts == limit and _backing_off(version)):
        return f"gave up after {limit} attempts: {assessment.message}. Nothing is tried again until the spec changes"
    return ""


def _backing_off(version: ServingVersion) -> bool:
    return any(
        state.waiting_reason == "CrashLoopBackOff"
        for pod in version.live_pods
        for state in (pod.fetch, pod.model_server)
    )


def _load(version: ServingVersion, defaults: ServingDefaults, now: datetime) -> tuple[Action, ...]:
    resource, runtime = version.resource, version.runtime
    if runtime is None:
        return ()  # what serves goes on serving; the condition says what is missing
    return (
        *_certificate(version, now),
        *_applies(version, (agent_config(resource, runtime),), "AgentConfigChanged"),
        *_applies(version, (deployment(resource, runtime, defaults), version_service(resource)), "Load"),
    )


def _certificate(version: ServingVersion, now: datetime) -> Iterable[Action]:
    resource = version.resource
    meta = resource.metadata
    renewal = version.certificate_renewal
    if renewal is None or now >= renewal:
        yield IssueCertificate(
            manifest=certificate_secret(resource),
            server_name=names.agent_server_name(meta.namespace, meta.name),
            reason="CertificateMissing" if renewal is None else "CertificateDue",
            exists=("Secret", names.agent_certificate(meta.name)) in version.children,
        )


def _applies(version: ServingVersion, manifests: Iterable[dict[str, Any]], reason: str) -> Iterable[Apply]:
    for manifest in manifests:
        child = version.children.get((manifest["kind"], manifest["metadata"]["name"]))
        if child is None or child.fingerprint != fingerprint_of(manifest):
            yield Apply(manifest=manifest, reason=reason, exists=child is not None)


def _unload(observed: ObservedVersion, now: datetime) -> tuple[Action, ...]:
    if not _let_go(observed, now):
        return ()
    namespace = observed.version.resource.metadata.namespace
    return tuple(
        Delete(kind=child.kind, namespace=namespace, name=child.name, uid=child.uid, reason="Unload")
        for child in observed.version.children.values()
        if not child.deleting
    )


def _let_go(observed: ObservedVersion, now: datetime) -> bool:
    """Whether nothing reaches the version any more: no request, and no client connection that may bring one."""
    ended = [r.status.swap.end_time for r in observed.routes if r.status.swap.end_time]
    if not ended or now >= max(ended) + UNLOAD_GRACE:
        return True
    reports = [pod.report for pod in observed.version.pods if pod.report]
    return not any(r.route_connections or r.in_flight or r.direct_in_flight for r in reports)


def _status(
    observed: ObservedVersion,
    assessment: Assessment,
    routes: list[str],
    *,
    wanted: bool,
    failure: str,
    now: datetime,
) -> ModelVersionStatus:
    version = observed.version
    resource, old = version.resource, version.resource.status
    loaded = wanted and bool(assessment.ready) and len(assessment.ready) >= assessment.wanted
    newly = loaded and not old.loaded
    seconds = max((p.report.load_seconds or 0 for p in assessment.ready if p.report), default=None) if newly else None
    loads = old.load_count + newly
    last_error = failure or (assessment.message if wanted and assessment.stage is not Stage.HEALTHY else "")
    problem = failure or ((old.last_error or "") if load_failed(resource) else "")
    return ModelVersionStatus(
        observed_generation=resource.metadata.generation,
        conditions=settle(
            old.conditions,
            _verdicts(observed, assessment, wanted=wanted, problem=problem),
            generation=resource.metadata.generation,
            now=now,
        ),
        replicas=assessment.pods,
        ready_replicas=len(assessment.ready),
        selector=f"{labels.MODEL_VERSION}={resource.metadata.name}",
        loaded=loaded,
        loaded_at=(now if newly else old.loaded_at) if wanted and not problem else None,
        load_count=loads,
        load_attempts=assessment.attempts if assessment.pods else old.load_attempts,
        last_load_seconds=seconds if newly else old.last_load_seconds,
        average_load_seconds=_average(old, seconds, loads) if newly else old.average_load_seconds,
        routed_by=routes,
        last_error=(last_error if _is_trouble(version) or failure else "") or old.last_error,
        **_counters(version, old),
    )


def _is_trouble(version: ServingVersion) -> bool:
    return any(pod_trouble(pod) for pod in version.live_pods)


def _average(old: ModelVersionStatus, seconds: float | None, loads: int) -> float | None:
    if seconds is None:
        return old.average_load_seconds
    return round(((old.average_load_seconds or 0) * old.load_count + seconds) / loads, 3)


def _counters(version: ServingVersion, old: ModelVersionStatus) -> dict[str, Any]:
    reports = [pod.report for pod in version.pods if pod.report]
    fetched = next((p.fetched for p in version.live_pods if p.fetched and p.fetched.digest), None)
    memory = [r.memory_bytes for r in reports if r.memory_bytes is not None]
    return {
        # Of the pods that are there; a pod that has gone takes none of the count with it.
        "request_count": max(old.request_count, sum(r.request_count for r in reports)),
        "error_count": max(old.error_count, sum(r.error_count for r in reports)),
        "last_request_at": max((r.last_request_at for r in reports if r.last_request_at), default=old.last_request_at),
        "last_health_check": max(
            (r.last_health_check for r in reports if r.last_health_check), default=old.last_health_check
        ),
        "memory_bytes": sum(memory) if memory else None,
        "artifact_digest": fetched.digest if fetched else old.artifact_digest,
        "artifact_bytes": fetched.bytes if fetched else old.artifact_bytes,
    }


def _verdicts(observed: ObservedVersion, assessment: Assessment, *, wanted: bool, problem: str) -> list[Verdict]:
    version = observed.version
    healthy = assessment.stage is Stage.HEALTHY
    warmed = assessment.stage >= Stage.UNHEALTHY
    stage = assessment.stage.reason
    if observed.name_taken:
        return _not_ready("NameTaken", observed.name_taken, stalled=True)
    if problem:
        return _not_ready(LOAD_FAILED, problem, stalled=True)
    if not wanted:
        if version.children:
            return _not_ready("Unloading", "waiting until nothing reaches the version, then its pods go", working=True)
        was = version.resource.status.load_count or version.resource.status.load_attempts
        return _not_ready("Unloaded" if was else "Registered", "no route needs the version: it is loaded when one does")
    if version.runtime is None:
        name = version.resource.spec.runtime.name
        return _not_ready(
            "RuntimeNotFound",
            f"there is no ModelRuntime {name}: create it, or register the version with another spec.runtime.name",
            stalled=True,
        )
    working = None if healthy else Verdict("Reconciling", True, stage, assessment.message)
    return [
        Verdict("Ready", healthy, stage, assessment.message),
        Verdict("Loaded", healthy or warmed or assessment.stage is Stage.WARMING_UP, stage),
        Verdict("WarmedUp", warmed, stage),
        Verdict("Healthy", healthy, stage, assessment.message),
        *progress(stalled=None, reconciling=working),
    ]


def _not_ready(reason: str, message: str, *, stalled: bool = False, working: bool = False) -> list[Verdict]:
    return [
        Verdict("Ready", False, reason, message),
        Verdict("Loaded", False, reason),
        Verdict("WarmedUp", False, reason),
        Verdict("Healthy", False, reason),
        *progress(
            stalled=Verdict("Stalled", True, reason, message) if stalled else None,
            reconciling=Verdict("Reconciling", True, reason, message) if working else None,
        ),
    ]


def _finish(
    resource: ModelVersion, status: ModelVersionStatus, actions: tuple[Action, ...], now: datetime, *, leaving: bool
) -> Plan:
    old, new = dump(resource.status), dump(status)
    changed = {key for key in old.keys() | new.keys() if old.get(key) != new.get(key)}
    last = resource.status.last_request_at
    only_counters = changed and changed <= _COUNTERS
    wait = last + COUNTER_PERIOD - now if only_counters and last else timedelta()
    write = bool(changed) and wait <= timedelta()
    requeue = wait.total_seconds() if changed and not write else None
    if leaving:
        requeue = LEAVING_PERIOD
    return Plan(
        status=new if write else None,
        actions=actions,
        events=tuple(_events(resource, status.conditions)) if write else (),
        requeue_after=requeue,
    )


def dump(status: ModelVersionStatus) -> dict[str, Any]:
    """A status as it is written; what is not set is left out."""
    return status.model_dump(by_alias=True, exclude_none=True, mode="json")


def _events(resource: ModelVersion, conditions: list[Condition]) -> Iterable[Event]:
    old, new = find(resource.status.conditions, "Ready"), find(conditions, "Ready")
    if new and (old is None or old.reason != new.reason):
        bad = new.reason in {LOAD_FAILED, "Unhealthy", "RuntimeNotFound", "NameTaken"}
        yield Event(reason=new.reason, message=new.message or new.reason, warning=bad)
    elif new and old and new.message != old.message and new.status == "False" and "attempt" in new.message:
        yield Event(reason=new.reason, message=new.message, warning=True)
