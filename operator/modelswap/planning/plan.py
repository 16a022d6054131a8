"""What a planner wants done: data only, each with its reason."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from modelswap.api.agent import TrafficRequest

Manifest = dict[str, Any]


@dataclass(frozen=True)
class Apply:
    """Bring a child into being, or into shape, by server-side apply."""

    manifest: Manifest
    reason: str
    exists: bool
    """Whether it has been observed; if not, it is created, so that another's object of that name is not taken over."""


@dataclass(frozen=True)
class Delete:
    """Remove a child."""

    kind: str
    namespace: str
    name: str
    uid: str
    reason: str


@dataclass(frozen=True)
class IssueCertificate:
    """Make the Secret with the agents' certificate of a ModelVersion; the key is not the planner's to know."""

    manifest: Manifest
    server_name: str
    reason: str
    exists: bool


@dataclass(frozen=True)
class Direct:
    """Tell an agent where its requests go."""

    pod: str
    """Name of the pod."""
    request: TrafficRequest
    reason: str


@dataclass(frozen=True)
class Probe:
    """Send a request through the route's Service and note which version answered."""

    expected: str
    """Name of the ModelVersion that should answer."""


@dataclass(frozen=True)
class SetFinalizer:
    """Put our finalizer on the root object, or take it off; those of others stay."""

    finalizer: str
    present: bool
    reason: str


@dataclass(frozen=True)
class Event:
    """A Kubernetes event on the root object."""

    reason: str
    message: str
    warning: bool = False


Action = Apply | Delete | IssueCertificate | Direct | Probe | SetFinalizer


@dataclass(frozen=True)
class Plan:
    """What to do about one root object. The status is written first, then the actions are carried out in order."""

    status: Manifest | None = None
    """The new status, or None when it is as it was."""
    actions: tuple[Action, ...] = ()
    events: tuple[Event, ...] = ()
    requeue_after: float | None = None
    """Seconds until the plan should be made again even if nothing is heard."""

    @property
    def empty(self) -> bool:
        """Nothing to write and nobody to call."""
        return self.status is None and not self.actions and not self.events
