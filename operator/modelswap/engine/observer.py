"""Snapshots for the planners, from the cache and the agents' reports: no call is made here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Protocol

from modelswap.api.agent import AgentReport
from modelswap.api.v1alpha1.model_route import ModelRoute
from modelswap.api.v1alpha1.model_runtime import ModelRuntime
from modelswap.api.v1alpha1.model_version import ModelVersion
from modelswap.kube.cache import Cache
from modelswap.manifests import labels, names
from modelswap.manifests.child import fingerprint_of
from modelswap.planning.observed import (
    Child,
    ObservedRoute,
    ObservedVersion,
    ProbeResult,
    Refusal,
    RouteService,
    ServingVersion,
)

from .keys import Key
from .pods import pods_refused, serving_pod


class Reports(Protocol):
    """Where the agents' newest reports are."""

    def report_of(self, pod_uid: str) -> AgentReport | None:
        """The newest report, or None when the agent does not answer."""


class Memory(Protocol):
    """Where measured memory is."""

    def memory_of(self, namespace: str, pod: str) -> int | None:
        """Bytes that a pod's model server takes, or None when nobody has measured it."""


class Observer:
    """Puts together what is known about one object."""

    def __init__(self, cache: Cache, reports: Reports, memory: Memory) -> None:
        self._cache = cache
        self._reports = reports
        self._memory = memory

    def version(self, key: Key, *, refusal: Refusal | None) -> ObservedVersion | None:
        """Snapshot of a ModelVersion, or None when there is none."""
        resource = self._cache.versions.get(key.namespace, key.name)
        if resource is None:
            return None
        model = (key.namespace, resource.spec.model)
        return ObservedVersion(
            version=self._serving(resource),
            routes=tuple(ModelRoute.model_validate(b) for b in self._cache.all("routes_by_model", model)),
            siblings=self._cache.versions.of_model(*model),
            refusal=refusal,
        )

    def route(self, key: Key, *, refusal: Refusal | None, probe: ProbeResult | None) -> ObservedRoute | None:
        """Snapshot of a ModelRoute, or None when there is none."""
        body = self._cache.one("routes", (key.namespace, key.name))
        if body is None:
            return None
        route = ModelRoute.model_validate(body)
        model = (key.namespace, route.spec.model)
        return ObservedRoute(
            route=route,
            versions={v.spec.version: self._serving(v) for v in self._cache.versions.of_model(*model)},
            service=self._service(route),
            probe=probe,
            conflict=self._conflict(route, model),
            refusal=refusal,
        )

    def _serving(self, resource: ModelVersion) -> ServingVersion:
        meta = resource.metadata
        runtime = self._cache.one("runtimes", resource.spec.runtime.name)
        bodies = self._cache.all("children", meta.uid)
        children = [_child(body) for body in bodies]
        return ServingVersion(
            resource=resource,
            runtime=ModelRuntime.model_validate(runtime) if runtime else None,
            children={(child.kind, child.name): child for child in children},
            pods=tuple(
                serving_pod(
                    body,
                    self._reports.report_of(body["metadata"]["uid"]),
                    self._memory.memory_of(meta.namespace, body["metadata"]["name"]),
                )
                for body in self._cache.all("pods", (meta.namespace, meta.name))
            ),
            pods_refused=next((pods_refused(body) for body in bodies if body["kind"] == "Deployment"), ""),
            certificate_renewal=self._renewal(resource),
        )

    def _renewal(self, resource: ModelVersion) -> datetime | None:
        name = names.agent_certificate(resource.metadata.name)
        for body in self._cache.all("children", resource.metadata.uid):
            if body["metadata"]["name"] == name and body["kind"] == "Secret":
                stamp = body["metadata"].get("annotations", {}).get(labels.RENEW_AFTER)
                return datetime.fromisoformat(stamp) if stamp else None
        return None

    def _service(self, route: ModelRoute) -> RouteService | None:
        for body in self._cache.all("children", route.metadata.uid):
            if body["kind"] == "Service":
                slices = self._cache.all("endpoints", (route.metadata.namespace, route.metadata.name))
                return RouteService(
                    uid=body["metadata"]["uid"],
                    fingerprint=fingerprint_of(dict(body)),
                    selected=body["spec"].get("selector", {}).get(labels.MODEL_VERSION, ""),
                    endpoints=frozenset(address for s in slices for address in _ready_addresses(s)),
                    cluster_ip=body["spec"].get("clusterIP", ""),
                )
        return None

    def _conflict(self, route: ModelRoute, model: tuple[str, str]) -> str:
        def age(other: ModelRoute) -> tuple[datetime, str]:
            assert other.metadata.creation_timestamp is not None
            return other.metadata.creation_timestamp, other.metadata.name

        others = (ModelRoute.model_validate(body) for body in self._cache.all("routes_by_model", model))
        older = [o for o in others if o.metadata.uid != route.metadata.uid and age(o) < age(route)]
        if not older:
            return ""
        first = min(older, key=age).metadata.name
        return (
            f"model {route.spec.model} is already led to by ModelRoute {first}: its agents can hold and hand over for "
            "one route only. Delete one of the two, or register the versions under another model name"
        )


def _child(body: Mapping[str, Any]) -> Child:
    meta = body["metadata"]
    return Child(
        kind=body["kind"],
        name=meta["name"],
        uid=meta["uid"],
        fingerprint=fingerprint_of(dict(body)),
        deleting="deletionTimestamp" in meta,
    )


def _ready_addresses(endpoint_slice: Mapping[str, Any]) -> Iterable[str]:
    for endpoint in endpoint_slice.get("endpoints") or ():
        if endpoint.get("conditions", {}).get("ready", True):
            yield from endpoint["addresses"]
