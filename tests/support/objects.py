"""Objects as the API server would hand them out, for tests of the pure core."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from modelswap.api.agent import AgentReport, HoldOutcome, HoldReport, TrafficMode
from modelswap.api.v1alpha1.model_route import ModelRoute
from modelswap.api.v1alpha1.model_runtime import ModelRuntime
from modelswap.api.v1alpha1.model_version import ModelVersion
from modelswap.manifests.agent_files import agent_config, certificate_secret
from modelswap.manifests.child import fingerprint_of
from modelswap.manifests.deployment import deployment
from modelswap.manifests.pod import ServingDefaults
from modelswap.manifests.service import route_service, version_service
from modelswap.planning.observed import Child, ContainerState, RouteService, ServingPod, ServingVersion

NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)
DEFAULTS = ServingDefaults(agent_image="agent:1")


def meta(name: str, **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "namespace": "ns",
        "uid": f"uid-{name}",
        "generation": 1,
        "resourceVersion": "1",
        "creationTimestamp": NOW.isoformat(),
        **more,
    }


def runtime() -> ModelRuntime:
    spec = {"port": 9000, "modelServer": {"image": "server:1"}}
    return ModelRuntime.model_validate({"metadata": {"name": "mlserver"}, "spec": spec})


def model_version(
    version: str, *, model: str = "iris", status: Any = None, kept: bool = False, **spec: Any
) -> ModelVersion:
    """A version; `kept` from being deleted, as one that a route leads to."""
    body = {
        "metadata": meta(f"{model}-{version}", finalizers=["modelswap.dev/routed"] if kept else []),
        "spec": {
            "model": model,
            "version": version,
            "runtime": {"name": "mlserver"},
            "artifact": {"uri": f"s3://models/{model}/{version}/"},
            **spec,
        },
        "status": status or {},
    }
    return ModelVersion.model_validate(body)


def model_route(version: str, *, status: Any = None, generation: int = 1, **spec: Any) -> ModelRoute:
    body = {
        "metadata": meta("iris", generation=generation),
        "spec": {"model": "iris", "version": version, **spec},
        "status": status or {},
    }
    return ModelRoute.model_validate(body)


def report(name: str, **more: Any) -> AgentReport:
    values: dict[str, Any] = {
        "revision": "r",
        "model_version": name,
        "loaded": True,
        "warmed_up": True,
        "healthy": True,
        "load_seconds": 1.0,
    }
    return AgentReport(**(values | more))


def held(swap_id: str, outcome: HoldOutcome = HoldOutcome.HOLDING, **more: Any) -> HoldReport:
    return HoldReport(id=swap_id, outcome=outcome, **more)


def pod(name: str, *, ip: str = "198.18.0.9", ready: bool = True, **more: Any) -> ServingPod:
    model = name.rpartition(".pod")[0]
    running = ContainerState(running=True)
    values: dict[str, Any] = {"report": report(model), "agent": running, "model_server": running}
    return ServingPod(name=name, uid=f"uid-{name}", ip=ip, ready=ready, **(values | more))


def serving(resource: ModelVersion, *pods: ServingPod, children: bool = True) -> ServingVersion:
    manifests = [
        agent_config(resource, runtime()),
        deployment(resource, runtime(), DEFAULTS),
        version_service(resource),
        certificate_secret(resource),
    ]
    return ServingVersion(
        resource=resource,
        runtime=runtime(),
        children={(c.kind, c.name): c for c in map(child_of, manifests)} if children else {},
        pods=pods,
        certificate_renewal=datetime(2099, 1, 1, tzinfo=UTC) if children else None,
    )


def child_of(manifest: dict[str, Any]) -> Child:
    name = manifest["metadata"]["name"]
    return Child(kind=manifest["kind"], name=name, uid=f"uid-{name}", fingerprint=fingerprint_of(manifest))


def route_service_of(route: ModelRoute, version: str, endpoints: Iterable[str]) -> RouteService:
    manifest = route_service(route, f"iris-{version}")
    return RouteService(
        uid="uid-service",
        fingerprint=fingerprint_of(manifest),
        selected=f"iris-{version}",
        endpoints=frozenset(endpoints),
        cluster_ip="198.19.0.5",
    )


HAND_OVER = TrafficMode.HAND_OVER
