"""Which versions a route asks for, and which it needs loaded."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from modelswap.api.v1alpha1.model_route import ModelRoute, SwapState
from modelswap.api.v1alpha1.model_version import ModelVersion
from modelswap.manifests.labels import RETRY

from .conditions import find
from .registry import Versions
from .semver_order import VersionRange

ACTIVE = frozenset({SwapState.PREPARING, SwapState.DRAINING, SwapState.SWAPPING, SwapState.VERIFYING})
"""States of a swap that has not ended."""

LOAD_FAILED = "LoadFailed"


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


@dataclass(frozen=True)
class Target:
    """What a route's `spec.version` comes to."""

    version: str = ""
    """Empty when nothing admits."""
    reason: str = ""
    message: str = ""


def resolve(route: ModelRoute, versions: Versions) -> Target:
    """The version that a route asks for: the exact one, or the highest within the range that has not failed to load."""
    spec = route.spec
    wanted = VersionRange.parse(spec.version)
    if (exact := wanted.exact) is not None:
        found = versions.get(exact)
        if found and not found.metadata.deletion_timestamp:
            return Target(exact)
        return Target(
            reason="VersionNotFound",
            message=f"there is no ModelVersion {spec.model}-{exact} in this namespace: "
            f"create it, or set spec.version to one of {_listing(_staying(versions))}",
        )
    admitted = [version for version in versions.within(wanted) if not version.metadata.deletion_timestamp]
    for version in admitted:
        if not load_failed(version):
            return Target(version.spec.version)
    if admitted:
        return Target(
            reason="NoLoadableVersion",
            message=f"every version of {spec.model} within {spec.version} has failed to load: {_listing(admitted)}",
        )
    return Target(
        reason="VersionNotFound",
        message=f"no version of {spec.model} is within {spec.version}: there are {_listing(_staying(versions))}",
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
    status = route.status
    wants = {status.current_version, resolve(route, versions).version}
    if status.swap.state in ACTIVE:
        wants |= {status.swap.from_version, status.swap.to_version}
    if not route.metadata.deletion_timestamp:
        wants |= set(former_versions(route)[: route.spec.rollback.keep_warm])
    return wants - {""}
