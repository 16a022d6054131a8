"""The plan of a ModelVersion: load it while it is needed, watch it, unload it without a trace.

A route and a version are looked at side by side, so that a version might be unloaded at the very moment at which a
route begins to lead there. The finalizer stands between: a version that has it is never removed, a route leads to none
that lacks it, and only the version's own looks, one after the other, put it on and take it off. A removal that has
begun is carried through, as what was deleted may not be heard of yet.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from modelswap.api.v1alpha1.model_version import LoadState
from modelswap.manifests import labels, names
from modelswap.manifests.agent_files import agent_config, certificate_secret
from modelswap.manifests.child import fingerprint_of
from modelswap.manifests.deployment import deployment
from modelswap.manifests.pod import ServingDefaults
from modelswap.manifests.service import version_service

from .assessment import Assessment, assess
from .causes import RETRY_HINT, ends
from .needs import is_kept, load_failed, needed, removal_has_begun, routed_by
from .observed import ObservedVersion, ServingVersion
from .plan import Action, Apply, Delete, IssueCertificate, Plan, SetFinalizer
from .version_status import Outlook, finish

UNLOAD_GRACE = timedelta(seconds=35)
"""How long after a swap an idle client connection may keep its former version loaded: longer than the agents' own
keep-alive timeout."""

LEAVING_PERIOD = 2.0
"""Seconds between looks at a version that waits until nothing reaches it."""


def plan_version(observed: ObservedVersion, defaults: ServingDefaults, now: datetime) -> Plan:
    """Decide what to do about one ModelVersion."""
    version = observed.version
    resource = version.resource
    routed = routed_by(resource, observed.routes)
    if resource.metadata.deletion_timestamp and not routed:
        return Plan(actions=tuple(_finalizer(version, wanted=False)))  # the garbage collector takes the children
    needing = _routes_in_need(observed)
    wanted = _load_wanted(observed, needing, routed)
    assessment = assess(version)
    failure = _failure(version, assessment) if wanted else ""
    stay = wanted and not failure and not load_failed(resource)
    removing = _is_removed(observed, now, stay=stay)
    actions = _remove(version) if removing else _load(version, defaults, now) if stay else ()
    outlook = Outlook(wanted=wanted, failure=failure, removing=removing, routes_in_need=needing, routed_by=routed)
    leaving = removing or (not stay and _is_there(version))
    return finish(
        observed,
        assessment,
        outlook,
        (*_finalizer(version, wanted=bool(routed)), *actions),
        now,
        requeue_after=LEAVING_PERIOD if leaving else None,
    )


def _finalizer(version: ServingVersion, *, wanted: bool) -> Iterable[Action]:
    """A version that a route leads to is not to vanish under it; at all other times nothing delays its deletion."""
    meta = version.resource.metadata
    present = is_kept(version.resource)
    # The API server takes no new finalizer on an object that is being deleted.
    if wanted and not present and not meta.deletion_timestamp:
        yield SetFinalizer(labels.ROUTED_FINALIZER, present=True, reason="Routed")
    if present and not wanted:
        yield SetFinalizer(labels.ROUTED_FINALIZER, present=False, reason="NotRouted")


def _routes_in_need(observed: ObservedVersion) -> list[str]:
    version = observed.version.version
    return sorted(r.metadata.name for r in observed.routes if version in needed(r, observed.siblings))


def _load_wanted(observed: ObservedVersion, needing: list[str], routed: list[str]) -> bool:
    match observed.version.resource.spec.load.state:
        case LoadState.LOADED:
            return True
        case LoadState.AUTO:
            return bool(needing or routed)
        case LoadState.UNLOADED:
            return bool(routed)


def _failure(version: ServingVersion, assessment: Assessment) -> str:
    """Why loading is given up. A version that has been loaded is never given up: it is restarted until it is well."""
    resource = version.resource
    if resource.status.loaded_at is not None:
        return ""
    if assessment.hopeless:
        return f"{assessment.hopeless}. {RETRY_HINT}"
    limit = resource.spec.load.max_attempts
    if assessment.attempts > limit or (assessment.attempts == limit and _attempt_is_over(version)):
        return f"gave up after {limit} attempts: {_last_end(version) or assessment.message}. {RETRY_HINT}"
    return ""


def _last_end(version: ServingVersion) -> str:
    """How the newest attempt that is over has ended: a slow one may be followed at once by another."""
    newest = max(ends(version), key=lambda cause: cause.at or datetime.min.replace(tzinfo=UTC), default=None)
    return newest.message if newest else ""


def _attempt_is_over(version: ServingVersion) -> bool:
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


def _is_there(version: ServingVersion) -> bool:
    return bool(version.children) or any(not pod.orphaned for pod in version.live_pods)


def _is_removed(observed: ObservedVersion, now: datetime, *, stay: bool) -> bool:
    """Whether to remove what there is of the version now, or to go on with it."""
    version = observed.version
    if not _is_there(version):
        return False
    if removal_has_begun(version.resource):
        return True
    return not stay and not is_kept(version.resource) and _let_go(observed, now)


def _remove(version: ServingVersion) -> tuple[Action, ...]:
    namespace = version.resource.metadata.namespace
    return tuple(
        Delete(kind=child.kind, namespace=namespace, name=child.name, uid=child.uid, reason="Unload")
        for child in version.children.values()
        if not child.deleting
    )


def _let_go(observed: ObservedVersion, now: datetime) -> bool:
    """Whether nothing reaches the version any more: no request, and no client connection that may bring one."""
    ended = [r.status.swap.end_time for r in observed.routes if r.status.swap.end_time]
    if not ended or now >= max(ended) + UNLOAD_GRACE:
        return True
    reports = [pod.report for pod in observed.version.pods if pod.report]
    return not any(r.route_connections or r.in_flight or r.direct_in_flight for r in reports)
