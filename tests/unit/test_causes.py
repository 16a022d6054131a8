"""The pod's fate, read for the user."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from modelswap.api.agent import FetchProgress, FetchResult
from modelswap.api.v1alpha1.model_version import ModelVersion
from modelswap.engine.pods import pods_refused, serving_pod
from modelswap.planning.assessment import Stage, assess
from modelswap.planning.causes import causes
from modelswap.planning.observed import ContainerState, ServingPod

from tests.support.objects import NOW, model_version, pod, report, serving


def told(*pods: ServingPod, resource: ModelVersion | None = None, **more: Any) -> tuple[str, str]:
    version = replace(serving(resource or model_version("1.0.0"), *pods), **more)
    first = next(iter(causes(version)))
    assert assess(version).message == first.message
    return first.reason, first.message


def broken(**states: Any) -> ServingPod:
    return pod("iris-1.0.0.pod0", ready=False, report=None, **states)


def end(code: int = 1, reason: str = "Error", seconds: float = 1, message: str = "", **more: Any) -> ContainerState:
    began = NOW - timedelta(seconds=seconds)
    return ContainerState(
        exit_code=code, exit_reason=reason, exit_message=message, ended_started_at=began, ended_at=NOW, **more
    )


@pytest.mark.requirement("MM-2")
def test_an_image_that_cannot_be_pulled() -> None:
    state = ContainerState(waiting_reason="ImagePullBackOff", waiting_message='Back-off pulling image "x:1"')
    reason, message = told(broken(model_server=state))
    assert reason == "ImagePullFailed"
    assert '"x:1"' in message
    assert "imagePullSecrets" in message


@pytest.mark.requirement("MM-2")
def test_a_model_that_needs_too_much_memory() -> None:
    resource = model_version("1.0.0", resources={"limits": {"memory": "64Mi"}})
    reason, message = told(broken(model_server=end(137, "OOMKilled")), resource=resource)
    assert reason == "OutOfMemory"
    assert "its limit of 64Mi" in message
    assert "Raise spec.resources.limits.memory" in message


@pytest.mark.requirement("MM-2")
@pytest.mark.parametrize(("code", "seconds"), [(137, 40), (143, 30), (143, 29), (0, 33)])
def test_a_model_that_never_answers(code: int, seconds: float) -> None:
    reason, message = told(broken(model_server=end(code, seconds=seconds, message="loading weights")))
    assert reason == "LoadTimeout"
    assert "within 30 s" in message
    assert "spec.load.timeoutSeconds" in message
    assert message.endswith("loading weights")


@pytest.mark.parametrize(("code", "seconds"), [(1, 40), (137, 5), (143, 400), (0, 5)])
def test_another_end_is_not_taken_for_a_timeout(code: int, seconds: float) -> None:
    reason, message = told(broken(model_server=end(code, seconds=seconds, message="Traceback\nno module x")))
    assert reason == "ModelServerExited"
    assert "no module x" in message


def test_a_bad_artifact() -> None:
    result = FetchResult(reason="ChecksumMismatch", message="the sha256 of s3://x is aa", permanent=True)
    assert told(broken(fetch=end(), fetched=result)) == (
        "ChecksumMismatch",
        "the artifact cannot be fetched: the sha256 of s3://x is aa",
    )


def test_a_pod_that_no_node_takes() -> None:
    reason, message = told(broken(unschedulable="0/1 nodes are available: 1 Insufficient memory."))
    assert reason == "Unschedulable"
    assert "Lower spec.resources.requests" in message


def test_a_quota_that_is_used_up() -> None:
    status = {"type": "ReplicaFailure", "status": "True", "message": 'pods "x" is forbidden: exceeded quota: q'}
    refused = pods_refused({"status": {"conditions": [status]}})
    reason, message = told(pods_refused=refused)
    assert reason == "QuotaExceeded"
    assert "raise the ResourceQuota" in message


def test_a_pod_that_the_namespace_forbids() -> None:
    reason, message = told(pods_refused='pods "x" is forbidden: violates PodSecurity')
    assert reason == "PodsForbidden"
    assert "violates PodSecurity" in message


def test_a_pod_that_its_node_has_put_out() -> None:
    body: dict[str, Any] = {
        "metadata": {"name": "p", "uid": "u"},
        "status": {
            "phase": "Failed",
            "reason": "Evicted",
            "message": "The node was low on resource: memory.",
            "conditions": [
                {"type": "DisruptionTarget", "status": "True", "lastTransitionTime": NOW.isoformat()},
            ],
        },
    }
    evicted = serving_pod(body, None)
    assert evicted.terminating
    reason, message = told(evicted)
    assert reason == "NodePressure"
    assert "low on resource: memory" in message
    assert assess(serving(model_version("1.0.0"), evicted)).attempts == 1


def test_what_is_wrong_is_not_told_of_a_version_that_is_well() -> None:
    restarted = pod("iris-1.0.0.pod0", model_server=end(restarts=1, running=True))
    assert assess(serving(model_version("1.0.0"), restarted)).trouble is None


def test_progress_of_the_fetch_is_told_in_tenths() -> None:
    progress = FetchProgress(bytes=47 * 2**20, total_bytes=100 * 2**20, started_at=NOW)
    fetching = report("iris-1.0.0", loaded=False, warmed_up=False, healthy=None, fetch=progress)
    waiting = pod("iris-1.0.0.pod0", ready=False, report=fetching, model_server=ContainerState())
    assert assess(serving(model_version("1.0.0"), waiting)).message == "fetching the artifact: 40 % of 100.0 MiB"


def test_a_pod_that_is_deleted_may_end_as_it_likes_but_not_be_put_out() -> None:
    ended = broken(failed_reason="Error", failed_message="exit code 1", terminating=True, failed_at=NOW)
    assert list(causes(serving(model_version("1.0.0"), ended))) == []
    out = replace(ended, failed_reason="Evicted", failed_message="low on memory")
    assert [cause.reason for cause in causes(serving(model_version("1.0.0"), out))] == ["NodePressure"]


def test_what_has_been_fetched_is_loading_even_before_its_server_begins() -> None:
    waiting = broken(
        fetched=FetchResult(digest="sha256:aa"),
        fetch=ContainerState(exit_code=0),
        model_server=ContainerState(waiting_reason="ImagePullBackOff"),
    )
    assert assess(serving(model_version("1.0.0"), waiting)).stage is Stage.LOADING
