"""Deleting what is in use, on a real API server."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from .conftest import Cluster, condition, eventually, model_route, model_version, operator_environment, runtime

FINALIZER = "modelswap.dev/routed"


def finalizers(cluster: Cluster, name: str, namespace: str) -> list[str]:
    found: list[str] = cluster.get("modelversion", name, namespace)["metadata"].get("finalizers", [])
    return found


def serve(cluster: Cluster, version: str, namespace: str) -> None:
    """There are no pods here that a swap could end with: the route is told that this one serves."""
    patch = json.dumps({"status": {"currentVersion": version}})
    options = (f"--namespace={namespace}", "--subresource=status", "--type=merge", f"--patch={patch}")
    eventually(lambda: cluster.kubectl("patch", "modelroute", "iris", *options).returncode == 0)


def gone(cluster: Cluster, name: str, namespace: str) -> bool:
    return not cluster.get("modelversion", name, namespace)


@pytest.mark.requirement("RG-4")
def test_deleting_a_routed_version_waits_until_no_route_leads_to_it(
    cluster: Cluster, namespace: str, operator: subprocess.Popen[bytes]
) -> None:
    other = model_version("1.1.0", namespace)
    other["metadata"]["finalizers"] = ["example.com/other"]
    cluster.applied(runtime(), model_version("1.0.0", namespace), other, model_route("1.0.0", namespace))
    serve(cluster, "1.0.0", namespace)
    eventually(lambda: finalizers(cluster, "iris-1.0.0", namespace) == [FINALIZER])
    assert finalizers(cluster, "iris-1.1.0", namespace) == ["example.com/other"]
    cluster.kubectl("delete", "modelversion", "iris-1.0.0", f"--namespace={namespace}", "--wait=false")

    def deferred() -> Any:
        found = condition(cluster.get("modelversion", "iris-1.0.0", namespace), "Reconciling")
        return found if found["reason"] == "DeletionDeferred" else None

    assert "ModelRoute iris does" in eventually(deferred)["message"]
    assert cluster.get("deployment", "iris-1.0.0", namespace)
    cluster.applied(model_route("1.1.0", namespace))
    # Source and target of a swap that runs; another's finalizer is left alone, beside ours and after it.
    eventually(lambda: set(finalizers(cluster, "iris-1.1.0", namespace)) == {FINALIZER, "example.com/other"})
    assert not gone(cluster, "iris-1.0.0", namespace)
    cluster.kubectl("delete", "modelroute", "iris", f"--namespace={namespace}")
    eventually(lambda: gone(cluster, "iris-1.0.0", namespace))
    eventually(lambda: finalizers(cluster, "iris-1.1.0", namespace) == ["example.com/other"])
    cluster.kubectl(
        *("patch", "modelversion", "iris-1.1.0", f"--namespace={namespace}", "--type=json"),
        *("--patch", '[{"op": "remove", "path": "/metadata/finalizers"}]'),
    )


@pytest.mark.requirement("RG-4")
def test_an_unrouted_version_is_deleted_at_once(
    cluster: Cluster, namespace: str, operator: subprocess.Popen[bytes]
) -> None:
    cluster.applied(runtime(), model_version("1.0.0", namespace, load={"state": "Loaded"}))
    eventually(lambda: cluster.get("deployment", "iris-1.0.0", namespace))
    assert finalizers(cluster, "iris-1.0.0", namespace) == []
    done = cluster.kubectl("delete", "modelversion", "iris-1.0.0", f"--namespace={namespace}", "--timeout=10s")
    assert done.returncode == 0, done.stderr


@pytest.mark.requirement("RG-4")
def test_once_the_operator_is_retired_nothing_waits_for_it(
    cluster: Cluster, namespace: str, operator: subprocess.Popen[bytes]
) -> None:
    cluster.applied(runtime(), model_version("1.0.0", namespace), model_route("1.0.0", namespace))
    eventually(lambda: finalizers(cluster, "iris-1.0.0", namespace) == [FINALIZER])
    operator.kill()  # the worst way to end: it could not clean up itself
    operator.wait(timeout=10)
    done = subprocess.run(
        [sys.executable, "-m", "modelswap", "retire"],
        env=operator_environment(cluster, "gone"),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert finalizers(cluster, "iris-1.0.0", namespace) == []
    deleted = cluster.kubectl("delete", "modelversion", "iris-1.0.0", f"--namespace={namespace}", "--timeout=10s")
    assert deleted.returncode == 0, deleted.stderr


@pytest.mark.requirement("RG-4")
def test_an_operator_that_stops_with_its_deployment_deleted_takes_its_finalizers_with_it(
    cluster: Cluster,
    namespace: str,
    operator: subprocess.Popen[bytes],
    start_operator: Callable[..., subprocess.Popen[bytes]],
) -> None:
    operator.terminate()
    operator.wait(timeout=20)
    uninstalled = start_operator(deployment="gone")
    cluster.applied(runtime(), model_version("1.0.0", namespace), model_route("1.0.0", namespace))
    eventually(lambda: finalizers(cluster, "iris-1.0.0", namespace) == [FINALIZER])
    uninstalled.terminate()
    assert uninstalled.wait(timeout=20) == 0
    assert finalizers(cluster, "iris-1.0.0", namespace) == []
