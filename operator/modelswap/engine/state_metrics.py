"""Metrics of what there is now: read from the cache whenever Prometheus asks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from modelswap.api.quantity import parse_quantity
from modelswap.api.v1alpha1.base import Condition
from modelswap.api.v1alpha1.model_route import ModelRoute
from modelswap.api.v1alpha1.model_runtime import ModelRuntime
from modelswap.api.v1alpha1.model_version import ModelVersion
from modelswap.kube.cache import Cache
from modelswap.planning.conditions import find

Family = GaugeMetricFamily | CounterMetricFamily
VERSION = ("namespace", "model", "version")
ROUTE = ("namespace", "route")


class StateMetrics(Collector):
    """Versions by phase, and a few figures of each; their series end with the object."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    def describe(self) -> Iterable[Family]:
        """Nothing: what there is, is read when it is asked for."""
        return ()

    def collect(self) -> Iterable[Family]:
        """Read the cache."""
        versions = list(self._cache.versions)
        yield _phases(versions)
        yield from self._figures(versions)
        yield from _route_figures([ModelRoute.model_validate(body) for body in self._cache.every("routes")])

    def _figures(self, versions: list[ModelVersion]) -> Iterable[Family]:
        ready = _gauge("version_ready", "Whether a version is as its spec asks")
        load = _gauge("version_last_load_seconds", "Time of the newest load, without the fetch")
        memory = _gauge("version_memory_bytes", "Of all model servers of a version")
        limit = _gauge("version_memory_limit_bytes", "What these may take")
        gpu = _gauge("version_gpu_memory_bytes", "Of all model servers of a version, as the runtime tells it")
        requests = CounterMetricFamily("modelswap_version_requests", "Requests answered, by all pods", labels=VERSION)
        errors = CounterMetricFamily("modelswap_version_errors", "Of these, with a 5xx status or none", labels=VERSION)
        for version in versions:
            meta, spec, status = version.metadata, version.spec, version.status
            labels = (meta.namespace, spec.model, spec.version)
            ready.add_metric(labels, is_ready(status.conditions))
            if status.last_load_seconds is not None:
                load.add_metric(labels, status.last_load_seconds)
            if status.loaded and status.memory_bytes is not None:
                memory.add_metric(labels, status.memory_bytes)
                if (bound := self._memory_limit(version)) is not None:
                    limit.add_metric(labels, bound * max(status.ready_replicas, 1))
            if status.loaded and status.gpu_memory_bytes is not None:
                gpu.add_metric(labels, status.gpu_memory_bytes)
            requests.add_metric(labels, status.request_count)
            errors.add_metric(labels, status.error_count)
        return ready, load, memory, limit, gpu, requests, errors

    def _memory_limit(self, version: ModelVersion) -> int | None:
        """Of one model server, in bytes."""
        resources = version.spec.resources
        if not (resources.limits or resources.requests):
            body = self._cache.one("runtimes", version.spec.runtime.name)
            if body is None:
                return None
            resources = ModelRuntime.model_validate(body).spec.model_server.resources
        quantity = resources.limits.get("memory")
        return int(parse_quantity(str(quantity))) if quantity is not None else None


def _gauge(name: str, text: str, labels: tuple[str, ...] = VERSION) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"modelswap_{name}", text, labels=labels)


def _phases(versions: list[ModelVersion]) -> Family:
    counts: Mapping[tuple[str, str], int] = Counter(
        (version.metadata.namespace, phase_of(version.status.conditions)) for version in versions
    )
    family = GaugeMetricFamily(
        "modelswap_versions", "Versions, by the reason of their condition Ready", labels=("namespace", "phase")
    )
    for labels, count in sorted(counts.items()):
        family.add_metric(labels, count)
    return family


def _route_figures(routes: list[ModelRoute]) -> Iterable[Family]:
    ready = _gauge("route_ready", "Whether a route serves what its spec asks for", ROUTE)
    pending = _gauge("route_pending_requests", "Requests held or in flight during a swap", ROUTE)
    rejected = _gauge("route_rejected_versions", "Versions that the operator has led the route away from", ROUTE)
    for route in routes:
        labels = (route.metadata.namespace, route.metadata.name)
        ready.add_metric(labels, is_ready(route.status.conditions))
        pending.add_metric(labels, route.status.pending_requests)
        rejected.add_metric(labels, len(route.status.rejected))
    return ready, pending, rejected


def is_ready(conditions: Iterable[Condition]) -> int:
    """1 or 0, as a gauge has it."""
    found = find(conditions, "Ready")
    return int(found is not None and found.status == "True")


def phase_of(conditions: Iterable[Condition]) -> str:
    """The reason of Ready; a version that nobody has looked at yet is `New`."""
    found = find(conditions, "Ready")
    return found.reason if found else "New"
