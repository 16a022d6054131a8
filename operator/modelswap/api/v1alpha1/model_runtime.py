"""ModelRuntime: the model server software that loads a kind of model."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

from pydantic import ConfigDict, Field

from .base import DnsSubdomain, Metadata, Resource, Rule, rules
from .model_version import ResourceRequirements


class Protocol(StrEnum):
    """How a model server is spoken to."""

    OPEN_INFERENCE_V2 = "OpenInferenceV2"


class ImagePullPolicy(StrEnum):
    """As in a Pod."""

    ALWAYS = "Always"
    IF_NOT_PRESENT = "IfNotPresent"
    NEVER = "Never"


class EnvVar(Resource):
    """An environment variable; `$(NAME)` in its value stands for an earlier one, as in a Pod."""

    name: Annotated[str, Field(pattern="^[A-Za-z_][A-Za-z0-9_]*$", max_length=253)]
    value: Annotated[str, Field(max_length=4096)] = ""


class ModelServer(Resource):
    """The model server's container. It must listen on the loopback interface only: the agent stands before it.

    Its environment begins with MODEL_NAME, MODEL_VERSION, MODEL_PATH (the folder of the fetched artifact),
    MODEL_SERVER_PORT and, where the runtime has one, MODEL_SERVER_GRPC_PORT.
    """

    image: Annotated[str, Field(min_length=1, max_length=512)]
    image_pull_policy: ImagePullPolicy = ImagePullPolicy.IF_NOT_PRESENT
    command: list[Annotated[str, Field(max_length=4096)]] = Field(default_factory=list, max_length=64)
    args: list[Annotated[str, Field(max_length=4096)]] = Field(default_factory=list, max_length=64)
    env: list[EnvVar] = Field(
        default_factory=list,
        max_length=64,
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )
    resources: ResourceRequirements = Field(default_factory=ResourceRequirements)
    """What a ModelVersion that asks for nothing gets."""


class Toleration(Resource):
    """As in a Pod."""

    key: Annotated[str, Field(max_length=253)] = ""
    operator: Annotated[str, Field(pattern="^(Exists|Equal)$")] = "Equal"
    value: Annotated[str, Field(max_length=63)] = ""
    effect: Annotated[str, Field(pattern="^(NoSchedule|PreferNoSchedule|NoExecute|)$")] = ""


MetricName = Annotated[str, Field(pattern="^[a-zA-Z_:][a-zA-Z0-9_:]*$", max_length=128)]


class MemoryMetrics(Resource):
    """Where the model server itself tells how much memory it takes, in Prometheus' text format."""

    port: Annotated[int, Field(ge=1, le=65535)]
    """On the loopback interface."""
    path: Annotated[str, Field(pattern="^/", max_length=256)] = "/metrics"
    memory: MetricName = "process_resident_memory_bytes"
    """Name of the metric, in bytes; all its samples are added up."""
    gpu_memory: MetricName = "nv_gpu_memory_used_bytes"


AGENT_PORTS = "[8080, 8081, 8082, 8404, 8443]"
_TAKEN = f"is one of the agent's, {AGENT_PORTS}, or is there twice: choose another, such as"


class ModelRuntimeSpec(Resource):
    """How models of this kind are served."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            Rule(f"!(self.port in {AGENT_PORTS})", f"port {_TAKEN} 9000"),
            Rule(
                f"!has(self.grpcPort) || !(self.grpcPort in {AGENT_PORTS} || self.grpcPort == self.port)",
                f"grpcPort {_TAKEN} 9001",
            ),
        )
    )

    protocol: Protocol = Protocol.OPEN_INFERENCE_V2
    port: Annotated[int, Field(ge=1024, le=65535)] = 9000
    """Where the model server listens for HTTP, on the loopback interface."""
    grpc_port: Annotated[int, Field(ge=1024, le=65535)] | None = None
    """Where it listens for gRPC without TLS, on the loopback interface; None if it does not."""
    model_server: ModelServer
    memory_metrics: MemoryMetrics | None = None
    """None: the model server tells nothing of its memory."""
    image_pull_secrets: list[DnsSubdomain] = Field(default_factory=list, max_length=16)
    """Names of Secrets in the ModelVersion's namespace."""
    node_selector: dict[str, Annotated[str, Field(max_length=63)]] = Field(default_factory=dict, max_length=32)
    tolerations: list[Toleration] = Field(default_factory=list, max_length=32)

    def pod_fields(self) -> dict[str, Any]:
        """Fields of the pod's spec that are taken over as they are."""
        fields: dict[str, Any] = {}
        if self.image_pull_secrets:
            fields["imagePullSecrets"] = [{"name": name} for name in self.image_pull_secrets]
        if self.node_selector:
            fields["nodeSelector"] = dict(self.node_selector)
        if self.tolerations:
            fields["tolerations"] = [t.model_dump(by_alias=True, exclude_defaults=True) for t in self.tolerations]
        return fields


class ModelRuntime(Resource):
    """A model server software, for the whole cluster."""

    metadata: Metadata
    spec: ModelRuntimeSpec
