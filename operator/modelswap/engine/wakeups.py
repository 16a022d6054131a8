"""From a changed object to the keys that want another look."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from modelswap.kube.cache import Cache
from modelswap.manifests import labels

from .keys import Key

Body = Mapping[str, Any]

OWNERS = frozenset({"ModelVersion", "ModelRoute"})


def keys_of(kind: str, body: Body, cache: Cache) -> Iterable[Key]:
    """The objects whose plan may come out differently now."""
    meta = body["metadata"]
    if kind == "ModelRuntime":
        for version in cache.all("versions_by_runtime", meta["name"]):
            yield _key("ModelVersion", version)
        return
    if kind in OWNERS:
        # A version's needs depend on its model's routes, and a route's target on its model's versions.
        yield _key(kind, body)
        yield from of_model(meta["namespace"], body["spec"]["model"], cache)
        return
    for owner in meta.get("ownerReferences", ()):
        if owner["kind"] in OWNERS:
            yield Key(owner["kind"], meta["namespace"], owner["name"])
    found = meta.get("labels", {})
    if labels.MODEL_VERSION in found and kind == "Pod":
        yield Key("ModelVersion", meta["namespace"], found[labels.MODEL_VERSION])
        for route in cache.all("routes_by_model", (meta["namespace"], found.get(labels.MODEL, ""))):
            yield _key("ModelRoute", route)
    if labels.ROUTE in found and kind == "EndpointSlice":
        yield Key("ModelRoute", meta["namespace"], found[labels.ROUTE])


def of_model(namespace: str, model: str, cache: Cache) -> Iterable[Key]:
    """All routes and versions of a model."""
    for route in cache.all("routes_by_model", (namespace, model)):
        yield _key("ModelRoute", route)
    for version in cache.versions.of_model(namespace, model):
        yield Key("ModelVersion", namespace, version.metadata.name)


def _key(kind: str, body: Body) -> Key:
    return Key(kind, body["metadata"]["namespace"], body["metadata"]["name"])
