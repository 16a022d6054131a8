"""Services: a version's own, and a route's."""

from __future__ import annotations

from modelswap.api.agent import DIRECT_PORT, ROUTE_PORT
from modelswap.api.v1alpha1.model_route import ModelRoute
from modelswap.api.v1alpha1.model_version import ModelVersion

from . import labels, names
from .child import Manifest, child


def version_service(version: ModelVersion) -> Manifest:
    """The address of one version: never held, never handed over."""
    meta, spec = version.metadata, version.spec
    return child(
        api_version="v1",
        kind="Service",
        name=names.version_service(meta.name),
        owner=meta,
        owner_kind="ModelVersion",
        labels_=labels.of_version(model=spec.model, version=spec.version, name=meta.name),
        body={
            "spec": {
                "type": "ClusterIP",
                "selector": {labels.MODEL_VERSION: meta.name},
                "ports": [{"name": "http", "port": 80, "targetPort": DIRECT_PORT, "protocol": "TCP"}],
            }
        },
    )


def route_service(route: ModelRoute, model_version: str) -> Manifest:
    """The stable address, leading to the pods of one ModelVersion."""
    meta, spec = route.metadata, route.spec
    return child(
        api_version="v1",
        kind="Service",
        name=meta.name,
        owner=meta,
        owner_kind="ModelRoute",
        labels_=labels.of_route(model=spec.model, name=meta.name),
        annotations=dict(spec.service.annotations),
        body={
            "spec": {
                "type": spec.service.type.value,
                "selector": {labels.MODEL_VERSION: model_version},
                "ports": [{"name": "http", "port": spec.service.port, "targetPort": ROUTE_PORT, "protocol": "TCP"}],
            }
        },
    )
