"""A cluster in memory, with virtual time: pods, agents that hold by themselves, a Service whose endpoints lag, and
operators that see what they have last heard of, and whose writes may be late, lost, or come twice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from modelswap.api.agent import HoldOutcome, HoldReport, TrafficMode, TrafficRequest
from modelswap.api.v1alpha1.model_route import ModelRoute
from modelswap.api.v1alpha1.model_version import ModelVersion
from modelswap.planning.observed import ObservedRoute, ProbeResult, RouteService, ServingPod
from modelswap.planning.plan import Action, Apply, Direct, Plan, Probe
from modelswap.planning.routes import plan_route

from tests.support.objects import NOW, child_of, meta, model_version, pod, report, serving

VERSIONS = ("1.0.0", "1.1.0", "2.0.0")
PODS = 2


class ConflictError(Exception):
    """The API server has a newer object than the writer has seen."""


@dataclass
class SimulatedAgent:
    """One agent: does as it is told, and releases a hold when its time is over."""

    name: str
    ip: str
    mode: TrafficMode = TrafficMode.LOCAL
    peers: tuple[str, ...] = ()
    upgraded_seconds: int | None = None
    hold_id: str = ""
    deadline: datetime | None = None
    outcome: HoldOutcome = HoldOutcome.RELEASED
    in_flight: int = 0
    at_start: int = 0
    healthy: bool = True
    reachable: bool = True
    requests: int = 0
    errors: int = 0

    @property
    def version(self) -> str:
        """Name of its ModelVersion."""
        return self.name.rpartition(".pod")[0]

    def direct(self, request: TrafficRequest, now: datetime) -> None:
        if not self.reachable:
            return
        self.elapse(now)
        if request.hold and request.hold.id != self.hold_id:
            self.hold_id, self.outcome = request.hold.id, HoldOutcome.HOLDING
            self.deadline = now + timedelta(seconds=request.hold.seconds)
            self.at_start = self.in_flight
        self.mode, self.peers, self.upgraded_seconds = request.mode, request.peers, request.upgraded_seconds
        if request.hold is None and self.deadline is not None:
            self.deadline, self.outcome = None, HoldOutcome.RELEASED

    def elapse(self, now: datetime) -> None:
        if self.deadline is not None and now >= self.deadline:
            self.deadline, self.outcome = None, HoldOutcome.EXPIRED

    @property
    def holding(self) -> bool:
        return self.deadline is not None

    def seen(self) -> ServingPod:
        hold = HoldReport(id=self.hold_id, outcome=self.outcome, in_flight_at_start=self.at_start)
        found = report(
            self.version,
            mode=self.mode,
            peers=self.peers,
            upgraded_seconds=self.upgraded_seconds,
            in_flight=self.in_flight,
            healthy=self.healthy,
            message="" if self.healthy else "sample inference answered badly",
            hold=hold if self.hold_id else None,
            request_count=self.requests,
            error_count=self.errors,
        )
        return pod(self.name, ip=self.ip, ready=self.healthy, report=found if self.reachable else None)


@dataclass
class Operator:
    """One replica: what it has last seen of the route."""

    status: dict[str, Any] = field(default_factory=dict)
    spec: dict[str, Any] = field(default_factory=dict)
    generation: int = 0
    revision: int = -1
    probe: ProbeResult | None = None


@dataclass
class World:
    """What there is."""

    spec: dict[str, Any]
    generation: int = 1
    now: datetime = NOW
    status: dict[str, Any] = field(default_factory=dict)
    revision: int = 0
    """Of the route: status and spec."""
    service: dict[str, Any] | None = None
    endpoints: frozenset[str] = frozenset()
    agents: dict[str, SimulatedAgent] = field(default_factory=dict)
    resources: dict[str, ModelVersion] = field(default_factory=dict)
    operator: Operator = field(default_factory=Operator)
    writes: int = 0
    late: list[Callable[[], None]] = field(default_factory=list)
    """Writes that are still on their way."""
    born: int = 0

    def __post_init__(self) -> None:
        for version in VERSIONS:
            self.resources[version] = model_version(version, replicas=PODS, kept=True)
            for _ in range(PODS):
                self.add_pod(version)

    @property
    def probe(self) -> ProbeResult | None:
        return self.operator.probe

    @probe.setter
    def probe(self, probe: ProbeResult | None) -> None:
        self.operator.probe = probe

    def add_pod(self, version: str) -> None:
        self.born += 1
        name = f"iris-{version}.pod{self.born}"
        self.agents[name] = SimulatedAgent(name, f"198.18.{self.born // 250}.{self.born % 250}")

    def of(self, version: str) -> list[SimulatedAgent]:
        return [agent for agent in self.agents.values() if agent.version == f"iris-{version}"]

    def ask(self, **spec: Any) -> None:
        """The user changes the route's spec."""
        self.spec = self.spec | spec
        self.generation += 1
        self.revision += 1

    def change_version(self, version: str, **spec: Any) -> None:
        """The user changes a version's spec; its pods follow at once."""
        generation = self.resources[version].metadata.generation + 1
        body = self.resources[version].model_dump(by_alias=True, mode="json", exclude_none=True)
        body["spec"] |= spec
        body["metadata"]["generation"] = generation
        self.resources[version] = ModelVersion.model_validate(body)
        wanted = self.resources[version].spec.replicas
        have = self.of(version)
        for agent in have[wanted:]:
            del self.agents[agent.name]
        for _ in range(wanted - len(have)):
            self.add_pod(version)

    def delete_version(self, version: str) -> None:
        self.resources.pop(version, None)
        for agent in self.of(version):
            del self.agents[agent.name]

    def create_version(self, version: str) -> None:
        if version not in self.resources:
            body = model_version(version, replicas=PODS, kept=True).model_dump(
                by_alias=True, mode="json", exclude_none=True
            )
            body["metadata"]["uid"] = f"uid-{version}-{self.born}"
            self.resources[version] = ModelVersion.model_validate(body)
            for _ in range(PODS):
                self.add_pod(version)

    def replace_pod(self, name: str) -> None:
        """A pod is deleted; its ReplicaSet makes another."""
        agent = self.agents.pop(name)
        self.add_pod(agent.version.removeprefix("iris-"))

    def see(self, operator: Operator | None = None) -> None:
        """An operator's watch brings it up to date with the route."""
        found = operator or self.operator
        found.status, found.spec = self.status, self.spec
        found.generation, found.revision = self.generation, self.revision

    def route(self, operator: Operator | None = None) -> ModelRoute:
        seen = operator or self.operator
        metadata = meta("iris", generation=seen.generation, resourceVersion=str(seen.revision))
        return ModelRoute.model_validate({"metadata": metadata, "spec": seen.spec, "status": seen.status})

    def observe(self, operator: Operator | None = None) -> ObservedRoute:
        versions = {
            version: serving(resource, *(a.seen() for a in self.of(version)), children=False)
            for version, resource in self.resources.items()
        }
        service = None
        if self.service is not None:
            child = child_of(self.service)
            service = RouteService(
                uid=child.uid,
                fingerprint=child.fingerprint,
                selected=self.selected,
                endpoints=self.endpoints,
                cluster_ip="198.19.0.5",
            )
        seen = operator or self.operator
        return ObservedRoute(route=self.route(seen), versions=versions, service=service, probe=seen.probe)

    @property
    def selected(self) -> str:
        return str(self.service["spec"]["selector"]["modelswap.dev/model-version"]) if self.service else ""

    def elapse(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)
        for agent in self.agents.values():
            agent.elapse(self.now)

    def converge_endpoints(self) -> None:
        """The endpoints follow the selector; until this is called they lag."""
        pods = [a for a in self.agents.values() if a.version == self.selected and a.healthy]
        self.endpoints = frozenset(a.ip for a in pods) if self.service else frozenset()

    def plan(self) -> Plan:
        """What an operator that has seen everything would do."""
        self.see()
        return plan_route(self.observe(), self.now)

    def operate(self, *, die_after: int | None = None) -> Plan:
        """An operator that has seen everything looks; it dies after so many writes."""
        plan = self.plan()
        self.carry_out(self.operator, plan, stop_after=die_after)
        return plan

    def carry_out(self, operator: Operator, plan: Plan, *, stop_after: int | None, delayed: bool = False) -> None:
        """Do what a plan says, as far as so many writes; with `delayed`, what follows the status comes late, or twice.

        Raises:
            ConflictError: the route is not any more as the operator has seen it.

        """
        left = len(plan.actions) + 1 if stop_after is None else stop_after
        if plan.status is not None:
            if left == 0:
                return
            if operator.revision != self.revision:
                raise ConflictError
            self.status = plan.status
            self.revision += 1
            self.see(operator)
            self.writes += 1
            left -= 1
        for action in plan.actions[:left]:
            write = partial(self._act, action, operator)
            if delayed:
                self.late.append(write)
            else:
                write()
            self.writes += 1

    def _act(self, action: Action, operator: Operator) -> None:
        match action:
            case Direct(pod=name, request=request):
                if name in self.agents:
                    self.agents[name].direct(request, self.now)
            case Apply(manifest=manifest):
                self.service = manifest
            case Probe():
                operator.probe = ProbeResult(answered=self.answering(), at=self.now)
            case _:
                raise AssertionError(f"a route's plan has no {action}")

    def answering(self) -> str:
        """The version that a new request through the address reaches."""
        for agent in self.agents.values():
            if agent.ip in self.endpoints:
                if agent.mode is TrafficMode.LOCAL:
                    return agent.version
                for other in self.agents.values():
                    if f"{other.ip}:8082" in agent.peers:
                        return other.version
        return ""

    def restarted(self, operator: Operator) -> Operator:
        """The replica after its process has ended: it has seen nothing yet."""
        return replace(operator, status={}, spec={}, generation=0, revision=-1, probe=None)

    def settle(self, *, looks: int = 400) -> None:
        """Everything is well, nothing changes any more: look until there is nothing to do."""
        for agent in self.agents.values():
            agent.healthy = agent.reachable = True
            agent.in_flight = 0
        self.settle_as_is(looks=looks)

    def settle_as_is(self, *, looks: int = 400) -> None:
        """Look until there is nothing to do."""
        for _ in range(looks):
            self.converge_endpoints()
            plan = self.operate()
            if plan.empty and not plan.requeue_after:
                return
            self.elapse(0.3 if plan.requeue_after is None else max(plan.requeue_after, 0.05))
        raise AssertionError(f"not settled after {looks} looks: {self.status}")
