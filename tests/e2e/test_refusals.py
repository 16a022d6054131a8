"""Bad input on the real cluster: a clear message each, and what served goes on serving."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from demo.kubectl import DemoError, kubectl

from tests.support.conditions import condition_of

from .conftest import Demonstration
from .tenant import Tenant

DEMO = Tenant("modelswap-demo")


def copy_of_iris(version: str, **changes: Any) -> dict[str, Any]:
    spec = DEMO.get("modelversion", "iris-1.0.0")["spec"] | {"version": version} | changes
    return {
        "apiVersion": "modelswap.dev/v1alpha1",
        "kind": "ModelVersion",
        "metadata": {"name": f"iris-{version}", "namespace": "modelswap-demo"},
        "spec": spec,
    }


def create(body: dict[str, Any]) -> None:
    kubectl("create", "-f", "-", stdin=json.dumps(body))


def route_to(version: str) -> None:
    kubectl("patch", "modelroute", "iris", "--type=merge", f"--patch={json.dumps({'spec': {'version': version}})}")


@pytest.fixture(autouse=True)
def serves_before_and_after(demo: Demonstration) -> Iterator[None]:
    assert demo.exit_code == 0, demo.output
    yield
    route = DEMO.get("modelroute", "iris")
    assert route["status"]["currentVersion"] == "1.0.0"
    assert condition_of(route["status"], "Healthy")["status"] == "True"
    route_to("1.0.0")
    DEMO.wait_for_reason("iris", "Serving", kind="modelroute")


@pytest.fixture
def extra_version() -> Iterator[str]:
    yield "6.6.6"
    route_to("1.0.0")
    kubectl("delete", "modelversion", "iris-6.6.6", "--ignore-not-found")


@pytest.mark.requirement("RG-3")
def test_a_duplicate_is_refused_by_the_api_server() -> None:
    with pytest.raises(DemoError, match="already exists"):
        create(copy_of_iris("1.0.0"))


@pytest.mark.requirement("RG-2")
def test_a_version_with_a_v_is_refused_by_the_api_server() -> None:
    with pytest.raises(DemoError, match="no leading 'v'"):
        create(copy_of_iris("v1.0"))


@pytest.mark.requirement("MM-8")
def test_a_wrong_checksum_is_told_with_both_sums(extra_version: str) -> None:
    artifact = DEMO.get("modelversion", "iris-1.0.0")["spec"]["artifact"] | {"sha256": "0" * 64}
    create(copy_of_iris(extra_version, artifact=artifact))
    message = DEMO.wait_for_reason(f"iris-{extra_version}", "LoadFailed")
    assert "but spec.artifact.sha256 says 0000" in message
    assert "Register a version with the right one" in message
    route_to(extra_version)
    message = DEMO.wait_for_reason("iris", "TargetLoadFailed", kind="modelroute")
    assert "sha256" in message


@pytest.mark.requirement("MM-2")
def test_a_missing_artifact_is_told(extra_version: str) -> None:
    artifact = {"uri": "s3://models/iris/nowhere/", "secretRef": {"name": "model-store"}}
    create(copy_of_iris(extra_version, artifact=artifact))
    message = DEMO.wait_for_reason(f"iris-{extra_version}", "LoadFailed")
    assert "there is nothing under s3://models/iris/nowhere/" in message


def test_an_unknown_runtime_is_told(extra_version: str) -> None:
    create(copy_of_iris(extra_version, runtime={"name": "no-such-runtime"}))
    message = DEMO.wait_for_reason(f"iris-{extra_version}", "RuntimeNotFound")
    assert "there is no ModelRuntime no-such-runtime" in message


@pytest.mark.requirement("HS-7", "VM-1")
def test_a_route_to_a_version_that_does_not_exist_is_told() -> None:
    route_to("9.9.9")
    message = DEMO.wait_for_reason("iris", "VersionNotFound", kind="modelroute")
    assert "there is no ModelVersion iris-9.9.9" in message
    assert "1.1.0, 1.0.0" in message


@pytest.mark.requirement("HS-4")
def test_a_model_whose_sample_answer_is_wrong_is_never_routed(extra_version: str) -> None:
    sample = DEMO.get("modelversion", "iris-1.0.0")["spec"]["sample"]
    sample["expect"]["values"][0]["values"] = [77]
    artifact = DEMO.get("modelversion", "iris-1.1.0")["spec"]["artifact"]
    create(copy_of_iris(extra_version, sample=sample, artifact=artifact))
    route_to(extra_version)
    message = DEMO.wait_for_reason(f"iris-{extra_version}", "Unhealthy")
    assert "sample inference has" in message
    assert DEMO.get("modelroute", "iris")["status"]["swap"]["state"] == "Preparing"
