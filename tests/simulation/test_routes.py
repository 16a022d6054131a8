"""A hundred thousand steps of whatever can happen to a route; `make simulate` takes more."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

from tests.simulation.machine import RouteMachine
from tests.simulation.world import World

STEPS = int(os.environ.get("MODELSWAP_SIMULATION_STEPS", "100000"))
STEPS_OF_A_RUN = 50


@pytest.mark.requirement("HS-8", "HS-7")
def test_whatever_happens_a_route_ends_where_it_should() -> None:
    RouteMachine.steps = 0
    case = RouteMachine.TestCase
    case.settings = settings(
        max_examples=STEPS // (STEPS_OF_A_RUN - 10),
        stateful_step_count=STEPS_OF_A_RUN,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    case().runTest()
    assert RouteMachine.steps >= STEPS


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
    world.ask(version="1.1.0")
    world.writes = 0
    while die_at is not None and world.writes < die_at:
        world.converge_endpoints()
        world.operate(die_after=die_at - world.writes)
        world.elapse(0.05)
        if world.status["swap"]["state"] == "Completed" and world.status["currentVersion"] == "1.1.0":
            break
    world.settle()
    return world
