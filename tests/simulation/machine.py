"""What can happen around a route's plan, in any order, and what must hold whatever happens."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from modelswap.api.agent import TrafficMode
from modelswap.planning.assessment import assess
from modelswap.planning.candidates import has_well_pod
from modelswap.planning.needs import ACTIVE
from modelswap.planning.observed import ObservedRoute
from modelswap.planning.plan import Apply, Plan
from modelswap.planning.rejection import in_force
from modelswap.planning.routes import plan_route

from tests.simulation.world import VERSIONS, ConflictError, Operator, SimulatedAgent, World

ACTIVE_STATES = {state.value for state in ACTIVE}
FINAL = "1.1.0"
numbers = st.integers(min_value=0, max_value=11)
versions = st.sampled_from(VERSIONS)
replicas = st.integers(min_value=0, max_value=1)


class RouteMachine(RuleBasedStateMachine):
    """Two operators look, die, come back, and both think that they lead; specs, versions, pods, agents and requests
    change; writes fail, conflict, come late or twice."""

    steps = 0
    """Of all runs together."""

    @initialize(maximum=st.integers(1, 10), abort=st.booleans(), drain_first=st.booleans(), automatic=st.booleans())
    def begin(self, maximum: int, abort: bool, drain_first: bool, automatic: bool) -> None:
        swap = {
            "maxHoldSeconds": maximum,
            "onDrainTimeout": "Abort" if abort else "Proceed",
            "strategy": "DrainThenRoute" if drain_first else "RouteThenDrain",
        }
        spec = {"model": "iris", "version": "1.0.0", "swap": swap, "rollback": {"automatic": automatic}}
        self.world = World(spec=spec)
        self.operators = [Operator(), Operator()]

    # The user.

    @rule(version=st.sampled_from([*VERSIONS, ">=1.0.0,<2.0.0", "<2.0.0", "9.9.9"]))
    def spec_changes(self, version: str) -> None:
        self.world.ask(version=version)

    @rule(version=versions, count=st.integers(0, 2))
    def version_is_scaled(self, version: str, count: int) -> None:
        if version in self.world.resources:
            self.world.change_version(version, replicas=count)

    @rule(version=versions)
    def version_is_deleted(self, version: str) -> None:
        self.world.delete_version(version)

    @rule(version=versions)
    def version_is_created(self, version: str) -> None:
        self.world.create_version(version)

    # The cluster.

    @rule(seconds=st.sampled_from([0.01, 0.2, 1.0, 5.0, 40.0, 70.0]))
    def time_passes(self, seconds: float) -> None:
        self.world.elapse(seconds)

    @rule()
    def endpoints_follow(self) -> None:
        self.world.converge_endpoints()

    @rule(index=numbers, healthy=st.booleans())
    def pod_changes(self, index: int, healthy: bool) -> None:
        if agent := self._agent(index):
            agent.healthy = healthy

    @rule(index=numbers, reachable=st.booleans())
    def agent_changes(self, index: int, reachable: bool) -> None:
        if agent := self._agent(index):
            agent.reachable = reachable

    @rule(index=numbers)
    def pod_is_replaced(self, index: int) -> None:
        if agent := self._agent(index):
            self.world.replace_pod(agent.name)

    @rule(index=numbers, count=st.integers(0, 3))
    def requests_change(self, index: int, count: int) -> None:
        agent = self._agent(index)
        # New requests do not get past a hold, nor to the model of a pod that hands over.
        if agent and (count <= agent.in_flight or not (agent.holding or agent.mode is TrafficMode.HAND_OVER)):
            agent.in_flight = count

    @rule(index=numbers, good=st.integers(0, 30), bad=st.integers(0, 10))
    def requests_are_answered(self, index: int, good: int, bad: int) -> None:
        if agent := self._agent(index):
            agent.requests += good + bad
            agent.errors += bad

    # The operators.

    @rule(replica=replicas)
    def operator_sees(self, replica: int) -> None:
        self.world.see(self.operators[replica])

    @rule(replica=replicas, looks=st.integers(1, 6))
    def operator_looks(self, replica: int, looks: int) -> None:
        for _ in range(looks):
            self.look(replica)

    @rule(replica=replicas, writes=st.integers(0, 4))
    def operator_dies_after(self, replica: int, writes: int) -> None:
        self.look(replica, stop_after=writes)
        self.operators[replica] = self.world.restarted(self.operators[replica])

    @rule(replica=replicas, writes=st.integers(0, 4))
    def writes_fail_after(self, replica: int, writes: int) -> None:
        self.look(replica, stop_after=writes)

    @rule(replica=replicas)
    def writes_are_late(self, replica: int) -> None:
        self.look(replica, delayed=True)

    @precondition(lambda self: self.world.late)
    @rule(index=numbers, twice=st.booleans())
    def late_write_arrives(self, index: int, twice: bool) -> None:
        late = self.world.late
        write = late[index % len(late)] if twice else late.pop(index % len(late))
        write()

    def look(self, replica: int, *, stop_after: int | None = None, delayed: bool = False) -> None:
        world, operator = self.world, self.operators[replica]
        if operator.revision < 0:
            world.see(operator)
        observed = world.observe(operator)
        plan = plan_route(observed, world.now)
        self.judge(observed, plan)
        before = world.status
        try:
            world.carry_out(operator, plan, stop_after=stop_after, delayed=delayed)
        except ConflictError:
            world.see(operator)
        if world.status is not before:
            judge_change(before, world.status, world.spec.get("historyLimit", 10))

    def judge(self, observed: ObservedRoute, plan: Plan) -> None:
        """What a plan may do, by all that its operator has seen."""
        if plan.status is None:
            after = observed.route.status.model_dump(by_alias=True, mode="json", exclude_none=True)
        else:
            after = plan.status
        swap, old = after.get("swap", {}), observed.route.status.swap
        if swap.get("switchTime") and (old.switch_time is None or old.id != swap["id"]):
            assert assess(observed.versions[swap["to"]]).serving, "switched to a version that is not healthy"
        if swap.get("id", "") != old.id and swap.get("trigger") == "Spec":
            rejected = in_force(observed.route, observed.resource_of)
            assert swap["to"] not in rejected, "a rejected version was taken up again"
        current, was = after.get("currentVersion", ""), observed.route.status.current_version
        if current != was:
            assert has_well_pod(observed, current) or not has_well_pod(observed, was), f"led to the unhealthy {current}"
        for action in plan.actions:
            if isinstance(action, Apply):
                self.judge_selection(observed, action, after)

    def judge_selection(self, observed: ObservedRoute, action: Apply, after: dict[str, Any]) -> None:
        selected = action.manifest["spec"]["selector"]["modelswap.dev/model-version"].removeprefix("iris-")
        current = observed.route.status.current_version
        if selected in (current, after.get("currentVersion")):
            return
        assert after["swap"].get("switchTime"), f"routed to {selected} without a switch"
        assert selected == after["swap"]["to"], f"routed to {selected}, to which nothing is switched"

    # What must hold.

    @invariant()
    def holds_end_by_their_deadline(self) -> None:
        RouteMachine.steps += 1
        for agent in self.world.agents.values() if hasattr(self, "world") else ():
            if agent.deadline is not None:
                assert agent.deadline <= self.world.now + timedelta(seconds=self.world.spec["swap"]["maxHoldSeconds"])

    def teardown(self) -> None:
        """Once changes stop, the route converges: in one place, with nothing left over."""
        if not hasattr(self, "world"):
            return
        world = self.world
        for write in world.late:
            write()
        for version in VERSIONS:
            world.create_version(version)
            world.change_version(version, replicas=1)
        world.ask(version=FINAL)
        world.settle()
        status = world.status
        assert status["currentVersion"] == FINAL
        assert world.selected == f"iris-{FINAL}"
        assert world.answering() == f"iris-{FINAL}"
        assert status["rejected"] == []
        assert not any(agent.holding for agent in world.agents.values())
        others = [agent for agent in world.agents.values() if agent.version != f"iris-{FINAL}"]
        assert all(agent.mode is TrafficMode.HAND_OVER for agent in others), "a former version answers for itself"
        assert world.plan().empty, "a settled route writes nothing"

    def _agent(self, index: int) -> SimulatedAgent | None:
        agents = list(self.world.agents.values())
        return agents[index % len(agents)] if agents else None


def judge_change(before: dict[str, Any], after: dict[str, Any], limit: int) -> None:
    """What one write of a route's status may change."""
    old, new = before.get("swap", {}), after["swap"]
    ids = [entry["id"] for entry in after.get("history", [])]
    assert len(ids) == len(set(ids)), "a swap stands in the history twice"
    assert len(ids) <= limit
    if new.get("id") == old.get("id"):
        assert old.get("endTime") is None or new["endTime"] == old["endTime"], "a swap ended twice"
    else:
        assert old.get("state", "Idle") not in ACTIVE_STATES, "a swap began while another ran"
    if old.get("id") and old.get("endTime"):
        assert old["id"] in ids or len(ids) == limit, "a swap that ended is not in the history"
    if "Superseded" in new.get("message", ""):
        assert "switchTime" not in new, "a swap was cancelled after its switch"
