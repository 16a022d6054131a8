"""What the watches have seen, made fresher by what this process has written itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .version_cache import VersionCache

Manifest = Mapping[str, Any]
Index = Mapping[Any, Iterable[Any]]
"""A kopf index: key → objects."""


class Cache:
    """A view of the kopf indices. A write's own answer counts until the watch has brought something newer."""

    def __init__(self, indices: Mapping[str, Index], versions: VersionCache) -> None:
        self._indices = indices
        self.versions = versions
        self._written: dict[str, Manifest] = {}

    def one(self, index: str, key: Any) -> Manifest | None:
        """The object under a key, or None."""
        return next(iter(self.all(index, key)), None)

    def all(self, index: str, key: Any) -> list[Manifest]:
        """All objects under a key."""
        return [self._fresher(body) for body in self._indices[index].get(key, ())]

    def every(self, index: str) -> list[Manifest]:
        """All objects of an index with one key each."""
        return [body for key in list(self._indices[index]) for body in self.all(index, key)]

    def wrote(self, body: Manifest) -> None:
        """Remember the API server's answer to a write."""
        if body["kind"] == "ModelVersion":
            self.versions.wrote(body)
            return
        self._written[body["metadata"]["uid"]] = body

    def forget(self, kind: str, body: Manifest) -> None:
        """Forget an object that has been deleted."""
        if kind == "ModelVersion":
            self.versions.gone(body)
        self._written.pop(body["metadata"]["uid"], None)

    def _fresher(self, body: Manifest) -> Manifest:
        uid = body["metadata"]["uid"]
        written = self._written.get(uid)
        if written is None:
            return body
        if resource_version(written) > resource_version(body):
            return written
        del self._written[uid]
        return body


def resource_version(body: Manifest) -> int:
    """Resource versions of one object are ordered (KEP-5504); those of the API server's etcd always were."""
    return int(body["metadata"]["resourceVersion"])
