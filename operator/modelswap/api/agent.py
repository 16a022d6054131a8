"""What the operator and the agent of a serving pod say to each other: the one source for both sides.

The agent's configuration is a file in the pod; the rest travels as JSON over the control port, behind mutual TLS.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from .v1alpha1.inference import SampleSpec, WarmUpSpec
from .v1alpha1.model_runtime import MemoryMetrics, Protocol

# Ports of a serving pod. Only the route port is held and handed over.
ROUTE_PORT = 8080
"""Where the route's Service sends clients."""
DIRECT_PORT = 8081
"""Where the version's own Service sends clients: always answered by this pod's own model."""
HANDOVER_PORT = 8082
"""Where the agents of other versions hand requests over: always answered by this pod's own model, so that no
request is ever handed back and forth."""
OPS_PORT = 8404
"""Probes and Prometheus metrics."""
CONTROL_PORT = 8443
"""The operator's, behind mutual TLS."""

ALLOWED_HOSTS = "MODELSWAP_FETCH_HOSTS"
"""Variable of the fetch step: names of hosts, or patterns such as `*.example.com`, joined by commas; empty for all."""
FETCH_PROGRESS_FILE = "/var/run/modelswap-fetch/fetch.json"
"""Where the fetch step tells the agent how far it is."""

MAX_PEERS = 16
"""How many pods one agent can hand over to."""

IDENTITY_PATH = "/.well-known/modelswap"
"""Answered by the agent itself, wherever a request to the route port is sent: proves which version is reached."""
PROXY_PATH = "/proxy"
"""On the ops port: answered by the proxy alone, whether the agent is there or not."""
VERSION_HEADER = "Modelswap-Version"
"""Response header that names the ModelVersion whose model answered."""


class Message(BaseModel):
    """Base of all messages: camelCase on the wire; unknown fields ignored, as agent and operator may differ in age."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, frozen=True, use_attribute_docstrings=True
    )


class AgentConfig(Message):
    """The agent's configuration file, `agent.json`."""

    model_version: str
    """Name of the ModelVersion, such as `iris-1.2.0`."""
    model: str
    version: str
    protocol: Protocol = Protocol.OPEN_INFERENCE_V2
    model_server_port: int
    """Port of the model server on the pod's loopback interface."""
    model_server_grpc_port: int | None = None
    """Where it takes gRPC, if it does."""
    memory_metrics: MemoryMetrics | None = None
    warm_up: WarmUpSpec | None = None
    sample: SampleSpec | None = None


class TrafficMode(StrEnum):
    """Where an agent sends the requests of its route port."""

    LOCAL = "Local"
    """To this pod's own model."""
    HAND_OVER = "HandOver"
    """To the peers, one request at a time, closing the client's connection with each answer."""


class Hold(Message):
    """Keep new requests of the route port waiting."""

    id: str
    """One id is held at most once: asking again neither extends nor revives it."""
    seconds: float = Field(gt=0, le=300)
    """From the first time that the agent hears of this id; then it releases by itself."""


class TrafficRequest(Message):
    """`PUT /v1/traffic`: what the data plane shall do from now on. Idempotent; the answer is an AgentReport."""

    mode: TrafficMode = TrafficMode.LOCAL
    peers: tuple[str, ...] = Field(default=(), max_length=MAX_PEERS)
    """Pod addresses (`IP:port`) to hand over to, sorted."""
    upgraded_seconds: int | None = None
    """While handing over: how long upgraded connections (WebSocket) that are open here may stay; None for ever."""
    hold: Hold | None = None


class HoldOutcome(StrEnum):
    """How a hold ended."""

    HOLDING = "Holding"
    RELEASED = "Released"
    EXPIRED = "Expired"
    """Its time ran out before the operator released it."""


class HoldReport(Message):
    """The newest hold of an agent."""

    id: str
    outcome: HoldOutcome
    in_flight_at_start: int = 0
    """Requests at the model when the hold began: those to drain."""
    held_requests: int = 0
    """Requests that waited, in all."""
    longest_hold_seconds: float = 0.0
    """The longest that one request waited."""


class AgentReport(Message):
    """`GET /v1/report[?after=REVISION&waitSeconds=N]`: what an agent sees.

    With `after`, it answers when its revision is another, or after N seconds.
    """

    revision: str
    """Opaque. Another one whenever anything but a counter has changed, or errors were counted (looked at once a second
    or more often), or in-flight requests reached or left zero while holding or handing over."""
    model_version: str
    mode: TrafficMode = TrafficMode.LOCAL
    peers: tuple[str, ...] = ()
    upgraded_seconds: int | None = None
    hold: HoldReport | None = None
    in_flight: int = 0
    """Requests of the route (its port and those handed over by others) that this pod's model is answering."""
    upgraded: int = 0
    """Upgraded connections (WebSocket) of the route that are open: they cannot be held and are not in flight."""
    direct_in_flight: int = 0
    """Requests of the direct port that this pod's model is answering."""
    held: int = 0
    """Requests waiting now."""
    route_connections: int = 0
    """Open client connections on the route port."""
    loaded: bool = False
    loaded_at: datetime | None = None
    load_seconds: float | None = None
    """From the end of the fetch, or the loss of the model before this one, to the model's first ready answer."""
    warmed_up: bool = False
    warm_up_done: int = 0
    warm_up_total: int = 0
    healthy: bool | None = None
    """Result of the newest sample inference, or, where none is declared, of the model's readiness; None before it."""
    last_health_check: datetime | None = None
    message: str = ""
    """Why the model is not loaded, not warmed up or not healthy; empty when all is well."""
    fetch: FetchProgress | None = None
    memory_bytes: int | None = None
    """Of the model server, as it tells itself; None where it does not."""
    gpu_memory_bytes: int | None = None
    request_count: int = 0
    """Requests that this pod's model has answered, route and direct, since the pod began."""
    error_count: int = 0
    """Of these, answers with a 5xx status or none."""
    last_request_at: datetime | None = None
    terminating: bool = False


class FetchProgress(Message):
    """What the fetch step writes into `fetch.json` while it works."""

    bytes: int = 0
    total_bytes: int | None = None
    """None while the store does not tell."""
    started_at: datetime
    finished_at: datetime | None = None
    attempt: int = 1
    """Which run of the step in this pod."""


class FetchResult(Message):
    """What the fetch step writes as its container's termination message, when it ends well or badly."""

    digest: str = ""
    """`sha256:<hex>` of the file, or of the folder's manifest."""
    bytes: int = 0
    seconds: float = 0.0
    reason: str = ""
    """CamelCase cause of a failure, such as `ChecksumMismatch`; empty when fetched."""
    message: str = ""
    permanent: bool = False
    """Trying again cannot help."""
