"""Memory of serving pods, from the metrics API (metrics.k8s.io) where the cluster has one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import aiohttp

from modelswap.api.quantity import parse_quantity
from modelswap.manifests import labels
from modelswap.manifests.pod import MODEL_SERVER

from .api import ApiException, KubeApi

logger = logging.getLogger(__name__)

Changed = Callable[[str, str], None]
"""Called with the namespace and the name of a ModelVersion whose pods' memory is another now."""


class PodMemory:
    """What the last reading said: one list call a period, for all serving pods together."""

    def __init__(self, api: KubeApi, namespaces: Iterable[str], changed: Changed) -> None:
        self._api = api
        self._namespaces = tuple(namespaces) or ("",)
        self._changed = changed
        self._bytes: dict[tuple[str, str], int] = {}
        self._there: bool | None = None

    def memory_of(self, namespace: str, pod: str) -> int | None:
        """Bytes that a pod's model server takes, or None when nobody has measured it."""
        return self._bytes.get((namespace, pod))

    async def watch(self, period: float) -> None:
        """Read for ever, every `period` seconds."""
        while True:
            await asyncio.sleep(period)
            await self.read()

    async def read(self) -> None:
        """Read once; what is known before the first look at a version is not taken for a change of it."""
        try:
            found = [item for namespace in self._namespaces for item in await self._api.pod_metrics(namespace)]
        except (ApiException, aiohttp.ClientError, TimeoutError) as error:
            self._note(there=False, why=str(error).partition("\n")[0])
            found = []
        else:
            self._note(there=True)
        before, self._bytes = self._bytes, dict(_readings(found))
        versions = {(item["metadata"]["namespace"], _version(item)) for item in found if self._is_new(item, before)}
        for namespace, version in versions:
            if version:
                self._changed(namespace, version)

    def _is_new(self, item: Mapping[str, Any], before: Mapping[tuple[str, str], int]) -> bool:
        key = (item["metadata"]["namespace"], item["metadata"]["name"])
        return self._bytes.get(key) != before.get(key)

    def _note(self, *, there: bool, why: str = "") -> None:
        if there != self._there:
            self._there = there
            logger.info("memory is read from the metrics API" if there else f"the metrics API gives no memory: {why}")


def _readings(items: Iterable[Mapping[str, Any]]) -> Iterable[tuple[tuple[str, str], int]]:
    for item in items:
        for container in item.get("containers", ()):
            if container["name"] == MODEL_SERVER:
                memory = int(parse_quantity(container["usage"]["memory"]))
                yield (item["metadata"]["namespace"], item["metadata"]["name"]), memory


def _version(item: Mapping[str, Any]) -> str:
    return str(item["metadata"].get("labels", {}).get(labels.MODEL_VERSION, ""))
