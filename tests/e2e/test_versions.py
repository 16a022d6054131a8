"""The life of versions on the real cluster: loaded with proof, watched, counted, unloaded without a trace."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from typing import Any

import pytest
from demo.kubectl import SYSTEM, DemoError, run

from tests.support.conditions import condition_of

from .tenant import PROBE, Tenant, artifact, model_route, model_version

INFER = "/v2/models/{}/infer"
REQUESTS = 25
WRONG, HANG = "/tmp/wrong", "/tmp/hang"  # noqa: S108 - in a container
"""Files that make the moody model answer badly, or not at all: see scripts/publish.py."""


@pytest.fixture(autouse=True)
def nothing_stays(tenant: Tenant) -> Iterator[None]:
    yield
    tenant.kubectl("delete", "modelroutes,modelversions", "--all", "--timeout=120s")


def sample(model: str, answer: int = 1, **more: Any) -> dict[str, Any]:
    expect = {"status": 200, "values": [{"path": "/outputs/0/data", "values": [answer]}]}
    return {"request": {"path": INFER.format(model), "body": PROBE}, "expect": expect, **more}


def warm_up(model: str, repeat: int) -> dict[str, Any]:
    return {"requests": [{"path": INFER.format(model), "body": PROBE, "repeat": repeat}]}


def _is_measured(tenant: Tenant, name: str) -> bool:
    return bool(tenant.status(name).get("memorySource") == "Metrics")


def _without_memory(status: dict[str, Any]) -> dict[str, Any]:
    """What is the same for as long as nobody calls; a process's memory is its own affair."""
    changing = ("memoryBytes", "memorySource", "countedAt", "lastHealthCheck")
    return {key: value for key, value in status.items() if key not in changing}


def when(text: str) -> datetime:
    return datetime.fromisoformat(text)


@pytest.mark.requirement("VM-1", "VM-3", "VM-4", "VM-6", "MM-6")
def test_a_version_is_loaded_with_proof_and_tells_all_about_it(tenant: Tenant, metrics_api: None) -> None:
    began = datetime.now(UTC).replace(microsecond=0)
    about = {
        "type": "classifier",
        "framework": "sklearn",
        "trainingDate": "2026-11-01T00:00:00Z",
        "hyperparameters": {"C": 0.5, "penalty": "l2", "layers": [1, 2], "warm": True, "none": None},
        "performanceMetrics": {"accuracy": 0.97},
    }
    tenant.apply(
        model_version(
            "proof",
            "1.0.0",
            warmUp=warm_up("proof", 30),
            sample=sample("proof", answer=2, periodSeconds=2),
            metadata=about,
        )
    )
    tenant.wait_for_reason("proof-1.0.0", "Healthy")
    tenant.wait_for("memory is measured", partial(_is_measured, tenant, "proof-1.0.0"))
    status = tenant.status("proof-1.0.0")
    for type_ in ("Ready", "Loaded", "WarmedUp", "Healthy"):
        assert condition_of(status, type_)["status"] == "True"
    assert (status["loaded"], status["loadCount"], status["loadAttempts"]) == (True, 1, 1)
    assert began <= when(status["loadedAt"]) <= datetime.now(UTC)
    assert 0 < status["lastLoadSeconds"] == status["averageLoadSeconds"]
    assert 50 * 2**20 < status["memoryBytes"] < 512 * 2**20
    assert status["artifactDigest"].startswith("sha256:")
    assert status["artifactBytes"] > 500
    assert status.get("errorCount", 0) == 0
    assert when(status["lastHealthCheck"]) >= began
    spec = tenant.get("modelversion", "proof-1.0.0")["spec"]
    assert spec["metadata"] == about
    header, line = tenant.kubectl("get", "modelversion", "proof-1.0.0").splitlines()
    assert header.split()[:4] == ["NAME", "MODEL", "VERSION", "STATUS"]
    assert line.split()[:4] == ["proof-1.0.0", "proof", "1.0.0", "Healthy"]
    reasons = {event["reason"] for event in tenant.all("events")}
    assert {"Fetching", "Healthy"} <= reasons


@pytest.mark.requirement("VM-3")
def test_the_status_tells_how_far_a_long_fetch_is(tenant: Tenant) -> None:
    uri = f"http://flaky.{tenant.namespace}.svc:8000/slow/model.joblib"
    slow = {"uri": uri, "sha256": tenant.sha256_of_the_model()}
    tenant.apply(model_version("slow", "1.0.0", artifact=slow))
    seen: dict[str, Any] = {}

    def halfway() -> bool:
        seen.update(tenant.status("slow-1.0.0"))
        return bool(0 < seen.get("fetch", {}).get("bytes", 0) < seen["fetch"].get("totalBytes", 0))

    tenant.wait_for("the fetch is seen on its way", halfway, about="slow-1.0.0")
    assert condition_of(seen)["reason"] == "Fetching"
    assert condition_of(seen)["message"].startswith("fetching the artifact: ")
    tenant.wait_for_reason("slow-1.0.0", "Healthy")
    status = tenant.status("slow-1.0.0")
    assert "fetch" not in status
    assert status["artifactBytes"] == seen["fetch"]["totalBytes"]
    assert status["lastLoadSeconds"] < 15, "the fetch is no part of it"


@pytest.mark.requirement("VM-1")
def test_loading_what_is_loaded_is_a_no_op(tenant: Tenant) -> None:
    tenant.apply(model_version("twice", "1.0.0"))
    tenant.wait_for_reason("twice-1.0.0", "Healthy")
    pods = [pod["metadata"]["uid"] for pod in tenant.pods("twice-1.0.0")]
    generation = tenant.get("deployment", "twice-1.0.0")["metadata"]["generation"]
    tenant.apply(model_version("twice", "1.0.0"))
    with pytest.raises(DemoError, match="already exists"):
        tenant.kubectl("create", "-f", "-", stdin=json.dumps(model_version("twice", "1.0.0")))
    tenant.apply(model_version("twice", "1.0.0", metadata={"type": "classifier"}))
    tenant.wait_for(
        "the change is seen",
        lambda: (
            tenant.status("twice-1.0.0")["observedGeneration"]
            == tenant.get("modelversion", "twice-1.0.0")["metadata"]["generation"]
        ),
    )
    assert tenant.status("twice-1.0.0")["loadCount"] == 1
    assert [pod["metadata"]["uid"] for pod in tenant.pods("twice-1.0.0")] == pods
    assert tenant.get("deployment", "twice-1.0.0")["metadata"]["generation"] == generation


@pytest.mark.requirement("VM-2", "VM-3", "MM-6")
def test_unloading_leaves_nothing_behind_and_forgets_nothing(tenant: Tenant) -> None:
    tenant.apply(model_version("again", "1.0.0"))
    tenant.wait_for_reason("again-1.0.0", "Healthy")
    tenant.ask("again-1-0-0", INFER.format("again"))
    tenant.load("again-1.0.0", "Unloaded")
    tenant.wait_for_reason("again-1.0.0", "Unloaded")
    tenant.wait_for("nothing is left", lambda: not tenant.left_of(["again-1.0.0"]))
    unloaded = tenant.status("again-1.0.0")
    assert not unloaded.get("loaded")
    assert "memoryBytes" not in unloaded
    assert (unloaded["loadCount"], unloaded["requestCount"]) == (1, 1)
    # Unloading what is not loaded: nothing to do, and it is told.
    tenant.load("again-1.0.0", "Auto")
    tenant.load("again-1.0.0", "Unloaded")
    assert "loaded when one does" in tenant.wait_for_reason("again-1.0.0", "Unloaded")
    tenant.load("again-1.0.0", "Loaded")
    tenant.wait_for_reason("again-1.0.0", "Healthy")
    tenant.ask("again-1-0-0", INFER.format("again"))
    tenant.wait_for("both are counted", lambda: tenant.status("again-1.0.0").get("requestCount") == 2)
    status = tenant.status("again-1.0.0")
    assert status["loadCount"] == 2
    mean = (unloaded["lastLoadSeconds"] + status["lastLoadSeconds"]) / 2
    assert status["averageLoadSeconds"] == pytest.approx(mean, abs=0.01)


@pytest.mark.requirement("VM-2", "RG-4")
def test_a_routed_version_is_neither_unloaded_nor_deleted(tenant: Tenant) -> None:
    tenant.apply(
        model_version("kept", "1.0.0", load={"state": "Auto", "timeoutSeconds": 180}), model_route("kept", "1.0.0")
    )
    tenant.wait_for_reason("kept-1.0.0", "Healthy")
    assert tenant.status("kept-1.0.0")["routedBy"] == ["kept"]
    tenant.load("kept-1.0.0", "Unloaded")
    tenant.kubectl("delete", "modelversion", "kept-1.0.0", "--wait=false")

    def deferred() -> bool:
        return bool(condition_of(tenant.status("kept-1.0.0"), "Reconciling")["reason"] == "DeletionDeferred")

    tenant.wait_for("its deletion is deferred", deferred, about="kept-1.0.0")
    assert "ModelRoute kept does" in condition_of(tenant.status("kept-1.0.0"), "Reconciling")["message"]
    assert tenant.ask("kept", INFER.format("kept"))["model_version"] == "1.0.0"
    tenant.kubectl("delete", "modelroute", "kept")
    tenant.kubectl("wait", "--for=delete", "modelversion/kept-1.0.0", "--timeout=60s")
    tenant.wait_for("nothing is left", lambda: not tenant.left_of(["kept-1.0.0"]))


@pytest.mark.requirement("VM-3", "VM-5", "VM-8")
def test_requests_are_counted_for_each_version_over_all_that_may_happen(tenant: Tenant) -> None:
    busy, idle = model_version("count", "1.0.0", replicas=2), model_version("count", "1.1.0")
    tenant.apply(busy, idle)
    for name in ("count-1.0.0", "count-1.1.0"):
        tenant.wait_for_reason(name, "Healthy")

    tenant.apply(model_version("count", "1.2.0", load={"state": "Auto"}))
    tenant.wait_for_reason("count-1.2.0", "Registered")
    loaded = {found["metadata"]["name"]: found["status"].get("loaded", False) for found in tenant.all("modelversions")}
    assert loaded == {"count-1.0.0": True, "count-1.1.0": True, "count-1.2.0": False}

    def counted(requests: int, errors: int) -> None:
        def now() -> bool:
            status = tenant.status("count-1.0.0")
            return (status.get("requestCount"), status.get("errorCount", 0)) == (requests, errors)

        tenant.wait_for(f"{requests} requests and {errors} errors are counted", now, about="count-1.0.0")

    for _ in range(REQUESTS):
        tenant.ask("count-1-0-0", INFER.format("count"))
    idle_before = _without_memory(tenant.status("count-1.1.0"))
    with pytest.raises(DemoError):
        tenant.ask("count-1-0-0", INFER.format("count"), {"inputs": "nonsense"})
    counted(REQUESTS + 1, 0)  # a client's own fault is no error of the model
    pods = tenant.pods("count-1.0.0")
    tenant.kubectl("delete", "pod", pods[0]["metadata"]["name"])
    tenant.wait_for_reason("count-1.0.0", "Healthy")
    tenant.ask("count-1-0-0", INFER.format("count"))
    loads = tenant.status("count-1.0.0")["loadCount"]
    run("kubectl", "--namespace", SYSTEM, "rollout", "restart", "deployment/modelswap-operator")
    run("kubectl", "--namespace", SYSTEM, "rollout", "status", "deployment/modelswap-operator", "--timeout=120s")
    tenant.ask("count-1-0-0", INFER.format("count"))
    counted(REQUESTS + 3, 0)
    status = tenant.status("count-1.0.0")
    assert (status["loadCount"], status["inFlight"]) == (loads, 0), "a restarted operator sees no new load"
    assert datetime.now(UTC) >= when(status["lastRequestAt"])
    assert tenant.status("count-1.1.0").get("requestCount", 0) == 0
    assert _without_memory(tenant.status("count-1.1.0")) == idle_before
    own = {"deployment", "service", "secret", "configmap"}
    for name in ("count-1.0.0", "count-1.1.0"):
        kinds = {entry.split()[0].lower() for entry in tenant.left_of([name])}
        assert own <= kinds


@pytest.mark.requirement("VM-4", "MM-5", "HS-4")
def test_a_model_that_answers_badly_leaves_the_endpoints_and_recovers(tenant: Tenant) -> None:
    tenant.apply(model_version("moody", "1.0.0", artifact=artifact("moody/"), sample=sample("moody", periodSeconds=1)))
    tenant.wait_for_reason("moody-1.0.0", "Healthy")
    [pod] = tenant.pods("moody-1.0.0")
    execute = ("exec", pod["metadata"]["name"], "--container=model-server", "--")
    tenant.kubectl(*execute, "touch", WRONG)
    message = tenant.wait_for_reason("moody-1.0.0", "Unhealthy")
    assert "7" in message
    assert "1" in message
    tenant.wait_for("its pod has left the endpoints", lambda: not _endpoints(tenant, "moody-1-0-0"))
    assert condition_of(tenant.status("moody-1.0.0"), "Healthy")["status"] == "False"
    tenant.kubectl(*execute, "rm", WRONG)
    tenant.wait_for_reason("moody-1.0.0", "Healthy")
    tenant.wait_for("its pod is back", lambda: _endpoints(tenant, "moody-1-0-0"))
    assert tenant.status("moody-1.0.0")["loadCount"] == 1, "the model was there all along"


def _endpoints(tenant: Tenant, service: str) -> list[str]:
    slices = tenant.all("endpointslices", f"kubernetes.io/service-name={service}")
    return [
        address
        for one in slices
        for endpoint in one["endpoints"] or ()
        if endpoint["conditions"]["ready"]
        for address in endpoint["addresses"]
    ]


@pytest.mark.requirement("MM-5", "VM-4")
def test_a_model_server_that_hangs_is_restarted_and_warmed_up_again(tenant: Tenant) -> None:
    tenant.apply(
        model_version(
            "hung",
            "1.0.0",
            artifact=artifact("moody/"),
            warmUp=warm_up("hung", 5),
            sample=sample("hung", periodSeconds=1),
        )
    )
    tenant.wait_for_reason("hung-1.0.0", "Healthy")
    [pod] = tenant.pods("hung-1.0.0")
    tenant.kubectl("exec", pod["metadata"]["name"], "--container=model-server", "--", "touch", HANG)
    tenant.wait_for_reason("hung-1.0.0", "Unhealthy", seconds=60)

    def restarted() -> bool:
        [now] = tenant.pods("hung-1.0.0")
        assert now["metadata"]["uid"] == pod["metadata"]["uid"], "the pod stays, its model server is restarted"
        return bool(now["status"]["containerStatuses"][0]["restartCount"] == 1)

    tenant.wait_for("its model server is restarted", restarted)
    tenant.wait_for_reason("hung-1.0.0", "Healthy")
    status = tenant.status("hung-1.0.0")
    assert condition_of(status, "WarmedUp")["status"] == "True"
    assert status["failureCount"] >= 1
    assert tenant.ask("hung-1-0-0", INFER.format("hung"))["outputs"][0]["data"] == [1]


@pytest.mark.requirement("MM-2", "VM-1")
def test_a_load_goes_on_when_what_it_needs_is_there(tenant: Tenant, images: dict[str, str]) -> None:
    tenant.apply(
        model_version(
            "late", "1.0.0", artifact={"uri": "pvc://models/late/"}, load={"state": "Loaded", "timeoutSeconds": 120}
        )
    )
    message = tenant.wait_for_reason("late-1.0.0", "Fetching")
    tenant.wait_for(
        "it says what it waits for",
        lambda: 'persistentvolumeclaim "models" not found' in condition_of(tenant.status("late-1.0.0"))["message"],
        about="late-1.0.0",
    )
    tenant.apply_file("claim", NAMESPACE=tenant.namespace, AGENT_IMAGE=images["agent"])
    message = tenant.wait_for_reason("late-1.0.0", "Healthy", "LoadFailed")
    assert "serving pods ready" in message
    assert tenant.status("late-1.0.0")["artifactDigest"].startswith("sha256:")
    tenant.kubectl("delete", "modelversion", "late-1.0.0")
    tenant.kubectl("delete", "job,pvc", "train", "models", "--ignore-not-found", "--timeout=60s")
    tenant.kubectl("delete", "pv", f"{tenant.namespace}-models", "--timeout=60s")


@pytest.mark.requirement("MM-2", "VM-1", "VM-4")
def test_a_load_that_was_given_up_is_tried_again_when_asked(tenant: Tenant) -> None:
    tenant.apply(model_version("late", "1.1.0", artifact=artifact("nowhere/")))
    tenant.wait_for_reason("late-1.1.0", "LoadFailed")
    status = tenant.status("late-1.1.0")
    assert not status.get("loaded")
    assert condition_of(status, "WarmedUp")["status"] == "False", "what is not loaded is not warmed up"
    tenant.wait_for("nothing is left", lambda: not tenant.left_of(["late-1.1.0"]))
    count = tenant.status("late-1.1.0")["failureCount"]
    tenant.kubectl("annotate", "modelversion", "late-1.1.0", "modelswap.dev/retry=once-more")
    tenant.wait_for("it was tried again", lambda: tenant.status("late-1.1.0")["failureCount"] > count)
    tenant.wait_for_reason("late-1.1.0", "LoadFailed")
