"""When a route leads back by itself, and what it then refuses."""

from __future__ import annotations

from typing import Any

import pytest
from modelswap.planning.needs import needed
from modelswap.planning.registry import Versions

from tests.simulation.world import World

from .test_routes_plan import ask, condition, look, look_until, served


def swapped(version: str = "1.1.0", **spec: Any) -> World:
    """From 1.0.0 to another version, just now."""
    world = served(**spec)
    ask(world, version)
    while world.status["currentVersion"] != version or world.status["swap"]["state"] != "Completed":
        world.converge_endpoints()
        look(world)
        world.elapse(0.05)
    return world


def answers(world: World, version: str, good: int, bad: int) -> None:
    agent = world.of(version)[0]
    agent.requests += good + bad
    agent.errors += bad


def break_(world: World, version: str) -> None:
    for agent in world.of(version):
        agent.healthy = False


def look_on(world: World, times: int = 40) -> None:
    for _ in range(times):
        world.converge_endpoints()
        look(world)
        world.elapse(0.1)


@pytest.mark.requirement("HS-3")
def test_a_version_that_fails_too_many_requests_is_left_and_rejected() -> None:
    world = swapped()
    answers(world, "1.1.0", good=90, bad=10)
    plan = look(world)
    assert [event.reason for event in plan.events] == ["AutomaticRollback"]
    look_on(world)
    status = world.status
    assert status["currentVersion"] == "1.0.0"
    assert world.selected == "iris-1.0.0"
    swap = status["swap"]
    assert (swap["kind"], swap["trigger"], swap["state"]) == ("Rollback", "ErrorPercent", "Completed")
    assert "10 of 100 requests (10.0 %)" in swap["cause"]
    assert [(entry["version"], entry["reason"]) for entry in status["rejected"]] == [("1.1.0", "ErrorPercent")]
    stalled = condition(world, "Stalled")
    assert stalled["reason"] == "Rejected"
    assert "iris-1.1.0 was turned away (ErrorPercent)" in stalled["message"]
    assert "iris-1.0.0 serves" in stalled["message"]
    assert condition(world, "Healthy")["status"] == "True"
    assert world.spec["version"] == "1.1.0", "the spec is the user's"
    assert world.plan().empty


@pytest.mark.parametrize(
    ("good", "bad", "rollback"),
    [
        (95, 5, {}),
        (0, 9, {}),
        (0, 50, {"maxErrorPercent": 100}),
        (0, 50, {"automatic": False}),
        (0, 50, {"observeSeconds": 0}),
    ],
)
def test_what_may_fail_is_the_users_to_say(good: int, bad: int, rollback: dict[str, Any]) -> None:
    world = swapped(rollback=rollback)
    answers(world, "1.1.0", good, bad)
    look_on(world)
    assert world.status["currentVersion"] == "1.1.0"


def test_errors_before_the_switch_and_after_the_observation_do_not_count() -> None:
    world = served()
    answers(world, "1.1.0", good=0, bad=50)
    ask(world, "1.1.0")
    look_on(world)
    assert world.status["currentVersion"] == "1.1.0"
    assert "observeUntil" in world.status["swap"]
    world.elapse(60)
    look(world)
    assert "observeUntil" not in world.status["swap"]
    answers(world, "1.1.0", good=0, bad=500)
    look_on(world)
    assert world.status["currentVersion"] == "1.1.0"


@pytest.mark.requirement("HS-3")
def test_a_version_that_loses_its_health_soon_after_the_swap_is_left_at_once() -> None:
    world = swapped()
    break_(world, "1.1.0")
    look(world)
    assert world.status["swap"]["trigger"] == "LostHealth"
    look_on(world)
    assert world.status["currentVersion"] == "1.0.0"
    assert "sample inference answered badly" in world.status["rejected"][0]["message"]


@pytest.mark.requirement("MM-5")
def test_a_version_that_has_proven_itself_gets_time_to_recover() -> None:
    world = swapped()
    world.elapse(61)
    look_on(world)
    break_(world, "1.1.0")
    look_on(world)
    assert world.status["currentVersion"] == "1.1.0"
    world.elapse(31)
    look_on(world)
    assert world.status["currentVersion"] == "1.0.0"


def test_a_pod_that_is_only_new_is_no_lost_health() -> None:
    world = swapped()
    for agent in list(world.of("1.1.0")):
        world.replace_pod(agent.name)
    for agent in world.of("1.1.0"):
        agent.reachable = agent.healthy = False
    world.elapse(45)
    look_on(world)
    assert world.status["currentVersion"] == "1.1.0"


@pytest.mark.parametrize("change", ["spec", "version"])
def test_a_change_tries_a_rejected_version_again(change: str) -> None:
    world = swapped()
    answers(world, "1.1.0", good=0, bad=50)
    look_on(world)
    assert world.status["currentVersion"] == "1.0.0"
    if change == "spec":
        world.ask(historyLimit=20)
    else:
        world.change_version("1.1.0", sample={"request": {"path": "/v2/models/iris/infer"}})
    look_on(world)
    assert world.status["currentVersion"] == "1.1.0"
    assert world.status["rejected"] == []


def test_a_rejection_that_a_change_has_lifted_does_not_come_back_by_itself() -> None:
    world = swapped()
    answers(world, "1.1.0", good=0, bad=50)
    look_on(world)
    world.change_version("1.1.0", replicas=0)
    look_on(world)
    assert world.status["rejected"] == []
    assert condition(world, "Stalled")["reason"] == "TargetScaledToZero"


def test_a_range_takes_the_next_best_of_what_is_not_rejected() -> None:
    world = served("1.0.0")
    world.ask(version=">=1.0.0,<3.0.0")
    look_on(world)
    assert world.status["currentVersion"] == "2.0.0"
    answers(world, "2.0.0", good=0, bad=50)
    look_on(world)
    assert world.status["currentVersion"] == "1.1.0"
    assert [entry["version"] for entry in world.status["history"]] == ["1.1.0", "1.0.0", "2.0.0", "1.0.0"]
    assert condition(world, "Ready")["status"] == "True"


def test_what_the_user_asks_for_now_goes_before_an_automatic_rollback() -> None:
    world = swapped()
    break_(world, "1.1.0")
    ask(world, "2.0.0")
    look_on(world)
    assert world.status["currentVersion"] == "2.0.0"
    assert world.status["rejected"] == []


def test_an_automatic_rollback_whose_version_recovers_first_is_dropped() -> None:
    world = swapped()
    break_(world, "1.1.0")
    break_(world, "1.0.0")
    look_on(world)
    assert world.status["swap"]["trigger"] == "LostHealth"
    assert world.status["swap"]["state"] == "Preparing"
    for agent in world.of("1.1.0"):
        agent.healthy = True
    look_on(world)
    assert world.status["swap"]["message"].startswith("Recovered: ")
    assert world.status["currentVersion"] == "1.1.0"
    assert world.status["rejected"] == []
    assert condition(world, "Ready")["status"] == "True"


def test_the_former_version_stays_loaded_while_answers_are_watched() -> None:
    world = swapped(rollback={"keepWarm": 0})
    versions = Versions.of(world.resources.values())
    assert needed(world.route(), versions) == {"1.0.0", "1.1.0"}
    world.elapse(61)
    look_on(world)
    assert needed(world.route(), versions) == {"1.1.0"}


def test_a_rejected_version_is_not_kept_warm() -> None:
    world = swapped()
    answers(world, "1.1.0", good=0, bad=50)
    look_on(world)
    assert needed(world.route(), Versions.of(world.resources.values())) == {"1.0.0"}


@pytest.mark.requirement("HS-7")
@pytest.mark.parametrize("state", ["Swapping", "Verifying"])
def test_a_target_that_is_lost_after_the_switch_ends_in_the_source_serving(state: str) -> None:
    world = served()
    ask(world, "1.1.0")
    look_until(world, state)
    break_(world, "1.1.0")
    look_on(world)
    assert world.status["currentVersion"] == "1.0.0"
    assert world.selected == "iris-1.0.0"
    assert world.status["swap"]["message"].startswith("TargetUnhealthy: ")
    assert condition(world, "Stalled")["reason"] == "Rejected"
    assert world.answering() == "iris-1.0.0"


@pytest.mark.requirement("HS-7")
@pytest.mark.parametrize("state", ["Preparing", "Draining", "Swapping", "Verifying"])
@pytest.mark.parametrize("what", ["deleted", "scaled to zero", "unloaded"])
def test_a_target_that_goes_at_any_step_ends_in_the_source_serving(state: str, what: str) -> None:
    world = served()
    world.of("1.0.0")[0].in_flight = 1
    for agent in world.of("1.1.0"):
        agent.healthy = state != "Preparing"
    ask(world, "1.1.0")
    look_until(world, "Preparing" if state == "Preparing" else "Draining")
    if state in ("Swapping", "Verifying"):
        world.of("1.0.0")[0].in_flight = 0
        look_until(world, state)
    match what:
        case "deleted":
            world.delete_version("1.1.0")
        case "scaled to zero":
            world.change_version("1.1.0", replicas=0)
        case _:
            world.change_version("1.1.0", load={"state": "Unloaded"})
            for agent in world.of("1.1.0"):
                del world.agents[agent.name]
    world.of("1.0.0")[0].in_flight = 0
    look_on(world)
    assert world.status["currentVersion"] == "1.0.0"
    assert world.status["swap"]["state"] == "Failed"
    assert world.answering() == "iris-1.0.0"
    assert condition(world, "Stalled")["status"] == "True"
    assert not any(agent.holding for agent in world.agents.values())


@pytest.mark.requirement("HS-3")
def test_route_then_drain_switches_while_requests_are_in_flight() -> None:
    world = served(swap={"strategy": "RouteThenDrain"})
    world.of("1.0.0")[0].in_flight = 2
    ask(world, "1.1.0")
    look_until(world, "Draining")
    assert world.selected == "iris-1.1.0"
    assert world.status["currentVersion"] == "1.1.0"
    assert not any(agent.holding for agent in world.agents.values())
    assert world.status["swap"]["kind"] == "Swap"
    world.of("1.0.0")[0].in_flight = 0
    look_on(world)
    assert world.status["swap"]["state"] == "Completed"
    assert world.status["swap"]["requestsDrained"] == 2
