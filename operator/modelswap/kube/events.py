"""Kubernetes events on the objects that they are about."""

from __future__ import annotations

import hashlib
from datetime import datetime

from modelswap.api.v1alpha1.base import API_VERSION, Metadata
from modelswap.manifests.labels import MANAGER

from .api import CONFLICT, ApiException, KubeApi, Ref

MESSAGE_MAX = 1024


async def emit(
    api: KubeApi, *, kind: str, about: Metadata, reason: str, message: str, warning: bool, now: datetime
) -> None:
    """Write an event; the same one at the same time is written once."""
    stamp = now.isoformat(timespec="microseconds").replace("+00:00", "Z")
    digest = hashlib.sha256(f"{about.uid}{reason}{message}{stamp}".encode()).hexdigest()[:16]
    ref = Ref("Event", about.namespace, f"{about.name}.{digest}")
    manifest = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": ref.name, "namespace": ref.namespace},
        "involvedObject": {
            "apiVersion": API_VERSION,
            "kind": kind,
            "name": about.name,
            "namespace": about.namespace,
            "uid": about.uid,
            "resourceVersion": about.resource_version,
        },
        "reason": reason,
        "message": message[:MESSAGE_MAX],
        "type": "Warning" if warning else "Normal",
        "source": {"component": MANAGER},
        "reportingComponent": MANAGER,
        "reportingInstance": MANAGER,
        "firstTimestamp": stamp[:19] + "Z",
        "lastTimestamp": stamp[:19] + "Z",
        "count": 1,
    }
    try:
        await api.create(ref, manifest)
    except ApiException as error:
        if error.status != CONFLICT:
            raise
