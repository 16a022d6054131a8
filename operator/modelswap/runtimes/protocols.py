"""Adapters: where a model server tells whether a model answers."""

from __future__ import annotations

from typing import Protocol as Interface

from modelswap.api.v1alpha1.model_runtime import Protocol


class Adapter(Interface):
    """What the agent needs to know of a protocol."""

    def ready_path(self, model: str) -> str:
        """Path that answers 200 when the model is loaded, and only then."""


class OpenInferenceV2:
    """The Open Inference Protocol, version 2: MLServer, Triton, KServe."""

    def ready_path(self, model: str) -> str:
        """Readiness of one model; the server's own means all models, and is of no use here."""
        return f"/v2/models/{model}/ready"


ADAPTERS: dict[Protocol, Adapter] = {Protocol.OPEN_INFERENCE_V2: OpenInferenceV2()}
