from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from modelswap.api.agent import FetchResult
from modelswap.api.v1alpha1.model_version import ModelVersion
from modelswap.planning.observed import ContainerState, ObservedVersion, ServingVersion
from modelswap.planning.registry import Versions
from modelswap.planning.versions import plan_version
from modelswap.plugin.explanation import Explanation, explain_route, explain_version

from tests.simulation.world import World
from tests.support.objects import DEFAULTS, NOW, model_route, model_version, pod, report, serving

LATER = NOW + timedelta(minutes=3)


def seen(version: ServingVersion, *routes: Any) -> ModelVersion:
    """The ModelVersion once the operator has looked at it."""
    observed = ObservedVersion(version=version, routes=routes, siblings=Versions.of([version.resource]))
    body = version.resource.model_dump(by_alias=True, mode="json", exclude_none=True)
    return ModelVersion.model_validate(body | {"status": plan_version(observed, DEFAULTS, NOW).status})


def told(version: ServingVersion, *routes: Any) -> Explanation:
    return explain_version(seen(version, *routes), LATER)


def facts(explanation: Explanation) -> dict[str, str]:
    return dict(explanation.facts)


def broken() -> ServingVersion:
    result = FetchResult(reason="ChecksumMismatch", message="the sha256 of s3://x is aa, but …", permanent=True)
    state = ContainerState(exit_code=1, exit_reason="Error", ended_at=NOW)
    return serving(
        model_version("1.0.0"), pod("iris-1.0.0.pod0", ready=False, report=None, fetch=state, fetched=result)
    )


@pytest.mark.requirement("MM-14")
def test_what_nobody_has_looked_at_points_to_the_operator() -> None:
    explanation = explain_version(model_version("1.0.0"), LATER)
    assert "unseen by the operator" in explanation.headline
    assert "watchNamespaces" in explanation.next_step


@pytest.mark.requirement("MM-14")
def test_a_version_that_rests_says_how_it_would_be_loaded() -> None:
    explanation = told(serving(model_version("1.0.0"), children=False))
    assert explanation.headline == "ModelVersion iris-1.0.0 is as its spec asks: Registered."
    assert facts(explanation)["loaded"] == "needed by no route; spec.load.state is Auto"
    assert "Lead a route to it" in explanation.next_step


@pytest.mark.requirement("MM-14")
def test_a_version_that_was_given_up_tells_its_failures_and_how_to_try_again() -> None:
    explanation = told(broken(), model_route("1.0.0"))
    assert explanation.headline == "ModelVersion iris-1.0.0 is not ready: LoadFailed."
    assert facts(explanation)["last failure"].startswith("3 min ago: ChecksumMismatch: ")
    assert "kubectl -n ns annotate modelversion iris-1.0.0 modelswap.dev/retry=again" in explanation.next_step


@pytest.mark.requirement("MM-14")
def test_a_version_that_loads_says_which_attempt_this_is() -> None:
    loading = pod("iris-1.0.0.pod0", ready=False, report=report("iris-1.0.0", loaded=False))
    explanation = told(serving(model_version("1.0.0"), loading), model_route("1.0.0"))
    assert facts(explanation)["loaded"].endswith("needed by ModelRoute iris; spec.load.state is Auto; attempt 1 of 3")
    assert "logs -l modelswap.dev/model-version=iris-1.0.0" in explanation.next_step


@pytest.mark.requirement("MM-14")
def test_a_route_that_serves_has_nothing_to_do() -> None:
    world = World(spec={"model": "iris", "version": "1.0.0"})
    world.settle()
    explanation = explain_route(world.route(), world.resources, world.now)
    assert explanation.headline == "ModelRoute iris leads to iris-1.0.0, as its spec asks."
    assert explanation.next_step.startswith("Nothing")


@pytest.mark.requirement("MM-14")
def test_a_route_that_waits_tells_what_its_target_waits_for() -> None:
    world = World(spec={"model": "iris", "version": "1.0.0"})
    world.settle()
    for agent in world.of("1.1.0"):
        agent.healthy = False
    world.ask(version="1.1.0")
    for _ in range(3):
        world.operate()
    loading = pod("iris-1.1.0.pod0", ready=False, report=report("iris-1.1.0", loaded=False))
    target = seen(serving(model_version("1.1.0"), loading), model_route("1.1.0"))
    explanation = explain_route(world.route(), {"1.1.0": target}, world.now)
    assert explanation.headline == "ModelRoute iris leads to iris-1.0.0, and waits for iris-1.1.0."
    assert facts(explanation)["waits for"] == "ModelVersion iris-1.1.0 is not ready: Loading."
    assert "model-version=iris-1.1.0" in explanation.next_step


@pytest.mark.requirement("MM-14")
def test_a_route_that_is_stuck_says_what_to_change() -> None:
    world = World(spec={"model": "iris", "version": "1.0.0"})
    world.settle()
    world.ask(version="9.9.9")
    world.operate()
    explanation = explain_route(world.route(), world.resources, world.now)
    assert explanation.headline == "ModelRoute iris leads to iris-1.0.0, and cannot go where its spec asks."
    assert "set spec.version to one of" in explanation.next_step


@pytest.mark.requirement("MM-14")
def test_a_route_whose_pods_are_unwell_tells_of_the_version_that_it_leads_to() -> None:
    world = World(spec={"model": "iris", "version": "1.0.0", "rollback": {"automatic": False}})
    world.settle()
    for agent in world.of("1.0.0"):
        agent.healthy = False
    world.operate()
    bad = pod("iris-1.0.0.pod0", ready=False, report=report("iris-1.0.0", healthy=False, message="answered 7, not 1"))
    current = seen(serving(model_version("1.0.0"), bad), world.route())
    explanation = explain_route(world.route(), {"1.0.0": current}, world.now)
    assert explanation.headline.endswith("leads to iris-1.0.0, which has no pod that answers well.")
    assert "answered 7, not 1" in explanation.text(120)
    assert "logs" in explanation.next_step


def test_long_lines_are_wrapped_below_their_beginning() -> None:
    explanation = replace(told(broken(), model_route("1.0.0")), headline="x " * 100)
    lines = explanation.text(80).splitlines()
    assert max(map(len, lines)) <= 80
    assert sum(line.startswith("  ") for line in lines) > len(explanation.facts)
