"""What kopf watches: indices that are the cache, and events that wake the reconciler."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import kopf

from modelswap.api.v1alpha1.base import GROUP, VERSION
from modelswap.manifests import labels

Body = Mapping[str, Any]
Changed = Callable[[str, Body, bool], None]
"""Called with the kind, the object and whether it has gone."""

VERSIONS = (GROUP, VERSION, "modelversions")
ROUTES = (GROUP, VERSION, "modelroutes")
RUNTIMES = (GROUP, VERSION, "modelruntimes")
DEPLOYMENTS = ("apps", "v1", "deployments")
SERVICES = ("", "v1", "services")
CONFIG_MAPS = ("", "v1", "configmaps")
SECRETS = ("", "v1", "secrets")
PODS = ("", "v1", "pods")
ENDPOINT_SLICES = ("discovery.k8s.io", "v1", "endpointslices")

KeysOf = Callable[[Body], Iterable[Any]]

CHILDREN = {"Deployment": DEPLOYMENTS, "Service": SERVICES, "ConfigMap": CONFIG_MAPS, "Secret": SECRETS}


def _identity(body: Body) -> Iterable[Any]:
    return ((body["metadata"]["namespace"], body["metadata"]["name"]),)


def _model(body: Body) -> Iterable[Any]:
    return ((body["metadata"]["namespace"], body["spec"]["model"]),)


def _by_label(label: str) -> KeysOf:
    def keys(body: Body) -> Iterable[Any]:
        meta = body["metadata"]
        return ((meta["namespace"], meta.get("labels", {}).get(label, "")),)

    return keys


def _owners(body: Body) -> Iterable[Any]:
    return (owner["uid"] for owner in body["metadata"].get("ownerReferences", ()))


INDICES: tuple[tuple[str, tuple[str, str, str], KeysOf], ...] = (
    ("versions_by_runtime", VERSIONS, lambda body: (body["spec"]["runtime"]["name"],)),
    ("routes", ROUTES, _identity),
    ("routes_by_model", ROUTES, _model),
    ("runtimes", RUNTIMES, lambda body: (body["metadata"]["name"],)),
    ("pods", PODS, _by_label(labels.MODEL_VERSION)),
    ("endpoints", ENDPOINT_SLICES, _by_label("kubernetes.io/service-name")),
    *(("children", resource, _owners) for resource in CHILDREN.values()),
)
"""Name, resource and keys of every index of the cache."""


def build(changed: Changed, saw_version: Callable[[Body], None]) -> kopf.OperatorRegistry:
    """All handlers."""
    registry = kopf.OperatorRegistry()

    # An index of kopf, though it keeps nothing: those are filled before anything else is called.
    @kopf.index(*VERSIONS, registry=registry, id="registry")
    async def register(body: Body, **_: Any) -> None:
        saw_version(dict(body))

    for name, resource, keys in INDICES:
        _index(registry, name, resource, keys)
    for kind, resource in {
        "ModelVersion": VERSIONS,
        "ModelRoute": ROUTES,
        "ModelRuntime": RUNTIMES,
        "Pod": PODS,
        "EndpointSlice": ENDPOINT_SLICES,
        **CHILDREN,
    }.items():
        _on_event(registry, kind, resource, changed)
    return registry


def _index(registry: kopf.OperatorRegistry, name: str, resource: tuple[str, str, str], keys: KeysOf) -> None:
    @kopf.index(*resource, registry=registry, id=name)
    async def index(body: Body, **_: Any) -> dict[Any, Any]:
        return {key: dict(body) for key in keys(body)}


def _on_event(registry: kopf.OperatorRegistry, kind: str, resource: tuple[str, str, str], changed: Changed) -> None:
    @kopf.on.event(*resource, registry=registry, id=f"wake-{kind}")
    async def wake(event: Body, **_: Any) -> None:
        changed(kind, event["object"], event["type"] == "DELETED")


def label_selectors(settings: kopf.OperatorSettings) -> None:
    """Watch our own children only: the API server leaves the rest out."""
    for resource in (*CHILDREN.values(), PODS, ENDPOINT_SLICES):
        settings.watching.label_selectors[resource] = labels.SELECTOR
