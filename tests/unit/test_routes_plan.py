from __future__ import annotations

from typing import Any

import pytest
from modelswap.api.agent import TrafficMode
from modelswap.api.v1alpha1.model_version import ModelVersionStatus
from modelswap.planning.observed import ProbeResult
from modelswap.planning.plan import Apply, Direct, Plan, Probe

from tests.simulation.world import World


def served(version: str = "1.0.0", **spec: Any) -> World:
    world = World(spec={"model": "iris", "version": version, **spec})
    world.settle()
    assert world.status["currentVersion"] == version
    return world


def ask(world: World, version: str) -> None:
    world.ask(version=version)


def look(world: World, times: int = 1) -> Plan:
    plan = world.operate()
    for _ in range(times - 1):
        plan = world.operate()
    return plan


def condition(world: World, type_: str) -> dict[str, Any]:
    found: dict[str, Any] = next(c for c in world.status["conditions"] if c["type"] == type_)
    return found


def look_until(world: World, state: str) -> None:
    for _ in range(20):
        if world.status["swap"]["state"] == state:
            return
        world.operate()
    raise AssertionError(f"never {state}: {world.status['swap']}")


@pytest.mark.requirement("HS-1")
def test_a_swap_holds_then_hands_over_then_selects() -> None:
    world = served()
    world.of("1.0.0")[0].in_flight = 2
    ask(world, "1.1.0")
    look_until(world, "Draining")
    look(world)
    assert all(agent.holding for agent in world.of("1.0.0"))
    assert world.selected == "iris-1.0.0"
    look(world, 5)
    assert world.status["swap"]["state"] == "Draining", "requests are in flight"
    world.of("1.0.0")[0].in_flight = 0
    look_until(world, "Swapping")
    while not all(a.mode is TrafficMode.HAND_OVER for a in world.of("1.0.0")):
        assert world.selected == "iris-1.0.0", "the Service follows the hand-over"
        look(world)
    world.settle()
    assert world.status["swap"]["state"] == "Completed"
    assert world.status["swap"]["requestsDrained"] == 2
    assert world.status["history"][0]["result"] == "Completed"


@pytest.mark.requirement("HS-3")
def test_a_rollback_routes_before_it_drains() -> None:
    world = served()
    ask(world, "1.1.0")
    world.settle()
    for agent in world.of("1.1.0"):
        agent.in_flight = 3
    ask(world, "1.0.0")
    look_until(world, "Draining")
    assert world.status["swap"]["kind"] == "Rollback"
    assert world.selected == "iris-1.0.0"
    assert not any(agent.holding for agent in world.agents.values())
    world.settle()
    assert world.status["currentVersion"] == "1.0.0"


@pytest.mark.requirement("HS-5")
def test_a_drain_that_takes_too_long_proceeds_and_counts_what_remains() -> None:
    world = served(swap={"maxHoldSeconds": 2, "drainTimeoutSeconds": 4, "onDrainTimeout": "Proceed"})
    world.of("1.0.0")[0].in_flight = 1
    ask(world, "1.1.0")
    look_until(world, "Draining")
    look(world)
    world.elapse(1.6)
    look_until(world, "Verifying")
    world.converge_endpoints()
    look(world, 3)
    assert world.status["swap"]["state"] == "Verifying", "the last request still has time"
    world.elapse(5)
    look(world, 3)
    assert world.status["swap"]["state"] == "Completed"
    assert world.status["swap"]["requestsRemaining"] == 1


@pytest.mark.requirement("HS-5")
def test_a_drain_that_takes_too_long_can_abort_and_the_source_serves_on() -> None:
    world = served(swap={"maxHoldSeconds": 2, "onDrainTimeout": "Abort"})
    world.of("1.0.0")[0].in_flight = 1
    ask(world, "1.1.0")
    look_until(world, "Draining")
    look(world)
    world.elapse(1.6)
    look_until(world, "Failed")
    assert "DrainTimeout" in world.status["swap"]["message"]
    assert not any(agent.holding for agent in world.agents.values())
    assert world.selected == "iris-1.0.0"
    assert condition(world, "Healthy")["status"] == "True"
    look(world, 5)
    assert world.status["swap"]["attempt"] == 1, "it waits before it tries again"
    world.of("1.0.0")[0].in_flight = 0
    world.elapse(31)
    world.settle()
    assert world.status["currentVersion"] == "1.1.0"
    assert world.status["swap"]["attempt"] == 2


@pytest.mark.requirement("HS-7")
def test_a_version_that_does_not_exist_is_refused_and_what_serves_goes_on() -> None:
    world = served()
    ask(world, "9.9.9")
    plan = look(world)
    assert condition(world, "Stalled")["reason"] == "VersionNotFound"
    assert "iris-9.9.9" in condition(world, "Stalled")["message"]
    assert "2.0.0, 1.1.0, 1.0.0" in condition(world, "Stalled")["message"]
    assert condition(world, "Healthy")["status"] == "True"
    assert any(event.warning for event in plan.events)
    assert look(world).empty


@pytest.mark.requirement("HS-7")
def test_an_unhealthy_target_is_never_routed() -> None:
    world = served()
    for agent in world.of("1.1.0"):
        agent.healthy = False
    ask(world, "1.1.0")
    look(world, 10)
    assert world.status["swap"]["state"] == "Preparing"
    assert world.selected == "iris-1.0.0"
    assert not any(agent.holding for agent in world.agents.values())


def test_a_target_whose_agents_cannot_be_told_is_not_routed_yet() -> None:
    world = served()
    for agent in world.of("1.1.0"):
        agent.reachable = False
    ask(world, "1.1.0")
    look(world, 5)
    assert world.status["swap"]["state"] == "Preparing"
    assert "waiting to hear of its agents" in world.status["swap"]["message"]
    world.settle()
    assert world.status["currentVersion"] == "1.1.0"


def test_an_operator_that_has_heard_of_no_agent_leaves_a_settled_route_alone() -> None:
    world = served()
    for agent in world.agents.values():
        agent.reachable = False
    assert world.plan().empty


@pytest.mark.requirement("HS-7")
def test_a_target_that_falls_ill_while_requests_drain_releases_them_to_the_source() -> None:
    world = served()
    world.of("1.0.0")[0].in_flight = 1
    ask(world, "1.1.0")
    look_until(world, "Draining")
    look(world)
    world.of("1.1.0")[0].healthy = False
    look_until(world, "Failed")
    assert "TargetUnhealthy" in world.status["swap"]["message"]
    assert not any(agent.holding for agent in world.agents.values())
    assert world.selected == "iris-1.0.0"


@pytest.mark.requirement("HS-8")
def test_a_newer_spec_cancels_a_swap_before_its_switch() -> None:
    world = served()
    world.of("1.0.0")[0].in_flight = 1
    ask(world, "1.1.0")
    look_until(world, "Draining")
    look(world)
    ask(world, "2.0.0")
    look(world)
    assert world.status["swap"]["state"] == "Failed"
    assert "Superseded" in world.status["swap"]["message"]
    world.settle()
    assert world.status["currentVersion"] == "2.0.0"


@pytest.mark.requirement("HS-8")
def test_a_newer_spec_waits_once_the_switch_has_begun() -> None:
    world = served()
    ask(world, "1.1.0")
    look_until(world, "Swapping")
    ask(world, "2.0.0")
    world.settle()
    assert world.status["currentVersion"] == "2.0.0"
    told = [(entry["version"], entry["result"]) for entry in world.status["history"]]
    assert told == [("2.0.0", "Completed"), ("1.1.0", "Completed"), ("1.0.0", "Completed")]


def test_the_same_version_is_no_swap() -> None:
    world = served()
    ask(world, ">=1.0.0,<1.1.0")
    world.settle()
    assert len(world.status["history"]) == 1


def test_a_range_takes_the_highest_version() -> None:
    world = served("1.0.0")
    ask(world, ">=1.0.0,<2.0.0")
    world.settle()
    assert world.status["currentVersion"] == "1.1.0"


@pytest.mark.requirement("HS-6")
def test_a_settled_route_writes_nothing() -> None:
    world = served()
    plan = world.plan()
    assert plan.empty
    assert plan.requeue_after is None


def test_a_changed_selector_is_put_right() -> None:
    world = served()
    assert world.service is not None
    world.service["spec"]["selector"]["modelswap.dev/model-version"] = "iris-2.0.0"
    plan = world.plan()
    assert [type(action) for action in plan.actions] == [Apply]


def test_a_pod_of_a_former_version_that_comes_back_hands_over() -> None:
    world = served()
    ask(world, "1.1.0")
    world.settle()
    fresh = world.of("1.0.0")[0]
    fresh.mode, fresh.peers = TrafficMode.LOCAL, ()
    assert [a.pod for a in world.plan().actions if isinstance(a, Direct)] == [fresh.name]


def test_the_address_is_not_asked_faster_than_it_may_change() -> None:
    world = served()
    ask(world, "1.1.0")
    look_until(world, "Verifying")
    world.converge_endpoints()
    assert any(isinstance(a, Probe) for a in world.plan().actions)
    world.probe = ProbeResult(answered="iris-1.0.0", at=world.now)
    soon = world.plan()
    assert not any(isinstance(a, Probe) for a in soon.actions)
    assert soon.requeue_after == pytest.approx(0.25)
    world.elapse(0.3)
    assert any(isinstance(a, Probe) for a in world.plan().actions)


@pytest.mark.requirement("VM-2")
def test_a_swap_waits_for_a_target_that_might_vanish() -> None:
    world = served()
    kept = world.resources["1.1.0"]
    loose = kept.metadata.model_copy(update={"finalizers": ()})
    world.resources["1.1.0"] = kept.model_copy(update={"metadata": loose})
    ask(world, "1.1.0")
    look(world, 10)
    assert world.status["swap"]["state"] == "Preparing"
    assert "kept from being unloaded" in world.status["swap"]["message"]
    going = {"type": "Reconciling", "status": "True", "reason": "Removing", "lastTransitionTime": world.now.isoformat()}
    status = ModelVersionStatus.model_validate({"conditions": [going]})
    world.resources["1.1.0"] = kept.model_copy(update={"status": status})
    look(world, 10)
    assert world.status["swap"]["state"] == "Preparing"
    assert "loaded afresh" in world.status["swap"]["message"]
    world.resources["1.1.0"] = kept
    world.settle()
    assert world.status["currentVersion"] == "1.1.0"
