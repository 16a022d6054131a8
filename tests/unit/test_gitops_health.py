"""What tools that apply a repository, and wait for it, make of versions and routes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from lupa import lua51
from modelswap.api.agent import FetchResult
from modelswap.planning.observed import ContainerState, ObservedVersion, ServingVersion
from modelswap.planning.registry import Versions
from modelswap.planning.versions import plan_version

from tests.simulation.world import World
from tests.support.kstatus import kstatus
from tests.support.objects import DEFAULTS, NOW, model_route, model_version, pod, report, serving

ARGO_CD = Path(__file__).parents[2] / "deploy" / "argocd" / "argocd-cm.yaml"
POD = "iris-1.0.0.pod0"
Object = dict[str, Any]


def argo_cd(kind: str, body: Object) -> tuple[str, str]:
    """Health and message, by the script that Argo CD would run, in the Lua that it has (5.1)."""
    script = yaml.safe_load(ARGO_CD.read_text())["data"][f"resource.customizations.health.modelswap.dev_{kind}"]
    lua = lua51.LuaRuntime()
    health = lua.eval(f"function(obj) {script} end")(lua.table_from(body, recursive=True))
    return health["status"], health["message"]


def version_after(version: ServingVersion, *routes: Any) -> Object:
    """The ModelVersion once the operator has looked at it."""
    observed = ObservedVersion(version=version, routes=routes, siblings=Versions.of([version.resource]))
    status = plan_version(observed, DEFAULTS, NOW).status
    assert status is not None
    body = version.resource.model_dump(by_alias=True, mode="json", exclude_none=True)
    return body | {"status": status}


def failed() -> ServingVersion:
    result = FetchResult(reason="ChecksumMismatch", message="the sha256 is another", permanent=True)
    state = ContainerState(exit_code=1, exit_reason="Error", ended_at=NOW)
    return serving(model_version("1.0.0"), pod(POD, ready=False, report=None, fetch=state, fetched=result))


def loading() -> ServingVersion:
    return serving(model_version("1.0.0"), pod(POD, ready=False, report=report("iris-1.0.0", loaded=False)))


@pytest.mark.parametrize(
    ("version", "routed", "current", "health", "words"),
    [
        (serving(model_version("1.0.0"), children=False), False, "Current", "Healthy", "Registered: no route needs"),
        (serving(model_version("1.0.0", replicas=0)), True, "Current", "Healthy", "ScaledToZero"),
        (serving(model_version("1.0.0"), pod(POD)), True, "Current", "Healthy", "Healthy: 1 of 1"),
        (loading(), True, "InProgress", "Progressing", "waiting for the model to answer"),
        (serving(model_version("1.0.0"), pod(POD)), False, "InProgress", "Progressing", "Unloading"),
    ],
)
def test_a_version_is_current_when_it_is_as_its_spec_asks(
    version: ServingVersion, routed: bool, current: str, health: str, words: str
) -> None:
    body = version_after(version, *([model_route("1.0.0")] if routed else []))
    assert kstatus(body) == current
    found, message = argo_cd("ModelVersion", body)
    assert found == health
    assert words in message


def test_a_version_that_was_given_up_has_failed_once_its_pods_are_gone() -> None:
    body = version_after(failed(), model_route("1.0.0"))
    assert kstatus(body) == "InProgress"
    gone = model_version("1.0.0", status=body["status"])
    body = version_after(serving(gone, children=False), model_route("1.0.0"))
    assert kstatus(body) == "Failed"
    health, message = argo_cd("ModelVersion", body)
    assert health == "Degraded"
    assert "sha256" in message


def test_what_the_operator_has_not_seen_is_in_progress() -> None:
    body = version_after(serving(model_version("1.0.0"), pod(POD)), model_route("1.0.0"))
    body["metadata"]["generation"] = 2
    assert kstatus(body) == "InProgress"
    assert argo_cd("ModelVersion", body) == ("Progressing", "waiting for modelswap")
    assert argo_cd("ModelVersion", {"metadata": {"generation": 1}}) == ("Progressing", "waiting for modelswap")


def route_of(world: World) -> Object:
    return {"metadata": {"name": "iris", "generation": world.generation}, "spec": world.spec, "status": world.status}


def test_a_route_is_current_when_it_serves_what_its_spec_asks_for() -> None:
    world = World(spec={"model": "iris", "version": "1.0.0"})
    world.operate()
    assert (kstatus(route_of(world)), argo_cd("ModelRoute", route_of(world))[0]) == ("InProgress", "Progressing")
    world.settle()
    assert (kstatus(route_of(world)), argo_cd("ModelRoute", route_of(world))[0]) == ("Current", "Healthy")
    world.ask(version="9.9.9")
    assert kstatus(route_of(world)) == "InProgress", "the newest spec has not been looked at"
    world.operate()
    assert kstatus(route_of(world)) == "Failed"
    health, message = argo_cd("ModelRoute", route_of(world))
    assert (health, message.partition(":")[0]) == ("Degraded", "VersionNotFound")


def test_a_route_whose_pods_are_all_unwell_is_degraded() -> None:
    world = World(spec={"model": "iris", "version": "1.0.0", "rollback": {"automatic": False}})
    world.settle()
    for agent in world.of("1.0.0"):
        agent.healthy = False
    world.operate()
    assert argo_cd("ModelRoute", route_of(world))[0] == "Degraded"
    assert kstatus(route_of(world)) == "InProgress"
