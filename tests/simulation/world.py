"""A cluster in memory, with virtual time: pods, agents that hold by themselves, a Service whose endpoints lag."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from modelswap.api.agent import HoldOutcome, HoldReport, TrafficMode, TrafficRequest
from modelswap.api.v1alpha1.model_route import ModelRoute
from modelswap.planning.observed import ObservedRoute, ProbeResult, RouteService, ServingPod
from modelswap.planning.plan import Action, Apply, Direct, Plan, Probe
from modelswap.planning.routes import plan_route

from tests.support.objects import NOW, child_of, meta, model_version, pod, report, serving

VERSIONS = ("1.0.0", "1.1.0", "2.0.0")
PODS = 2


@dataclass
class SimulatedAgent:
    """One agent: does as it is told, and releases a hold when its time is over."""

    name: str
    ip: str
    mode: TrafficMode = TrafficMode.LOCAL
    peers: tuple[str, ...] = ()
    hold_id: str = ""
    deadline: datetime | None = None
    outcome: HoldOutcome = HoldOutcome.RELEASED
    in_flight: int = 0
    at_start: int = 0
    healthy: bool = True
    reachable: bool = True

    def direct(self, request: TrafficRequest, now: datetime) -> None:
        self.elapse(now)
        if request.hold and request.hold.id != self.hold_id:
            self.hold_id, self.outcome = request.hold.id, HoldOutcome.HOLDING
            self.deadline = now + timedelta(seconds=request.hold.seconds)
            self.at_start = self.in_flight
        self.mode, self.peers = request.mode, request.peers
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
            self.name.rpartition(".pod")[0],
            mode=self.mode,
            peers=self.peers,
            in_flight=self.in_flight,
            healthy=self.healthy,
            hold=hold if self.hold_id else None,
        )
        return pod(self.name, ip=self.ip, ready=self.healthy, report=found if self.reachable else None)


@dataclass
class World:
    """What there is, and one operator that may die between any two writes."""

    spec: dict[str, Any]
    generation: int = 1
    now: datetime = NOW
    status: dict[str, Any] = field(default_factory=dict)
    service: dict[str, Any] | None = None
    endpoints: frozenset[str] = frozenset()
    probe: ProbeResult | None = None
    agents: dict[str, SimulatedAgent] = field(default_factory=dict)
    writes: int = 0
    statuses: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        for index, version in enumerate(VERSIONS):
            for number in range(PODS):
                name = f"iris-{version}.pod{number}"
                self.agents[name] = SimulatedAgent(name, f"198.18.{index}.{number}")

    def of(self, version: str) -> list[SimulatedAgent]:
        return [agent for agent in self.agents.values() if agent.name.startswith(f"iris-{version}.")]

    def route(self) -> ModelRoute:
        body = {"metadata": meta("iris", generation=self.generation), "spec": self.spec, "status": self.status}
        return ModelRoute.model_validate(body)

    def observe(self) -> ObservedRoute:
        versions = {v: serving(model_version(v, replicas=PODS), *(a.seen() for a in self.of(v))) for v in VERSIONS}
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
        return ObservedRoute(route=self.route(), versions=versions, service=service, probe=self.probe)

    @property
    def selected(self) -> str:
        return str(self.service["spec"]["selector"]["modelswap.dev/model-version"]) if self.service else ""

    def elapse(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)
        for agent in self.agents.values():
            agent.elapse(self.now)

    def converge_endpoints(self) -> None:
        """The endpoints follow the selector; until this is called they lag."""
        pods = [a for a in self.agents.values() if a.name.startswith(f"{self.selected}.") and a.healthy]
        self.endpoints = frozenset(a.ip for a in pods) if self.service else frozenset()

    def plan(self) -> Plan:
        return plan_route(self.observe(), self.now)

    def operate(self, *, die_after: int | None = None) -> Plan:
        """One look; the operator dies after so many writes."""
        plan = self.plan()
        left = len(plan.actions) + 1 if die_after is None else die_after
        if plan.status is not None:
            if left == 0:
                return plan
            self.status = plan.status
            self.statuses.append(plan.status)
            self.writes += 1
            left -= 1
        for action in plan.actions[:left]:
            self._act(action)
            self.writes += 1
        return plan

    def _act(self, action: Action) -> None:
        match action:
            case Direct(pod=name, request=request):
                if self.agents[name].reachable:
                    self.agents[name].direct(request, self.now)
            case Apply(manifest=manifest):
                self.service = manifest
            case Probe():
                answered = self.answering()
                self.probe = ProbeResult(answered=answered, at=self.now)
            case _:
                raise AssertionError(f"a route's plan has no {action}")

    def answering(self) -> str:
        """The version that a new request through the address reaches."""
        for agent in self.agents.values():
            if agent.ip in self.endpoints:
                if agent.mode is TrafficMode.LOCAL:
                    return agent.name.rpartition(".pod")[0]
                for other in self.agents.values():
                    if f"{other.ip}:8082" in agent.peers:
                        return other.name.rpartition(".pod")[0]
        return ""

    def settle(self, *, looks: int = 400) -> None:
        """Everything is well, nothing changes any more: look until there is nothing to do."""
        for agent in self.agents.values():
            agent.healthy = agent.reachable = True
            agent.in_flight = 0
        for _ in range(looks):
            self.converge_endpoints()
            plan = self.operate()
            if plan.empty and not plan.requeue_after:
                return
            self.elapse(0.3 if plan.requeue_after is None else max(plan.requeue_after, 0.05))
        raise AssertionError(f"not settled after {looks} looks: {self.status}")
