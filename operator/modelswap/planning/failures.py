"""What went wrong in the loads of a version: counted once each, and kept with its cause."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from modelswap.api.v1alpha1.model_version import LoadFailure, ModelVersionStatus

from .causes import Cause, causes, ends
from .observed import ServingVersion

KEPT = 10
MESSAGE_MAX = 2000

_TRANSIENT = frozenset({"ModelNotWell"})
"""Causes that are told in the conditions alone."""


def failures(version: ServingVersion, old: ModelVersionStatus, now: datetime) -> tuple[int, list[LoadFailure]]:
    """The count and the last failures, with those added that are not among them yet."""
    new = [*_happened(version, old), *_lasting(version, old, now)]
    kept = sorted([*new, *old.failures], key=lambda failure: failure.time, reverse=True)
    return old.failure_count + len(new), kept[:KEPT]


def _happened(version: ServingVersion, old: ModelVersionStatus) -> Iterable[LoadFailure]:
    """Ends of containers and pods that are not in the status. What fell off its end is older than all in it."""
    known = {(f.time, f.pod, f.reason) for f in old.failures}
    oldest = min((f.time for f in old.failures), default=None) if len(old.failures) >= KEPT else None
    for cause in ends(version):
        assert cause.at is not None  # ends have a time
        if (cause.at, cause.pod, cause.reason) not in known and (oldest is None or cause.at > oldest):
            yield _failure(cause, cause.at)


def _lasting(version: ServingVersion, old: ModelVersionStatus, now: datetime) -> Iterable[LoadFailure]:
    """A state of affairs is one failure for as long as it lasts."""
    known = {(f.pod, f.reason) for f in old.failures}
    for cause in causes(version):
        if cause.at is None and cause.reason not in _TRANSIENT and (cause.pod, cause.reason) not in known:
            yield _failure(cause, now.replace(microsecond=0))


def _failure(cause: Cause, at: datetime) -> LoadFailure:
    return LoadFailure(time=at, reason=cause.reason, message=cause.message[:MESSAGE_MAX], pod=cause.pod)
