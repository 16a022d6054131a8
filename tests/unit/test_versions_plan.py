from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from modelswap.api.agent import FetchResult
from modelswap.api.v1alpha1.model_version import ModelVersion
from modelswap.planning.observed import ContainerState, ObservedVersion, ServingVersion
from modelswap.planning.plan import Apply, Delete, IssueCertificate, Plan, SetFinalizer
from modelswap.planning.registry import Versions
from modelswap.planning.versions import plan_version

from tests.support.objects import DEFAULTS, NOW, model_route, model_version, pod, report, serving


def plan_of(version: ServingVersion, *routes: Any, siblings: tuple[ModelVersion, ...] = (), **more: Any) -> Plan:
    observed = ObservedVersion(
        version=version, routes=routes, siblings=Versions.of(siblings or [version.resource]), **more
    )
    return plan_version(observed, DEFAULTS, NOW)


def ready(plan: Plan) -> dict[str, Any]:
    assert plan.status is not None
    found: dict[str, Any] = next(c for c in plan.status["conditions"] if c["type"] == "Ready")
    return found


def condition(plan: Plan, type_: str) -> dict[str, Any]:
    assert plan.status is not None
    found: dict[str, Any] = next(c for c in plan.status["conditions"] if c["type"] == type_)
    return found


def after(version: ServingVersion, plan: Plan) -> ServingVersion:
    """The same version once the plan's status has been written."""
    body = version.resource.model_dump(by_alias=True, mode="json") | {"status": plan.status}
    return replace(version, resource=ModelVersion.model_validate(body))


def test_a_version_that_no_route_needs_is_only_registered() -> None:
    plan = plan_of(serving(model_version("1.0.0"), children=False))
    assert plan.actions == ()
    assert ready(plan)["reason"] == "Registered"


@pytest.mark.requirement("VM-1")
def test_a_routed_version_gets_certificate_configuration_pods_and_service() -> None:
    plan = plan_of(serving(model_version("1.0.0"), children=False), model_route("1.0.0"))
    kinds = [a.manifest["kind"] for a in plan.actions if isinstance(a, Apply | IssueCertificate)]
    assert kinds == ["Secret", "ConfigMap", "Deployment", "Service"]
    assert plan.status is not None
    assert plan.status["routedBy"] == ["iris"]
    assert plan.status["loadAttempts"] == 0


@pytest.mark.requirement("VM-1")
def test_asking_again_writes_nothing() -> None:
    version = serving(model_version("1.0.0"), pod("iris-1.0.0.pod0"))
    first = plan_of(version, model_route("1.0.0"))
    assert ready(first)["reason"] == "Healthy"
    second = plan_of(after(version, first), model_route("1.0.0"))
    assert second.empty


@pytest.mark.requirement("VM-2")
def test_an_unneeded_version_leaves_nothing_behind() -> None:
    version = serving(model_version("1.0.0"), pod("iris-1.0.0.pod0"))
    plan = plan_of(version)
    assert {a.kind for a in plan.actions if isinstance(a, Delete)} == {"Deployment", "Service", "ConfigMap", "Secret"}
    assert ready(plan)["reason"] == "Unloading"


@pytest.mark.requirement("VM-2")
def test_a_version_is_not_unloaded_at_the_look_that_lets_it_go() -> None:
    version = serving(model_version("1.0.0", kept=True), pod("iris-1.0.0.pod0"))
    plan = plan_of(version)
    assert [type(action) for action in plan.actions] == [SetFinalizer], "a route may have begun to lead there meanwhile"
    again = plan_of(after(version, plan), model_route("1.0.0"))
    assert not any(isinstance(action, Delete) for action in again.actions)
    assert ready(again)["reason"] == "Healthy"


@pytest.mark.requirement("VM-2")
def test_a_removal_that_has_begun_is_carried_through_before_the_version_is_loaded_again() -> None:
    version = serving(model_version("1.0.0"), pod("iris-1.0.0.pod0"))
    version = after(version, plan_of(version))
    # What was deleted is not heard of yet, and a route needs the version again.
    plan = plan_of(version, model_route("1.0.0"))
    assert plan.actions
    assert all(isinstance(action, Delete) for action in plan.actions)
    assert ready(plan)["reason"] == "Unloading"
    assert "afresh" in ready(plan)["message"]
    version = replace(after(version, plan), children={})
    assert plan_of(version, model_route("1.0.0")).actions == (), "its pods are still there"
    # A pod that nothing has in charge would be waited for in vain.
    orphan = replace(version, pods=(pod("iris-1.0.0.pod0", orphaned=True),))
    assert any(isinstance(action, Apply) for action in plan_of(orphan, model_route("1.0.0")).actions)
    gone = replace(version, pods=())
    assert any(isinstance(action, Apply) for action in plan_of(gone, model_route("1.0.0")).actions)


@pytest.mark.requirement("VM-2")
def test_a_version_that_serves_is_never_unloaded_even_when_asked() -> None:
    version = serving(model_version("1.0.0", load={"state": "Unloaded"}), pod("iris-1.0.0.pod0"))
    route = model_route("1.0.0", status={"currentVersion": "1.0.0", "conditions": [], "history": []})
    assert not any(isinstance(a, Delete) for a in plan_of(version, route).actions)


def test_an_idle_client_connection_keeps_a_former_version_for_a_while() -> None:
    busy = pod("iris-1.0.0.pod0", report=report("iris-1.0.0", route_connections=1))
    version = serving(model_version("1.0.0"), busy)
    swap = {"id": "a", "state": "Completed", "from": "1.0.0", "to": "1.1.0"}
    swap |= {"endTime": (NOW - timedelta(seconds=5)).isoformat()}
    status = {"currentVersion": "1.1.0", "swap": swap, "conditions": [], "history": []}
    route = model_route("1.1.0", status=status, rollback={"keepWarm": 0})
    siblings = (version.resource, model_version("1.1.0"))
    assert plan_of(version, route, siblings=siblings).actions == ()
    status["swap"]["endTime"] = (NOW - timedelta(minutes=1)).isoformat()  # type: ignore[index]
    route = model_route("1.1.0", status=status, rollback={"keepWarm": 0})
    assert plan_of(version, route, siblings=siblings).actions != ()


@pytest.mark.requirement("VM-4")
def test_a_version_that_warms_up_says_how_far_it_is() -> None:
    warming = report("iris-1.0.0", warmed_up=False, healthy=None, warm_up_done=3, warm_up_total=20)
    version = serving(model_version("1.0.0"), pod("iris-1.0.0.pod0", ready=False, report=warming))
    plan = plan_of(version, model_route("1.0.0"))
    assert ready(plan)["reason"] == "WarmingUp"
    assert "3 of 20" in ready(plan)["message"]
    assert condition(plan, "WarmedUp")["status"] == "False"


@pytest.mark.requirement("MM-8")
def test_a_wrong_checksum_ends_the_load_at_once_and_says_what_to_change() -> None:
    result = FetchResult(reason="ChecksumMismatch", message="the sha256 of s3://x is aa, but …", permanent=True)
    failed = ContainerState(exit_code=1, exit_reason="Error", waiting_reason="CrashLoopBackOff")
    broken = pod("iris-1.0.0.pod0", ready=False, report=None, fetch=failed, fetched=result)
    version = serving(model_version("1.0.0"), broken)
    plan = plan_of(version, model_route("1.0.0"))
    assert ready(plan)["reason"] == "LoadFailed"
    assert "sha256" in ready(plan)["message"]
    assert condition(plan, "Stalled")["status"] == "True"
    assert any(e.warning and e.reason == "LoadFailed" for e in plan.events)
    assert any(isinstance(a, Delete) for a in plan.actions)
    assert condition(plan, "Reconciling")["reason"] == "Removing"
    # With its pods gone it stays failed: nothing is tried again by itself.
    gone = serving(after(version, plan).resource, children=False)
    without_pods = plan_of(gone, model_route("1.0.0"))
    assert without_pods.actions == ()
    assert ready(without_pods)["reason"] == "LoadFailed"
    assert plan_of(after(gone, without_pods), model_route("1.0.0")).empty


@pytest.mark.requirement("MM-2")
def test_a_model_server_that_keeps_ending_is_given_up_after_its_attempts() -> None:
    crashed = ContainerState(
        restarts=2, waiting_reason="CrashLoopBackOff", exit_code=1, exit_reason="Error", exit_message="no module x"
    )
    broken = pod("iris-1.0.0.pod0", ready=False, report=None, model_server=crashed)
    plan = plan_of(serving(model_version("1.0.0"), broken), model_route("1.0.0"))
    assert ready(plan)["reason"] == "LoadFailed"
    assert "3 attempts" in ready(plan)["message"]
    assert "no module x" in ready(plan)["message"]


@pytest.mark.requirement("MM-2")
def test_the_cause_is_told_also_when_another_attempt_has_begun() -> None:
    slow = ContainerState(
        running=True, restarts=3, exit_code=137, exit_reason="Error",
        ended_started_at=NOW - timedelta(seconds=40), ended_at=NOW,
    )  # fmt: skip
    broken = pod("iris-1.0.0.pod0", ready=False, report=None, model_server=slow)
    plan = plan_of(serving(model_version("1.0.0"), broken), model_route("1.0.0"))
    assert ready(plan)["reason"] == "LoadFailed"
    assert "gave up after 3 attempts: the model did not answer within 30 s" in ready(plan)["message"]


def test_a_version_that_was_loaded_is_never_given_up() -> None:
    crashed = ContainerState(restarts=9, waiting_reason="CrashLoopBackOff", exit_code=137, exit_reason="OOMKilled")
    broken = pod("iris-1.0.0.pod0", ready=False, report=None, model_server=crashed)
    resource = model_version("1.0.0", status={"loaded": True, "loadedAt": NOW.isoformat(), "conditions": []})
    plan = plan_of(serving(resource, broken), model_route("1.0.0"))
    assert ready(plan)["reason"] != "LoadFailed"
    assert "more memory than its limit" in ready(plan)["message"]


def test_an_operator_that_has_just_started_and_heard_of_no_agent_writes_nothing() -> None:
    version = serving(model_version("1.0.0"), pod("iris-1.0.0.pod0"))
    healthy = after(version, plan_of(version, model_route("1.0.0")))
    unheard = replace(healthy, pods=(pod("iris-1.0.0.pod0", report=None),))
    assert plan_of(unheard, model_route("1.0.0")).empty


def test_an_unknown_runtime_is_told_and_what_serves_stays() -> None:
    version = replace(serving(model_version("1.0.0"), pod("iris-1.0.0.pod0")), runtime=None)
    plan = plan_of(version, model_route("1.0.0"))
    assert plan.actions == ()
    assert ready(plan)["reason"] == "RuntimeNotFound"
    assert "mlserver" in ready(plan)["message"]


@pytest.mark.requirement("VM-8")
def test_counters_alone_are_written_only_every_half_minute() -> None:
    counted = report("iris-1.0.0", request_count=5, last_request_at=NOW)
    version = serving(model_version("1.0.0"), pod("iris-1.0.0.pod0", report=counted))
    first = plan_of(version, model_route("1.0.0"))
    assert first.status is not None
    assert first.status["requestCount"] == 5
    more = report("iris-1.0.0", request_count=9, last_request_at=NOW + timedelta(seconds=1))
    busy = replace(after(version, first), pods=(pod("iris-1.0.0.pod0", report=more),))
    soon = plan_of(busy, model_route("1.0.0"))
    assert soon.status is None
    assert soon.requeue_after is not None
    observed = ObservedVersion(version=busy, routes=(model_route("1.0.0"),), siblings=Versions.of([busy.resource]))
    later = plan_version(observed, DEFAULTS, NOW + timedelta(seconds=31))
    assert later.status is not None
    assert later.status["requestCount"] == 9
