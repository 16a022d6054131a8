"""Which versions a route may be led to."""

from __future__ import annotations

from modelswap.api.v1alpha1.model_version import LoadState

from .assessment import assess
from .needs import former_versions, is_kept, load_failed
from .observed import ObservedRoute, Refusal, ServingVersion
from .rejection import in_force

TARGET_DELETED = "TargetDeleted"


def unfit(version: ServingVersion) -> Refusal | None:
    """Why a version cannot come to serve as long as it is as it is; None when it can."""
    spec, meta = version.resource.spec, version.resource.metadata
    if meta.deletion_timestamp and not is_kept(version.resource):
        return Refusal(TARGET_DELETED, f"{version.name} is being deleted")
    if load_failed(version.resource):
        return Refusal("TargetLoadFailed", f"{version.name} failed to load: {version.resource.status.last_error}")
    if spec.load.state is LoadState.UNLOADED:
        return Refusal("TargetUnloaded", f"{version.name} is kept unloaded: set its spec.load.state to Auto or Loaded")
    if spec.replicas == 0:
        return Refusal("TargetScaledToZero", f"{version.name} has no serving pods: set its spec.replicas to 1 or more")
    return None


def has_well_pod(observed: ObservedRoute, version: str) -> bool:
    """Whether at least one pod of a version answers well."""
    return version in observed.versions and bool(assess(observed.versions[version]).ready)


def refuge_of(observed: ObservedRoute) -> str:
    """The former version to roll back to, one that serves at once if there is one; empty when there is none."""
    route = observed.route
    rejected = in_force(route, observed.resource_of)
    fit = [
        version
        for version in former_versions(route)
        if version in observed.versions
        and version not in rejected
        and not observed.versions[version].resource.metadata.deletion_timestamp
        and not unfit(observed.versions[version])
    ]
    at_once = [version for version in fit if assess(observed.versions[version]).serving]
    return next(iter([*at_once, *fit]), "")
