"""Thousands of interleavings of a route's plan with everything that can happen around it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from modelswap.api.agent import TrafficMode
from modelswap.planning.needs import ACTIVE

from tests.simulation.world import VERSIONS, World

pods = st.integers(min_value=0, max_value=5)


class RouteMachine(RuleBasedStateMachine):
    """The operator looks, dies and comes back, while specs, pods, agents and requests change at any time."""

    @initialize(maximum=st.integers(1, 10), abort=st.booleans())
    def begin(self, maximum: int, abort: bool) -> None:
        swap = {"maxHoldSeconds": maximum, "onDrainTimeout": "Abort" if abort else "Proceed"}
        self.world = World(spec={"model": "iris", "version": "1.0.0", "swap": swap})
        self.last_swap: dict[str, Any] = {}

    @rule(version=st.sampled_from([*VERSIONS, ">=1.0.0,<2.0.0", "9.9.9"]))
    def spec_changes(self, version: str) -> None:
        self.world.spec = self.world.spec | {"version": version}
        self.world.generation += 1

    @rule(seconds=st.sampled_from([0.01, 0.2, 1.0, 5.0, 40.0]))
    def time_passes(self, seconds: float) -> None:
        self.world.elapse(seconds)

    @rule()
    def endpoints_follow(self) -> None:
        self.world.converge_endpoints()

    @rule(index=pods, healthy=st.booleans())
    def pod_changes(self, index: int, healthy: bool) -> None:
        list(self.world.agents.values())[index].healthy = healthy

    @rule(index=pods, reachable=st.booleans())
    def agent_changes(self, index: int, reachable: bool) -> None:
        list(self.world.agents.values())[index].reachable = reachable

    @rule(index=pods, count=st.integers(0, 3))
    def requests_change(self, index: int, count: int) -> None:
        agent = list(self.world.agents.values())[index]
        # New requests do not get past a hold, nor to the model of a pod that hands over.
        if count <= agent.in_flight or not (agent.holding or agent.mode is TrafficMode.HAND_OVER):
            agent.in_flight = count

    @rule(looks=st.integers(1, 6))
    def operator_looks(self, looks: int) -> None:
        for _ in range(looks):
            self.look(None)

    @rule(writes=st.integers(0, 4))
    def operator_dies_after(self, writes: int) -> None:
        self.look(writes)

    def look(self, die_after: int | None) -> None:
        world = self.world
        before, was_selected = dict(world.status.get("swap", {})), world.selected
        source = world.status.get("currentVersion", "")
        world.operate(die_after=die_after)
        if world.selected != was_selected and world.selected != f"iris-{source}":
            target = world.selected.removeprefix("iris-")
            back = world.status["swap"].get("state") == "Failed"
            ready = world.status["swap"].get("switchTime") is not None
            assert back or ready, f"routed to {target} without a switch"
        after = world.status.get("swap", {})
        if "Superseded" in after.get("message", ""):
            assert "switchTime" not in after, "a swap was cancelled after its switch"
        if before and after.get("id") != before["id"]:
            assert before["state"] not in {state.value for state in ACTIVE}, "a swap began while another ran"

    @invariant()
    def holds_end_by_their_deadline(self) -> None:
        for agent in getattr(self, "world", World(spec={})).agents.values():
            if agent.deadline is not None:
                assert agent.deadline <= self.world.now + timedelta(seconds=self.world.spec["swap"]["maxHoldSeconds"])

    @invariant()
    def history_tells_every_swap_once(self) -> None:
        world = getattr(self, "world", None)
        if world is not None:
            ids = [entry["id"] for entry in world.status.get("history", [])]
            assert len(ids) == len(set(ids))

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        self.world.spec = self.world.spec | {"version": "1.1.0"}
        self.world.generation += 1
        self.world.settle()
        assert self.world.status["currentVersion"] == "1.1.0"
        assert self.world.selected == "iris-1.1.0"
        assert self.world.answering() == "iris-1.1.0"
        assert not any(agent.holding for agent in self.world.agents.values())
        assert self.world.plan().empty, "a settled route writes nothing"


RouteMachine.TestCase.settings = settings(max_examples=400, stateful_step_count=60, deadline=None)
TestRoutes = pytest.mark.requirement("HS-8")(RouteMachine.TestCase)


def test_dying_after_every_single_write_ends_in_the_same_place() -> None:
    whole = settled_swap(die_at=None)
    for die_at in range(whole.writes + 1):
        world = settled_swap(die_at=die_at)
        assert world.selected == whole.selected
        assert world.status["currentVersion"] == "1.1.0"
        assert [e["result"] for e in world.status["history"]] == ["Completed", "Completed"]


def settled_swap(*, die_at: int | None) -> World:
    """A swap from 1.0.0 to 1.1.0 whose operator dies once, after so many writes."""
    world = World(spec={"model": "iris", "version": "1.0.0"})
    world.settle()
    world.spec = world.spec | {"version": "1.1.0"}
    world.generation += 1
    world.writes = 0
    while die_at is not None and world.writes < die_at:
        world.converge_endpoints()
        world.operate(die_after=die_at - world.writes)
        world.elapse(0.05)
        if world.status["swap"]["state"] == "Completed" and world.status["currentVersion"] == "1.1.0":
            break
    world.settle()
    return world
