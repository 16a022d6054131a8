"""Counts and failures over the life of a version."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from modelswap.api.agent import FetchProgress, FetchResult
from modelswap.api.v1alpha1.model_version import ModelVersion, ModelVersionStatus
from modelswap.planning.counts import count, memory
from modelswap.planning.observed import ContainerState, ObservedVersion, ServingPod, ServingVersion
from modelswap.planning.plan import Delete, Plan, SetFinalizer
from modelswap.planning.registry import Versions
from modelswap.planning.versions import plan_version

from tests.support.objects import DEFAULTS, NOW, model_route, model_version, pod, report, serving

POD = "iris-1.0.0.pod0"
SERVES = {"currentVersion": "1.0.0", "conditions": [], "history": []}


def plan_at(version: ServingVersion, *routes: Any, now: datetime = NOW) -> Plan:
    return plan_version(
        ObservedVersion(version=version, routes=routes, siblings=Versions.of([version.resource])), DEFAULTS, now
    )


def written(version: ServingVersion, plan: Plan) -> ServingVersion:
    if plan.status is None:
        return version
    body = version.resource.model_dump(by_alias=True, mode="json") | {"status": plan.status}
    return replace(version, resource=ModelVersion.model_validate(body))


def status_of(plan: Plan) -> ModelVersionStatus:
    assert plan.status is not None
    return ModelVersionStatus.model_validate(plan.status)


@given(st.data())
@pytest.mark.requirement("VM-8")
def test_the_sums_are_what_all_pods_have_ever_counted(data: st.DataObject) -> None:
    """Pods come, count, and go once that is written; the operator looks when it likes, and may lose its write."""
    status = ModelVersionStatus()
    pods: dict[str, int] = {}
    gone = 0
    for number in range(data.draw(st.integers(1, 12))):
        pods = {name: requests + data.draw(st.integers(0, 5)) for name, requests in pods.items()}
        if number == 0 or data.draw(st.booleans()):
            pods[f"p{number}"] = 0
        version = serving(model_version("1.0.0"), *(_counting(name, n) for name, n in pods.items()))
        counts = count(version, status)
        assert counts.requests == gone + sum(pods.values())
        if data.draw(st.booleans()):
            status = ModelVersionStatus(request_count=counts.requests, serving_pods=counts.pods)
            if data.draw(st.booleans()) and pods:
                gone += pods.pop(data.draw(st.sampled_from(sorted(pods))))


def _counting(name: str, requests: int) -> ServingPod:
    return pod(f"iris-1.0.0.{name}", report=report("iris-1.0.0", request_count=requests))


def test_an_agent_that_is_out_of_reach_takes_nothing_from_the_sums() -> None:
    old = ModelVersionStatus.model_validate(
        {"requestCount": 7, "errorCount": 2, "servingPods": [{"name": POD, "requestCount": 7, "errorCount": 2}]}
    )
    counts = count(serving(model_version("1.0.0"), pod(POD, report=None)), old)
    assert (counts.requests, counts.errors) == (7, 2)
    back = count(serving(model_version("1.0.0"), pod(POD, report=report("iris-1.0.0", request_count=9))), old)
    assert back.requests == 9


@pytest.mark.requirement("VM-8")
def test_an_idle_version_is_not_written_again_and_a_busy_one_every_half_minute() -> None:
    route = model_route("1.0.0")
    version = serving(model_version("1.0.0"), pod(POD))
    version = written(version, plan_at(version, route))
    checked = report("iris-1.0.0", last_health_check=NOW + timedelta(hours=1))
    idle = replace(version, pods=(pod(POD, report=checked),))
    assert plan_at(idle, route, now=NOW + timedelta(hours=1)).empty
    busy = replace(version, pods=(pod(POD, report=report("iris-1.0.0", request_count=1, in_flight=1)),))
    soon = plan_at(busy, route, now=NOW + timedelta(seconds=10))
    assert soon.status is None
    assert soon.requeue_after == pytest.approx(20)
    later = status_of(plan_at(busy, route, now=NOW + timedelta(seconds=31)))
    assert (later.request_count, later.in_flight) == (1, 1)


def test_what_a_pod_has_counted_is_written_before_it_goes() -> None:
    route = model_route("1.0.0")
    version = serving(model_version("1.0.0"), pod(POD))
    version = written(version, plan_at(version, route))
    ending = pod(POD, terminating=True, report=report("iris-1.0.0", request_count=5, terminating=True))
    assert status_of(plan_at(replace(version, pods=(ending,)), route)).request_count == 5


@pytest.mark.requirement("VM-6")
def test_memory_is_the_best_figure_that_there_is() -> None:
    def of(*pods: ServingPod) -> tuple[int | None, str | None]:
        return memory(serving(model_version("1.0.0"), *pods))

    limit = pod("iris-1.0.0.pod0", memory_limit_bytes=300)
    measured = replace(limit, measured_memory_bytes=200)
    told = replace(measured, report=report("iris-1.0.0", memory_bytes=100))
    assert of(limit, limit) == (600, "Limit")
    assert of(measured, measured) == (400, "Metrics")
    assert of(told, told) == (200, "Runtime")
    assert of(told, measured) == (400, "Metrics")
    assert of(pod("iris-1.0.0.pod0")) == (None, None)
    assert of() == (None, None)


def test_small_changes_of_memory_are_not_written() -> None:
    route = model_route("1.0.0")
    version = serving(model_version("1.0.0"), pod(POD, measured_memory_bytes=1000))
    version = written(version, plan_at(version, route))
    assert plan_at(replace(version, pods=(pod(POD, measured_memory_bytes=1040),)), route).empty
    grown = plan_at(replace(version, pods=(pod(POD, measured_memory_bytes=1200),)), route)
    assert status_of(grown).memory_bytes == 1200


@pytest.mark.requirement("VM-6")
def test_an_operator_that_starts_keeps_the_memory_until_it_has_heard_of_the_agents() -> None:
    route = model_route("1.0.0")
    told = pod(POD, measured_memory_bytes=1000, memory_limit_bytes=4000, report=report("iris-1.0.0", memory_bytes=900))
    version = serving(model_version("1.0.0"), told)
    version = written(version, plan_at(version, route))
    for silent in (replace(told, report=None), replace(told, report=None, measured_memory_bytes=None)):
        plan = plan_at(replace(version, pods=(silent,)), route)
        assert plan.status is None or status_of(plan).memory_source == "Runtime"


@pytest.mark.requirement("MM-2")
def test_every_failure_is_counted_once_and_kept_with_its_cause() -> None:
    route = model_route("1.0.0")
    version = serving(model_version("1.0.0"), children=False)
    for attempt in range(1, 3):
        crash = ContainerState(
            restarts=attempt - 1,
            waiting_reason="CrashLoopBackOff",
            exit_code=1,
            exit_reason="Error",
            exit_message="no module x",
            ended_at=NOW + timedelta(seconds=attempt),
        )
        version = replace(version, pods=(pod(POD, ready=False, report=None, model_server=crash),))
        for _ in range(2):  # looked at twice, or again after a crash of the operator
            version = written(version, plan_at(version, route))
        status = version.resource.status
        assert status.failure_count == attempt
        assert status.load_attempts == attempt
        assert [f.reason for f in status.failures] == ["ModelServerExited"] * attempt
        assert "no module x" in status.failures[0].message


@pytest.mark.requirement("MM-2")
def test_what_pods_go_through_on_their_way_out_is_no_failure() -> None:
    route = model_route("1.0.0")
    result = FetchResult(reason="ChecksumMismatch", message="the sha256 is another", permanent=True)
    state = ContainerState(exit_code=1, exit_reason="Error", ended_at=NOW)
    broken = pod(POD, ready=False, report=None, fetch=state, fetched=result)
    version = serving(model_version("1.0.0"), broken)
    version = written(version, plan_at(version, route))
    assert version.resource.status.failure_count == 1
    again = replace(broken, fetch=replace(state, restarts=1, ended_at=NOW + timedelta(seconds=2)))
    failed = replace(broken, terminating=True, failed_reason="PodFailed", failed_at=NOW + timedelta(seconds=3))
    for pods in ((again,), (again, failed)):
        version = replace(version, pods=pods)
        version = written(version, plan_at(version, route))
    assert version.resource.status.failure_count == 1


def test_a_lasting_failure_is_one_and_only_the_last_ten_are_kept() -> None:
    route = model_route("1.0.0")
    stuck = pod(POD, ready=False, report=None, unschedulable="no room", model_server=ContainerState())
    version = serving(model_version("1.0.0"), stuck)
    for second in range(3):
        version = written(version, plan_at(version, route, now=NOW + timedelta(seconds=second)))
    assert version.resource.status.failure_count == 1
    for second in range(20):
        state = ContainerState(restarts=1, running=True, exit_code=1, ended_at=NOW + timedelta(seconds=second))
        version = replace(version, pods=(pod(POD, ready=False, report=None, model_server=state),))
        resource = version.resource.model_copy(
            update={"status": version.resource.status.model_copy(update={"loaded_at": NOW})}
        )
        version = replace(version, resource=resource)
        version = written(version, plan_at(version, route, now=NOW + timedelta(seconds=second)))
    status = version.resource.status
    assert status.failure_count == 21
    assert len(status.failures) == 10
    assert status.failures[0].time == NOW + timedelta(seconds=19)


def test_a_restarted_pod_makes_a_loaded_version_unhealthy_with_the_cause() -> None:
    route = model_route("1.0.0")
    version = serving(model_version("1.0.0"), pod(POD))
    version = written(version, plan_at(version, route))
    killed = ContainerState(waiting_reason="CrashLoopBackOff", exit_code=137, exit_reason="OOMKilled", ended_at=NOW)
    version = replace(version, pods=(pod(POD, ready=False, report=None, model_server=killed),))
    conditions = {c.type: c for c in status_of(plan_at(version, route)).conditions}
    assert conditions["Ready"].reason == "Unhealthy"
    assert conditions["Healthy"].reason == "OutOfMemory"
    assert "more memory than its limit" in conditions["Healthy"].message


@pytest.mark.requirement("VM-3")
def test_an_unhealthy_model_is_still_loaded_and_its_recovery_no_new_load() -> None:
    route = model_route("1.0.0")
    version = serving(model_version("1.0.0"), pod(POD))
    for healthy, ready in ((True, True), (False, False), (True, True)):
        seen = pod(POD, ready=ready, report=report("iris-1.0.0", healthy=healthy))
        version = replace(version, pods=(seen,))
        version = written(version, plan_at(version, route))
        assert version.resource.status.loaded
    assert version.resource.status.load_count == 1


def test_the_progress_of_the_fetch_is_written_every_few_seconds() -> None:
    route = model_route("1.0.0")

    def fetching(done: int) -> ServingPod:
        progress = FetchProgress(bytes=done, total_bytes=1000, started_at=NOW)
        waits = report("iris-1.0.0", loaded=False, warmed_up=False, healthy=None, fetch=progress)
        return pod(POD, ready=False, report=waits, model_server=ContainerState())

    version = serving(model_version("1.0.0"), fetching(10))
    version = written(version, plan_at(version, route))
    assert version.resource.status.fetch is not None
    assert version.resource.status.fetch.total_bytes == 1000
    more = replace(version, pods=(fetching(50),))
    assert plan_at(more, route, now=NOW + timedelta(seconds=1)).status is None
    later = status_of(plan_at(more, route, now=NOW + timedelta(seconds=6)))
    assert later.fetch is not None
    assert later.fetch.bytes == 50


@pytest.mark.requirement("RG-4")
def test_a_routed_version_has_a_finalizer_and_no_other_has() -> None:
    version = serving(model_version("1.0.0"), pod(POD))
    assert (
        SetFinalizer("modelswap.dev/routed", present=True, reason="Routed")
        in plan_at(version, model_route("1.0.0", status=SERVES)).actions
    )
    assert not any(isinstance(a, SetFinalizer) for a in plan_at(version, model_route("1.0.0")).actions)
    marked = replace(version, resource=_with(version.resource, finalizers=("modelswap.dev/routed", "other/one")))
    assert SetFinalizer("modelswap.dev/routed", present=False, reason="NotRouted") in plan_at(marked).actions
    assert not any(isinstance(a, SetFinalizer) for a in plan_at(marked, model_route("1.0.0", status=SERVES)).actions)


@pytest.mark.requirement("RG-4")
def test_deleting_a_routed_version_is_deferred_and_says_which_route() -> None:
    version = serving(model_version("1.0.0"), pod(POD))
    deleted = _with(version.resource, finalizers=("modelswap.dev/routed",), deletion_timestamp=NOW)
    version = replace(version, resource=deleted)
    plan = plan_at(version, model_route("1.0.0", status=SERVES))
    assert not any(isinstance(a, Delete | SetFinalizer) for a in plan.actions)
    conditions = {c.type: c for c in status_of(plan).conditions}
    assert conditions["Ready"].status == "True"
    assert conditions["Reconciling"].reason == "DeletionDeferred"
    assert "ModelRoute iris does" in conditions["Reconciling"].message
    assert any(event.reason == "DeletionDeferred" for event in plan.events)
    gone = plan_at(version)
    assert gone.actions == (SetFinalizer("modelswap.dev/routed", present=False, reason="NotRouted"),)


def _with(resource: ModelVersion, **changes: Any) -> ModelVersion:
    return resource.model_copy(update={"metadata": resource.metadata.model_copy(update=changes)})


@pytest.mark.requirement("MM-2")
def test_an_annotation_asks_for_another_try() -> None:
    failed = {
        "loadAttempts": 3,
        "lastError": "gave up",
        "conditions": [
            {
                "type": "Stalled",
                "status": "True",
                "reason": "LoadFailed",
                "observedGeneration": 1,
                "lastTransitionTime": NOW.isoformat(),
            }
        ],
    }
    resource = model_version("1.0.0", status=failed)
    assert plan_at(serving(resource, children=False), model_route("1.0.0")).actions == ()
    again = _with(resource, annotations={"modelswap.dev/retry": "1"})
    plan = plan_at(serving(again, children=False), model_route("1.0.0"))
    assert plan.actions != ()
    assert status_of(plan).retry == "1"


def test_a_version_is_unloading_until_its_pods_are_gone() -> None:
    version = serving(model_version("1.0.0"), pod(POD, terminating=True), children=False)
    conditions = {c.type: c for c in status_of(plan_at(version)).conditions}
    assert conditions["Ready"].reason == "Unloading"
