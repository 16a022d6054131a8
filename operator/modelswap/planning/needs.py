"""Which versions a route asks for, and which it needs loaded."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from modelswap.api.v1alpha1.model_route import ModelRoute, RejectedVersion, SwapState
from modelswap.api.v1alpha1.model_version import ModelVersion
from modelswap.manifests.labels import RETRY, ROUTED_FINALIZER

from .conditions import find
from .registry import Versions
from .rejection import in_force
from .semver_order import VersionRange

ACTIVE = frozenset({SwapState.PREPARING, SwapState.DRAINING, SwapState.SWAPPING, SwapState.VERIFYING})
"""States of a swap that has not ended."""

LOAD_FAILED = "LoadFailed"
REJECTED = "Rejected"
REMOVING = "Removing"


def load_failed(version: ModelVersion) -> bool:
    """Whether all attempts at the present spec have failed."""
    stalled = find(version.status.conditions, "Stalled")
    return bool(
        stalled
        and stalled.status == "True"
        and stalled.reason == LOAD_FAILED
        and stalled.observed_generation == version.metadata.generation
        and version.status.retry == version.metadata.annotations.get(RETRY, "")[:256]
    )


def is_kept(version: ModelVersion) -> bool:
    """Whether the version cannot vanish: only its own plan says so, and only for a route that leads there."""
    return ROUTED_FINALIZER in version.metadata.finalizers


def removal_has_begun(version: ModelVersion) -> bool:
    """Whether the version's pods go for certain: what has been deleted may not be heard of yet."""
    reconciling = find(version.status.conditions, "Reconciling")
    return reconciling is not None and reconciling.status == "True" and reconciling.reason == REMOVING


@dataclass(frozen=True)
class Target:
    """What a route's `spec.version` comes to."""

    version: str = ""
    """Empty when nothing admits."""
    reason: str = ""
    message: str = ""


def resolve(route: ModelRoute, versions: Versions) -> Target:
    """The version that a route asks for: the exact one, or the highest within the range that has not failed to load.

    A version that the route was led away from for its faults is not taken up again.
    """
    wanted = VersionRange.parse(route.spec.version)
    rejected = in_force(route, versions.get)
    if (exact := wanted.exact) is not None:
        return _exact(route, versions, exact, rejected.get(exact))
    admitted = [version for version in versions.within(wanted) if not version.metadata.deletion_timestamp]
    for version in admitted:
        if not load_failed(version) and version.spec.version not in rejected:
            return Target(version.spec.version)
    return _none_within(route, versions, admitted, rejected)


def _exact(route: ModelRoute, versions: Versions, exact: str, rejected: RejectedVersion | None) -> Target:
    found = versions.get(exact)
    if found is None or found.metadata.deletion_timestamp:
        return Target(
            reason="VersionNotFound",
            message=f"there is no ModelVersion {route.spec.model}-{exact} in this namespace: "
            f"create it, or set spec.version to one of {_listing(_staying(versions))}",
        )
    if rejected is not None:
        return Target(reason=REJECTED, message=_why_rejected(route, rejected))
    return Target(exact)


def _none_within(
    route: ModelRoute, versions: Versions, admitted: list[ModelVersion], rejected: dict[str, RejectedVersion]
) -> Target:
    spec = route.spec
    if not admitted:
        return Target(
            reason="VersionNotFound",
            message=f"no version of {spec.model} is within {spec.version}: there are {_listing(_staying(versions))}",
        )
    turned = [rejected[version.spec.version] for version in admitted if version.spec.version in rejected]
    if turned:
        return Target(reason=REJECTED, message=_why_rejected(route, turned[0]))
    return Target(
        reason="NoLoadableVersion",
        message=f"every version of {spec.model} within {spec.version} has failed to load: {_listing(admitted)}",
    )


def _why_rejected(route: ModelRoute, rejected: RejectedVersion) -> str:
    name = f"{route.spec.model}-{rejected.version}"
    serving = route.status.current_version
    stays = f"{route.spec.model}-{serving} serves. " if serving else ""
    return (
        f"{name} was turned away ({rejected.reason}): {rejected.message}. {stays}Set spec.version to another version, "
        f"or change {name} (its spec, or the annotation {RETRY}), which tries it again"
    )


def _staying(versions: Versions) -> list[ModelVersion]:
    """Those that nobody deletes, the highest first."""
    return [version for version in versions if not version.metadata.deletion_timestamp][::-1]


def _listing(versions: Iterable[ModelVersion]) -> str:
    names = [version.spec.version for version in versions]
    return ", ".join(names[:8]) + (", …" if len(names) > 8 else "") if names else "none"


def former_versions(route: ModelRoute) -> list[str]:
    """Versions that have served on the route before, the newest first, the current one left out."""
    ordered: dict[str, None] = {}
    for entry in route.status.history:
        if entry.result is SwapState.COMPLETED:
            ordered.setdefault(entry.version)
            if entry.from_version:
                ordered.setdefault(entry.from_version)
    ordered.pop(route.status.current_version, None)
    return list(ordered)


def served_before(route: ModelRoute, version: str) -> bool:
    """Whether a version stands in the route's history as one that it was led to."""
    kept = route.status.history[: route.spec.history_limit]
    return any(e.version == version and e.result is SwapState.COMPLETED for e in kept)


def routed_by(version: ModelVersion, routes: Iterable[ModelRoute]) -> list[str]:
    """Routes that lead to a version now, or are about to: such a version is never unloaded, and does not vanish."""
    number = version.spec.version
    return sorted(
        route.metadata.name
        for route in routes
        if not route.metadata.deletion_timestamp
        and (
            number == route.status.current_version
            or (
                route.status.swap.state in ACTIVE
                and number in (route.status.swap.from_version, route.status.swap.to_version)
            )
        )
    )


def needed(route: ModelRoute, versions: Versions) -> set[str]:
    """Versions that must stay, or come to be, loaded for a route."""
    status, swap = route.status, route.status.swap
    wants = {status.current_version, resolve(route, versions).version}
    if swap.state in ACTIVE:
        wants |= {swap.from_version, swap.to_version}
    if not route.metadata.deletion_timestamp:
        rejected = in_force(route, versions.get)
        formers = [version for version in former_versions(route) if version not in rejected]
        wants |= set(formers[: route.spec.rollback.keep_warm])
        if swap.observe_until is not None:
            wants.add(swap.from_version)
    return wants - {""}
