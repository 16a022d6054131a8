"""What the agents of a ModelVersion read: configuration and certificate."""

from __future__ import annotations

import base64

from modelswap.api.agent import AgentConfig
from modelswap.api.v1alpha1.model_runtime import ModelRuntime
from modelswap.api.v1alpha1.model_version import ModelVersion

from . import labels, names
from .child import Manifest, child


def agent_config(version: ModelVersion, runtime: ModelRuntime) -> Manifest:
    """The ConfigMap with `agent.json`."""
    meta, spec = version.metadata, version.spec
    config = AgentConfig(
        model_version=meta.name,
        model=spec.model,
        version=spec.version,
        protocol=runtime.spec.protocol,
        model_server_port=runtime.spec.port,
        model_server_grpc_port=runtime.spec.grpc_port,
        memory_metrics=runtime.spec.memory_metrics,
        warm_up=spec.warm_up,
        sample=spec.sample,
    )
    return child(
        api_version="v1",
        kind="ConfigMap",
        name=names.agent_config(meta.name),
        owner=meta,
        owner_kind="ModelVersion",
        labels_=labels.of_version(model=spec.model, version=spec.version, name=meta.name),
        body={"data": {"agent.json": config.model_dump_json(by_alias=True, exclude_none=True, indent=2)}},
    )


def certificate_secret(version: ModelVersion) -> Manifest:
    """The Secret of the agents' certificate, still without it."""
    meta, spec = version.metadata, version.spec
    return child(
        api_version="v1",
        kind="Secret",
        name=names.agent_certificate(meta.name),
        owner=meta,
        owner_kind="ModelVersion",
        labels_=labels.of_version(model=spec.model, version=spec.version, name=meta.name),
        body={"type": "kubernetes.io/tls"},
    )


def with_certificate(secret: Manifest, files: dict[str, bytes], renew_after: str) -> Manifest:
    """The Secret with its files: `tls.crt`, `tls.key`, `ca.crt`."""
    metadata = dict(secret["metadata"])
    metadata["annotations"] = metadata["annotations"] | {labels.RENEW_AFTER: renew_after}
    return secret | {
        "metadata": metadata,
        "data": {name: base64.b64encode(content).decode() for name, content in files.items()},
    }
