"""Twenty versions at once: good ones load and unload, bad ones end within their limits, none is in another's way."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from functools import partial
from typing import Any

import pytest
from demo.kubectl import run

from tests.support.conditions import condition_of

from .tenant import Object, Tenant, artifact, model_version

RUNTIME = "no-such-image"
QUICK = {"state": "Loaded", "timeoutSeconds": 180, "maxAttempts": 2}

LEAVING = [f"leaving-1.{minor}.0" for minor in range(6)]
COMING = [f"coming-1.{minor}.0" for minor in range(6)]


@pytest.fixture
def runtime_without_image(tenant: Tenant) -> Iterator[None]:
    tenant.apply(runtime_that_has_no_image(tenant))
    yield
    run("kubectl", "delete", "modelruntime", RUNTIME)


def runtime_that_has_no_image(tenant: Tenant) -> Object:
    spec = tenant.get("modelruntime", "mlserver-sklearn")["spec"]
    spec["modelServer"]["image"] = "localhost/no-such-image:1"
    return {"apiVersion": "modelswap.dev/v1alpha1", "kind": "ModelRuntime", "metadata": {"name": RUNTIME}, "spec": spec}


def bad_versions(sha256: str) -> dict[str, tuple[dict[str, Any], str, str]]:
    """Name → version, reason of Ready, words of its message."""
    dead = {"uri": "http://flaky.modelswap-versions.svc:8000/dead/model.joblib", "sha256": sha256}
    cases: dict[str, tuple[dict[str, Any], str, str]] = {
        "checksum": (
            {"artifact": artifact("iris/1.0.0/", sha256="0" * 64)},
            "LoadFailed",
            "spec.artifact.sha256 says 00",
        ),
        "missing": ({"artifact": artifact("nowhere/")}, "LoadFailed", "there is nothing under s3://models/nowhere/"),
        "dead": ({"artifact": dead, "load": QUICK}, "LoadFailed", "gave up after 2 attempts"),
        "crash": ({"artifact": artifact("crash/"), "load": QUICK}, "LoadFailed", "the weights are broken: layer 3"),
        "sleep": (
            {"artifact": artifact("sleep/"), "load": QUICK | {"timeoutSeconds": 90, "maxAttempts": 1}},
            "LoadFailed",
            "did not answer within 90 s",
        ),
        "greed": (
            {"artifact": artifact("greed/"), "load": QUICK},
            "LoadFailed",
            "more memory than its limit of 512Mi and was killed. Raise spec.resources.limits.memory",
        ),
        "image": ({"runtime": {"name": RUNTIME}}, "Loading", "the image cannot be pulled"),
    }
    return {
        f"{name}-1.0.0": (model_version(name, "1.0.0", **spec), reason, words)
        for name, (spec, reason, words) in cases.items()
    }


def _says(tenant: Tenant, name: str, words: str) -> bool:
    return words in condition_of(tenant.status(name))["message"]


def ready_since(tenant: Tenant, name: str) -> datetime:
    return datetime.fromisoformat(condition_of(tenant.status(name))["lastTransitionTime"])


def failed_last(tenant: Tenant, name: str) -> datetime:
    return max(datetime.fromisoformat(failure["time"]) for failure in tenant.status(name)["failures"])


@pytest.mark.requirement("VM-7", "MM-2", "MM-8", "VM-2")
def test_twenty_versions_at_once_end_as_they_should(tenant: Tenant, runtime_without_image: None) -> None:
    sha256 = tenant.sha256_of_the_model()
    drops = {"uri": "http://flaky.modelswap-versions.svc:8000/drops/model.joblib", "sha256": sha256}
    bad = bad_versions(sha256)
    coming = [*COMING, "drops-1.0.0"]
    assert len(LEAVING) + len(coming) + len(bad) == 20
    tenant.apply(*(model_version(*name.split("-")) for name in LEAVING))
    for name in LEAVING:
        tenant.wait_for_reason(name, "Healthy", seconds=180)

    tenant.apply(
        *(model_version(*name.split("-"), load={"state": "Unloaded"}) for name in LEAVING),
        *(body for body, *_ in bad.values()),
        *(model_version(*name.split("-")) for name in COMING),
        model_version("drops", "1.0.0", artifact=drops),
    )
    for name in coming:
        message = tenant.wait_for_reason(name, "Healthy", "LoadFailed", seconds=240)
        assert "1 of 1 serving pods ready" in message
    for name in LEAVING:
        tenant.wait_for_reason(name, "Unloaded")
    tenant.wait_for("nothing is left of the unloaded", lambda: not tenant.left_of(LEAVING))
    for name, (_, reason, words) in bad.items():
        message = tenant.wait_for_reason(name, reason, seconds=400)
        if reason == "LoadFailed":
            assert words in message, name
            assert "modelswap.dev/retry" in message, name
        else:
            tenant.wait_for(f"{name} says why", partial(_says, tenant, name, words), about=name)
    _each_failure_is_kept(tenant)
    # Those that load are not behind those that use up their attempts.
    assert max(ready_since(tenant, name) for name in coming) < failed_last(tenant, "sleep-1.0.0")
    assert tenant.status("drops-1.0.0")["artifactDigest"] == f"sha256:{sha256}"
    failed = [name for name, (_, reason, _) in bad.items() if reason == "LoadFailed"]
    tenant.wait_for("nothing is left of those given up", lambda: not tenant.left_of(failed))
    tenant.kubectl("delete", "modelversions", "--all", "--timeout=60s")
    tenant.wait_for("nothing is left at all", lambda: not tenant.left_of([*LEAVING, *coming, *bad]))


def _each_failure_is_kept(tenant: Tenant) -> None:
    reasons = {
        "checksum": ["ChecksumMismatch"],
        "missing": ["NotFound"],
        "dead": ["StoreUnreachable"] * 2,
        "crash": ["ModelServerExited"] * 2,
        "sleep": ["LoadTimeout"],
        "greed": ["OutOfMemory"] * 2,
        "image": ["ImagePullFailed"],
    }
    for model, wanted in reasons.items():
        status = tenant.status(f"{model}-1.0.0")
        # So many pods at once may fill the node for a moment, which is told as well.
        found = [failure["reason"] for failure in status["failures"] if failure["reason"] != "Unschedulable"]
        assert found == wanted, (model, status)
        assert status["failureCount"] == len(status["failures"])
        assert not status.get("loaded")


@pytest.mark.requirement("MM-3", "VM-7")
def test_a_quota_that_does_not_allow_the_pods_is_told(tenant: Tenant) -> None:
    tenant.kubectl("create", "quota", "small", "--hard=limits.memory=100Mi")
    tenant.apply(model_version("quota", "1.0.0"))
    tenant.wait_for(
        "the quota is told",
        lambda: (
            "Lower spec.resources or spec.replicas, or raise the ResourceQuota"
            in condition_of(tenant.status("quota-1.0.0"))["message"]
        ),
        about="quota-1.0.0",
    )
    tenant.kubectl("delete", "quota", "small")
    tenant.kubectl("delete", "modelversion", "quota-1.0.0")


@pytest.mark.requirement("MM-3")
def test_a_version_that_no_node_can_take_is_told(tenant: Tenant) -> None:
    huge = {"requests": {"memory": "900Gi"}, "limits": {"memory": "900Gi"}}
    tenant.apply(model_version("huge", "1.0.0", resources=huge))
    tenant.wait_for(
        "it says why",
        lambda: "Lower spec.resources.requests" in condition_of(tenant.status("huge-1.0.0"))["message"],
        about="huge-1.0.0",
    )
    assert "Insufficient memory" in condition_of(tenant.status("huge-1.0.0"))["message"]
    tenant.kubectl("delete", "modelversion", "huge-1.0.0")
