"""ModelRoute: a model's stable address, pointed at one version at a time."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import ConfigDict, Field

from .base import Conditions, Metadata, ModelName, Resource, Rule, rules
from .model_version import IMMUTABLE, SEMVER_PATTERN

_VERSION = SEMVER_PATTERN.removeprefix("^").removesuffix("$")
RANGE_PATTERN = rf"^({_VERSION}|(>=|<=|>|<|=|!=){_VERSION}(,(>=|<=|>|<|=|!=){_VERSION})*)$"
RANGE_MESSAGE = (
    "a route's version is exact, such as 1.2.0 (no leading 'v'), "
    "or comparators joined by commas without spaces, such as >=1.2.0,<2.0.0"
)


class SwapStrategy(StrEnum):
    """How a swap to a new version goes."""

    DRAIN_THEN_ROUTE = "DrainThenRoute"
    """New requests wait until the source has answered those it had begun: no old answer after the first new one."""
    ROUTE_THEN_DRAIN = "RouteThenDrain"
    """New requests go to the target at once, while the source answers those it had begun."""


class OnDrainTimeout(StrEnum):
    """What happens when the source has not drained in time."""

    PROCEED = "Proceed"
    """Hand over; what is still in flight ends on the source."""
    ABORT = "Abort"
    """Release to the source; the swap fails."""


class SwapSpec(Resource):
    """How the version is swapped."""

    strategy: SwapStrategy = SwapStrategy.DRAIN_THEN_ROUTE
    drain_timeout_seconds: Annotated[int, Field(ge=1, le=3600)] = 30
    """For the whole drain."""
    max_hold_seconds: Annotated[int, Field(ge=1, le=60)] = 5
    """The longest that a request is kept waiting."""
    on_drain_timeout: OnDrainTimeout = OnDrainTimeout.PROCEED
    upgraded_timeout_seconds: Annotated[int, Field(ge=0, le=86400)] = 300
    """How long upgraded connections (WebSocket), which can be neither held nor handed over, may stay on a former
    version; then they are closed, and clients that connect again reach the current one."""


class RollbackSpec(Resource):
    """When the operator rolls back by itself, and what is kept at hand for it."""

    automatic: bool = True
    """Roll back, without touching the spec, when the version that was swapped to answers badly or loses its health.
    It is then rejected until it or the route's spec changes."""
    observe_seconds: Annotated[int, Field(ge=0, le=86400)] = 60
    """How long after a swap its answers are watched, and the source stays loaded."""
    max_error_percent: Annotated[int, Field(ge=0, le=100)] = 5
    """Of the target's answers since the switch, how many may fail with a 5xx status."""
    min_requests: Annotated[int, Field(ge=1, le=1000000)] = 10
    """As long as the target has answered fewer, no share of failures tells anything."""
    keep_warm: Annotated[int, Field(ge=0, le=10)] = 1
    """How many former versions stay loaded."""


class ServiceType(StrEnum):
    """Type of the route's Service."""

    CLUSTER_IP = "ClusterIP"
    NODE_PORT = "NodePort"
    LOAD_BALANCER = "LoadBalancer"


class ServiceSpec(Resource):
    """The Service that clients use; it has the route's name."""

    type: ServiceType = ServiceType.CLUSTER_IP
    port: Annotated[int, Field(ge=1, le=65535)] = 80
    annotations: dict[str, Annotated[str, Field(max_length=4096)]] = Field(default_factory=dict, max_length=64)


class ModelRouteSpec(Resource):
    """Which version of which model the address leads to."""

    model_config = ConfigDict(json_schema_extra=rules(Rule("self.model == oldSelf.model", f"model {IMMUTABLE}")))

    model: ModelName
    version: Annotated[
        str,
        Field(
            min_length=1,
            max_length=128,
            json_schema_extra=rules(Rule(f"self.matches(r'{RANGE_PATTERN}')", RANGE_MESSAGE)),
        ),
    ]
    """Exact, or comparators: `>=1.2.0,<2.0.0` takes the highest version that is ready or can be loaded."""
    swap: SwapSpec = Field(default_factory=SwapSpec)
    rollback: RollbackSpec = Field(default_factory=RollbackSpec)
    history_limit: Annotated[int, Field(ge=1, le=100)] = 10
    service: ServiceSpec = Field(default_factory=ServiceSpec)


class SwapKind(StrEnum):
    """Swap: drain, then route. Rollback: route, then drain, to a version that served before."""

    SWAP = "Swap"
    ROLLBACK = "Rollback"


class SwapState(StrEnum):
    """Where a swap stands."""

    IDLE = "Idle"
    PREPARING = "Preparing"
    DRAINING = "Draining"
    SWAPPING = "Swapping"
    VERIFYING = "Verifying"
    COMPLETED = "Completed"
    FAILED = "Failed"


class SwapTrigger(StrEnum):
    """What a swap was begun for."""

    SPEC = "Spec"
    """The route's spec asks for the version."""
    ERROR_PERCENT = "ErrorPercent"
    """The source failed more requests than `rollback.maxErrorPercent` allows."""
    LOST_HEALTH = "LostHealth"
    """No serving pod of the source was well any more."""


class SwapStatus(Resource):
    """The running swap, or the last one."""

    id: str = ""
    kind: SwapKind = SwapKind.SWAP
    trigger: SwapTrigger = SwapTrigger.SPEC
    cause: Annotated[str, Field(max_length=32768)] = ""
    """Of an automatic rollback, in words."""
    strategy: SwapStrategy = SwapStrategy.DRAIN_THEN_ROUTE
    state: SwapState = SwapState.IDLE
    from_version: str = Field(default="", alias="from")
    """Source; empty when nothing was served before."""
    to_version: str = Field(default="", alias="to")
    """Target."""
    generation: int = 0
    """Of the spec that asked for it."""
    start_time: datetime | None = None
    drain_time: datetime | None = None
    """When the hold was first asked for."""
    switch_time: datetime | None = None
    """When the source's agents were first told to hand over: from here on there is no way back but a rollback."""
    end_time: datetime | None = None
    observe_until: datetime | None = None
    """Until then the target's answers are watched; absent when they are not, or no longer."""
    reason: str = ""
    """Of a failure, CamelCase, such as `DrainTimeout`, `TargetUnhealthy`."""
    target_requests_before: int = 0
    """What the target had answered when requests were switched to it."""
    target_errors_before: int = 0
    """Of these, failed."""
    message: Annotated[str, Field(max_length=32768)] = ""
    requests_drained: int = 0
    """Requests in flight on the source when it began to hold, that ended well before the hand-over."""
    requests_remaining: int = 0
    """Of these, still in flight at the end."""
    held_requests: int = 0
    """Requests that were kept waiting."""
    hold_seconds: float = 0
    """The longest that one request was kept waiting."""
    attempt: int = 1
    """Of this target for this spec."""


class HistoryEntry(Resource):
    """One swap or rollback that has ended."""

    id: str
    version: str
    from_version: str = Field(default="", alias="from")
    kind: SwapKind
    trigger: SwapTrigger = SwapTrigger.SPEC
    cause: Annotated[str, Field(max_length=32768)] = ""
    """Of an automatic rollback, in words."""
    start_time: datetime
    end_time: datetime
    result: SwapState
    message: Annotated[str, Field(max_length=32768)] = ""
    requests_drained: int = 0
    requests_remaining: int = 0


class RejectedVersion(Resource):
    """A version that the operator has led the route away from."""

    version: str
    reason: str
    """CamelCase: `ErrorPercent`, `LostHealth` or `TargetUnhealthy`."""
    message: Annotated[str, Field(max_length=32768)] = ""
    time: datetime
    key: str
    """Opaque. Holds until the route's spec, the version, or the version's annotation modelswap.dev/retry changes."""


class ModelRouteStatus(Resource):
    """What is observed, and where the swap stands."""

    observed_generation: int = 0
    conditions: Conditions
    current_version: str = ""
    target_version: str = ""
    pending_requests: int = 0
    """In flight and held, on all versions of the route, while a swap runs."""
    swap: SwapStatus = Field(default_factory=SwapStatus)
    history: Annotated[list[HistoryEntry], Field(default_factory=list, max_length=100)]
    """Newest first."""
    rejected: Annotated[list[RejectedVersion], Field(default_factory=list, max_length=100)]
    """Versions that the route does not lead to, whatever its spec asks for. Newest first."""


class ModelRoute(Resource):
    """A model's stable address: a Service of the same name, and the version behind it."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            Rule(
                "self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$') && size(self.metadata.name) <= 63",
                "metadata.name is the name of the route's Service: lower-case letters, digits and '-', "
                "beginning with a letter, at most 63",
            )
        ),
    )

    metadata: Metadata
    spec: ModelRouteSpec
    status: ModelRouteStatus = Field(default_factory=ModelRouteStatus)
