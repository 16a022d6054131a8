"""Frozen snapshots of what is, as the planners see it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from modelswap.api.agent import AgentReport, FetchResult
from modelswap.api.v1alpha1.model_route import ModelRoute
from modelswap.api.v1alpha1.model_runtime import ModelRuntime
from modelswap.api.v1alpha1.model_version import ModelVersion

from .registry import NONE, Versions


@dataclass(frozen=True, kw_only=True)
class ContainerState:
    """One container of a serving pod, as far as its fate matters."""

    restarts: int = 0
    running: bool = False
    started_at: datetime | None = None
    waiting_reason: str = ""
    """Such as `ImagePullBackOff`, `CrashLoopBackOff`."""
    waiting_message: str = ""
    exit_code: int | None = None
    """Of the newest end, now or before the last restart."""
    ended_started_at: datetime | None = None
    """When the run began that ended so."""
    ended_at: datetime | None = None
    exit_reason: str = ""
    """Such as `OOMKilled`, `Error`."""
    exit_message: str = ""


@dataclass(frozen=True, kw_only=True)
class ServingPod:
    """One serving pod and the report of its agent."""

    name: str
    uid: str
    ip: str = ""
    ready: bool = False
    terminating: bool = False
    orphaned: bool = False
    """Whether nothing in the cluster has it in charge, so that nothing ends it either."""
    failed_reason: str = ""
    """Why Kubernetes has ended the pod for good, such as `Evicted`; empty when it has not."""
    failed_message: str = ""
    failed_at: datetime | None = None
    unschedulable: str = ""
    """Why no node takes it."""
    fetch: ContainerState = ContainerState()
    fetched: FetchResult | None = None
    model_server: ContainerState = ContainerState()
    proxy: ContainerState = ContainerState()
    agent: ContainerState = ContainerState()
    report: AgentReport | None = None
    """None while the agent has not been heard of, or no longer answers."""
    measured_memory_bytes: int | None = None
    """Of the model server, as the metrics API tells."""
    memory_limit_bytes: int | None = None
    """Of the model server."""

    @property
    def reachable(self) -> bool:
        """Whether the operator is in touch with the agent."""
        return self.report is not None


@dataclass(frozen=True, kw_only=True)
class Child:
    """A child that exists."""

    kind: str
    name: str
    uid: str
    fingerprint: str = ""
    """Of the manifest it was last applied from."""
    deleting: bool = False


@dataclass(frozen=True, kw_only=True)
class ServingVersion:
    """A ModelVersion and what there is of it in the cluster."""

    resource: ModelVersion
    runtime: ModelRuntime | None = None
    children: Mapping[tuple[str, str], Child] = field(default_factory=dict)
    """By kind and name."""
    pods: tuple[ServingPod, ...] = ()
    pods_refused: str = ""
    """Why Kubernetes lets no further pod be created; empty when it does."""
    certificate_renewal: datetime | None = None
    """When the agents' certificate is to be made anew; None when there is none."""

    @property
    def name(self) -> str:
        """Name of the ModelVersion."""
        return self.resource.metadata.name

    @property
    def version(self) -> str:
        """Its version."""
        return self.resource.spec.version

    @property
    def live_pods(self) -> tuple[ServingPod, ...]:
        """Pods that are not on their way out."""
        return tuple(pod for pod in self.pods if not pod.terminating)


@dataclass(frozen=True)
class Refusal:
    """Why something that was asked for is not done: CamelCase reason, and what to change in words."""

    reason: str
    message: str


@dataclass(frozen=True, kw_only=True)
class ObservedVersion:
    """What the planner of a ModelVersion sees."""

    version: ServingVersion
    routes: tuple[ModelRoute, ...] = ()
    """Routes of its model in its namespace."""
    siblings: Versions = NONE
    """All versions of its model in its namespace, itself among them."""
    refusal: Refusal | None = None
    """Why a child could not be made."""


@dataclass(frozen=True, kw_only=True)
class RouteService:
    """The route's Service and where its endpoints lead."""

    uid: str
    fingerprint: str
    selected: str
    """Name of the ModelVersion that its selector names."""
    endpoints: frozenset[str] = frozenset()
    """Ready pod addresses."""
    cluster_ip: str = ""


@dataclass(frozen=True, kw_only=True)
class ProbeResult:
    """Which version answered a request through the Service."""

    answered: str
    """Name of the ModelVersion, or empty."""
    at: datetime
    error: str = ""


@dataclass(frozen=True, kw_only=True)
class ObservedRoute:
    """What the planner of a ModelRoute sees."""

    route: ModelRoute
    versions: Mapping[str, ServingVersion] = field(default_factory=dict)
    """Every version of the model in the namespace, by version."""
    service: RouteService | None = None
    probe: ProbeResult | None = None
    """The newest probe of the running swap."""
    conflict: str = ""
    """Why this route may not lead anywhere: another, older one leads to the same model."""
    refusal: Refusal | None = None
    """Why the Service could not be made."""

    def resource_of(self, version: str) -> ModelVersion | None:
        """The ModelVersion of that number, or None."""
        found = self.versions.get(version)
        return found.resource if found else None
