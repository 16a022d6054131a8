"""ModelVersion: one version of one model, loaded into its own serving pods."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

from pydantic import ConfigDict, Field

from .base import Conditions, DnsSubdomain, Metadata, ModelName, Resource, Rule, rules
from .inference import SampleSpec, WarmUpSpec

SEMVER_PATTERN = (
    r"^(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)"
    r"(-(0|[1-9][0-9]*|[0-9]*[a-z-][0-9a-z-]*)(\.(0|[1-9][0-9]*|[0-9]*[a-z-][0-9a-z-]*))*)?$"
)
"""SemVer 2.0 without build metadata; lower-case, as it is a part of the object's name."""

SEMVER_MESSAGE = (
    "a version is MAJOR.MINOR.PATCH of SemVer 2.0, such as 1.2.0 or 2.0.0-rc.1: "
    "three numbers, no leading 'v', lower-case, no build metadata"
)

VersionString = Annotated[
    str,
    Field(
        min_length=1,
        max_length=22,
        json_schema_extra=rules(Rule(f"self.matches(r'{SEMVER_PATTERN}')", SEMVER_MESSAGE)),
    ),
]
Quantity = Annotated[
    str | int,
    Field(
        json_schema_extra={
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "x-kubernetes-int-or-string": True,
            # Kubernetes' own grammar, without a sign.
            "pattern": r"^([0-9]+(\.[0-9]*)?|\.[0-9]+)([KMGTPE]i|[numkMGTPE]|[eE][-+]?[0-9]{1,3})?$",
        }
    ),
]


class SecretReference(Resource):
    """A Secret in the same namespace."""

    name: DnsSubdomain


class RuntimeReference(Resource):
    """A ModelRuntime."""

    name: DnsSubdomain


MAX_BYTES = 100 * 2**30
"""Of an artifact whose spec names no other limit: 100 GiB."""

_MOUNTED = "self.uri.startsWith('pvc://') || self.uri.startsWith('image://')"


class Artifact(Resource):
    """The model's files."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            Rule(
                "!self.uri.startsWith('http://') || has(self.sha256)",
                "an http:// artifact can be changed on its way: give its sha256, or use https://",
            ),
            Rule(
                f"!({_MOUNTED}) || !has(self.secretRef)",
                "a pvc:// or image:// artifact is mounted by Kubernetes, which needs no secretRef: an image is pulled "
                "with the runtime's imagePullSecrets",
            ),
        )
    )

    uri: Annotated[
        str,
        Field(
            max_length=1024,
            json_schema_extra=rules(
                Rule(
                    "self.matches('^(s3|gs|az|https|http|oci|hf|pvc|image)://[^/]+/.+') "
                    "|| self.matches('^pvc://[^/]+/$')",
                    "an artifact's URI is s3://BUCKET/PATH, gs://, az://, https://, http://, "
                    "oci://HOST/REPOSITORY:TAG, hf://ORGANISATION/REPOSITORY, pvc://CLAIM/PATH or image://HOST/REPOSITORY:TAG",
                ),
                Rule(
                    "!self.startsWith('pvc://') || (self.matches('^pvc://[a-z0-9]([-a-z0-9.]*[a-z0-9])?/') "
                    "&& !self.matches('/[.][.]?(/|$)') && !self.matches('^pvc://[^/]+/.*//'))",
                    "a pvc:// artifact is pvc://CLAIM/PATH: the name of a PersistentVolumeClaim in this namespace, and "
                    "a path in it without '..'",
                ),
                Rule(
                    "!(self.startsWith('image://') || self.startsWith('oci://')) "
                    "|| self.matches('^(image|oci)://[A-Za-z0-9.:_-]+(/[a-z0-9._-]+)+(:[A-Za-z0-9._-]+)?(@sha256:[0-9a-f]{64})?$')",
                    "an oci:// or image:// artifact is HOST/REPOSITORY, then :TAG or @sha256:DIGEST",
                ),
            ),
        ),
    ]
    """Where they are. One object; a folder when it ends in `/`; for `oci`, `hf` and `image` all that is there."""
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$", max_length=64)] | None = None
    """Of the file, before it is unpacked; of a folder, of its manifest: a line `<sha256>  <relative path>` a file,
    sorted by path; of `oci`, the digest of the manifest."""
    secret_ref: SecretReference | None = None
    """Credentials, as environment variables of the fetch step: `AWS_ACCESS_KEY_ID`, `HF_TOKEN`, …"""
    max_bytes: Annotated[int, Field(ge=1, le=2**50)] = MAX_BYTES
    """The artifact may not be larger, as it is and unpacked."""
    keep_archive: bool = False
    """Leave an archive (`.tar`, `.tar.gz`, `.tgz`, `.tar.bz2`, `.tar.xz`, `.zip`) as it is, and do not unpack it."""


class LoadState(StrEnum):
    """When a version is loaded."""

    AUTO = "Auto"
    """While a route needs it."""
    LOADED = "Loaded"
    UNLOADED = "Unloaded"


class LoadSpec(Resource):
    """When and how hard a version is loaded."""

    state: LoadState = LoadState.AUTO
    """Auto: loaded while a route needs it."""
    max_attempts: Annotated[int, Field(ge=1, le=10)] = 3
    timeout_seconds: Annotated[int, Field(ge=1, le=3600)] = 30
    """For one attempt, from the model server's start to the model's first ready answer."""


class ResourceRequirements(Resource):
    """Compute resources of the model server, as in a Pod."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            Rule(
                "!has(self.limits) || !has(self.requests) || self.requests.all(name, !(name in self.limits) || "
                "!quantity(string(self.requests[name])).isGreaterThan(quantity(string(self.limits[name]))))",
                "a request is at most the limit of its resource: lower resources.requests, or raise resources.limits",
            )
        )
    )

    limits: dict[str, Quantity] = Field(default_factory=dict, max_length=16)
    requests: dict[str, Quantity] = Field(default_factory=dict, max_length=16)


class ModelMetadata(Resource):
    """What the model's makers say of it; modelswap only keeps it."""

    type: Annotated[str, Field(max_length=128)] = ""
    framework: Annotated[str, Field(max_length=128)] = ""
    training_date: datetime | None = None
    hyperparameters: dict[str, Any] = Field(
        default_factory=dict, json_schema_extra={"x-kubernetes-preserve-unknown-fields": True}
    )
    performance_metrics: dict[str, float] = Field(default_factory=dict, max_length=64)


IMMUTABLE = "is immutable: register another version instead"


class ModelVersionSpec(Resource):
    """What is served, and how."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            Rule("self.model == oldSelf.model", f"model {IMMUTABLE}"),
            Rule("self.version == oldSelf.version", f"version {IMMUTABLE}"),
            Rule("self.artifact == oldSelf.artifact", f"artifact {IMMUTABLE}"),
            Rule("self.runtime == oldSelf.runtime", f"runtime {IMMUTABLE}"),
        ),
    )

    model: ModelName
    version: VersionString
    runtime: RuntimeReference
    artifact: Artifact
    load: LoadSpec = Field(default_factory=LoadSpec)
    replicas: Annotated[int, Field(ge=0, le=1000)] = 1
    """Serving pods."""
    resources: ResourceRequirements = Field(default_factory=ResourceRequirements)
    """Of the model server."""
    warm_up: WarmUpSpec | None = None
    sample: SampleSpec | None = None
    metadata: ModelMetadata = Field(default_factory=ModelMetadata)


class LoadFailure(Resource):
    """One thing that went wrong in a load."""

    time: datetime
    reason: Annotated[str, Field(max_length=128)]
    """CamelCase cause, such as `OutOfMemory`."""
    message: Annotated[str, Field(max_length=2048)]
    pod: Annotated[str, Field(max_length=253)] = ""
    """Where it happened; empty when no pod could be made."""


class FetchStatus(Resource):
    """How far the artifact is; while it is fetched, of the pod that is furthest behind."""

    bytes: int = 0
    total_bytes: int | None = None
    """None while the store does not tell."""


class ServingPodStatus(Resource):
    """One serving pod's part in the counts: what it had counted when the sums were last written."""

    name: Annotated[str, Field(max_length=253)]
    request_count: int = 0
    error_count: int = 0


class ModelVersionStatus(Resource):
    """What is observed. The reason of the condition Ready says where the version stands."""

    observed_generation: int = 0
    conditions: Conditions
    replicas: int = 0
    """Serving pods that exist."""
    ready_replicas: int = 0
    selector: str = ""
    """Label selector of the serving pods, for the scale subresource."""
    loaded: bool = False
    loaded_at: datetime | None = None
    load_count: int = 0
    load_attempts: int = 0
    """Attempts of the present or newest load."""
    last_load_seconds: float | None = None
    """From the end of the fetch to the model's first ready answer, in the slowest pod."""
    average_load_seconds: float | None = None
    failure_count: int = 0
    """Failures of all loads."""
    failures: Annotated[list[LoadFailure], Field(default_factory=list, max_length=10)]
    """The last ten, the newest first."""
    fetch: FetchStatus | None = None
    """Only while the artifact is fetched."""
    artifact_digest: str | None = None
    """What was fetched, `sha256:…`."""
    artifact_bytes: int | None = None
    memory_bytes: int | None = None
    """Of all model servers: the runtime's own figure, else that of the metrics API, else their limit."""
    memory_source: Annotated[str, Field(max_length=32)] | None = None
    """`Runtime`, `Metrics` or `Limit`."""
    gpu_memory_bytes: int | None = None
    """As the runtime tells it."""
    request_count: int = 0
    """Requests answered, by all pods that there ever were."""
    error_count: int = 0
    """Of these, answers with a 5xx status or none."""
    in_flight: int = 0
    """Requests that are being answered, as of `countedAt`."""
    last_request_at: datetime | None = None
    last_health_check: datetime | None = None
    """The newest sample inference, as of the last write of the status."""
    counted_at: datetime | None = None
    """When the counts were written last: at most every 30 seconds, and never while nothing happens."""
    serving_pods: Annotated[list[ServingPodStatus], Field(default_factory=list, max_length=1024)]
    last_error: Annotated[str, Field(max_length=32768)] | None = None
    routed_by: Annotated[list[str], Field(default_factory=list, max_length=1024)]
    """Routes that need this version."""
    retry: Annotated[str, Field(max_length=256)] = ""
    """Value of the annotation `modelswap.dev/retry` that the present load was begun with."""


class ModelVersion(Resource):
    """One version of one model. Its name is `<model>-<version>`, so that there can be only one."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            Rule(
                "self.metadata.name == self.spec.model + '-' + self.spec.version",
                "metadata.name must be <spec.model>-<spec.version>, such as iris-1.2.0",
            )
        ),
    )

    metadata: Metadata
    spec: ModelVersionSpec
    status: ModelVersionStatus = Field(default_factory=ModelVersionStatus)
