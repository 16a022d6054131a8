"""The registry, as the watch and our own writes make it."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from modelswap.api.v1alpha1.model_version import ModelVersion
from modelswap.planning.registry import Registry, Versions

Body = Mapping[str, Any]

logger = logging.getLogger(__name__)


class VersionCache:
    """Every ModelVersion, parsed once for each change."""

    def __init__(self) -> None:
        self._registry = Registry()

    def __iter__(self) -> Iterator[ModelVersion]:
        return iter(self._registry)

    def get(self, namespace: str, name: str) -> ModelVersion | None:
        """The ModelVersion of a name, or None."""
        return self._registry.get(namespace, name)

    def of_model(self, namespace: str, model: str) -> Versions:
        """A model's versions, in rising order."""
        return self._registry.versions(namespace, model)

    def saw(self, body: Body) -> None:
        """The watch has brought an object."""
        known = self._known(body)
        # Objects that had the name one after the other are watched side by side: the newer one counts.
        if known is None or _resource_version(body) > int(known.metadata.resource_version):
            self._put(body)

    def wrote(self, body: Body) -> None:
        """The API server's answer to a write of ours: it may come when the object has gone, or has changed since."""
        known = self._known(body)
        if known is None or known.metadata.uid != body["metadata"]["uid"]:
            return
        if _resource_version(body) > int(known.metadata.resource_version):
            self._put(body)

    def gone(self, body: Body) -> None:
        """The watch says that an object has been deleted."""
        known = self._known(body)
        if known is not None and known.metadata.uid == body["metadata"]["uid"]:
            self._registry.remove(known.metadata.namespace, known.metadata.name)

    def _known(self, body: Body) -> ModelVersion | None:
        return self._registry.get(body["metadata"]["namespace"], body["metadata"]["name"])

    def _put(self, body: Body) -> None:
        try:
            self._registry.put(ModelVersion.model_validate(body))
        except ValidationError as error:
            # The API server would have refused it: its CRD is not the operator's.
            meta = body["metadata"]
            logger.error(
                "ModelVersion %s/%s is not understood, and left alone: apply the CRDs of this release: %s",
                meta["namespace"],
                meta["name"],
                error,
            )


def _resource_version(body: Body) -> int:
    return int(body["metadata"]["resourceVersion"])
