"""The operator's last act where it is uninstalled: nothing that it has marked may wait for it for ever."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

from modelswap.manifests.labels import ROUTED_FINALIZER

from .api import KubeApi, Ref

logger = logging.getLogger(__name__)

GONE_SECONDS = 60.0
"""For the operator's pods to end."""
LOOK_SECONDS = 0.5


async def release_all(api: KubeApi, namespaces: Iterable[str]) -> int:
    """Take our finalizer off every ModelVersion; how many had it."""
    released = 0
    for namespace in tuple(namespaces) or ("",):
        async for version in api.all_of("ModelVersion", namespace):
            meta = version["metadata"]
            if ROUTED_FINALIZER in meta.get("finalizers", ()):
                ref = Ref("ModelVersion", meta["namespace"], meta["name"])
                await api.set_finalizer(ref, ROUTED_FINALIZER, present=False, uid=meta["uid"])
                released += 1
    if released:
        logger.info("%d ModelVersions are free to be deleted: their finalizer is taken off", released)
    return released


async def is_uninstalled(api: KubeApi, namespace: str, deployment: str) -> bool:
    """Whether the operator's own Deployment, if it has one, is gone or going."""
    if not deployment:
        return False
    found = await api.get(Ref("Deployment", namespace, deployment))
    return found is None or "deletionTimestamp" in found["metadata"]


async def retire(api: KubeApi, namespace: str, deployment: str, namespaces: Iterable[str]) -> None:
    """End the operator, then release what it held: in this order, as it would take it up again.

    Raises:
        TimeoutError: its pods do not end.

    """
    if deployment:
        await _end(api, Ref("Deployment", namespace, deployment))
    await release_all(api, namespaces)


async def _end(api: KubeApi, operator: Ref) -> None:
    found = await api.get(operator)
    if found is not None:
        await api.delete(operator, uid=found["metadata"]["uid"], dependants_first=True)
    async with asyncio.timeout(GONE_SECONDS):
        while await api.get(operator) is not None:
            await asyncio.sleep(LOOK_SECONDS)
