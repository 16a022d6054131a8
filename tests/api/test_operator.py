"""The operator against a real API server: what it writes, and what it leaves alone."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from typing import Any

import pytest
from localcluster import tools
from localcluster.layout import Layout

from .conftest import PROJECT, Cluster, condition, eventually, model_route, model_version, runtime

Start = Callable[[], subprocess.Popen[bytes]]
KINDS = "modelversions,modelroutes,deployments,services,configmaps,secrets"


def versions_of(cluster: Cluster, namespace: str) -> dict[str, str]:
    """Resource version of everything in a namespace: changes with every write."""
    return {
        f"{body['kind']}/{body['metadata']['name']}": body["metadata"]["resourceVersion"]
        for body in cluster.all(KINDS, namespace)
    }


def reason(cluster: Cluster, kind: str, name: str, namespace: str) -> Any:
    return condition(cluster.get(kind, name, namespace), "Ready")["reason"]


@pytest.mark.requirement("VM-5")
def test_a_routed_version_gets_children_of_its_own(
    cluster: Cluster, namespace: str, operator: subprocess.Popen[bytes]
) -> None:
    cluster.applied(runtime(), model_version("1.0.0", namespace), model_route("1.0.0", namespace))
    names = {"Deployment/iris-1.0.0", "Service/iris-1-0-0", "ConfigMap/iris-1.0.0-agent", "Secret/iris-1.0.0-agent-tls"}
    eventually(lambda: names <= versions_of(cluster, namespace).keys())
    eventually(lambda: cluster.get("modelversion", "iris-1.0.0", namespace)["metadata"].get("finalizers"))
    version = cluster.get("modelversion", "iris-1.0.0", namespace)
    for kind_and_name in names:
        kind, _, name = kind_and_name.partition("/")
        meta = cluster.get(kind, name, namespace)["metadata"]
        assert meta["ownerReferences"][0]["uid"] == version["metadata"]["uid"]
        assert meta["labels"]["app.kubernetes.io/managed-by"] == "modelswap"
    eventually(lambda: reason(cluster, "modelroute", "iris", namespace) == "Preparing")
    assert cluster.get("modelversion", "iris-1.0.0", namespace)["status"]["routedBy"] == ["iris"]
    assert version["metadata"]["finalizers"] == ["modelswap.dev/routed"]


@pytest.mark.requirement("VM-1")
def test_nothing_is_written_when_nothing_changed(
    cluster: Cluster, namespace: str, start_operator: Start, operator: Any, operators: list[Any]
) -> None:
    cluster.applied(runtime(), model_version("1.0.0", namespace), model_route("1.0.0", namespace))
    eventually(lambda: reason(cluster, "modelroute", "iris", namespace) == "Preparing")
    eventually(lambda: cluster.get("deployment", "iris-1.0.0", namespace))
    eventually(lambda: reason(cluster, "modelversion", "iris-1.0.0", namespace) == "Fetching")
    before = versions_of(cluster, namespace)
    operator.terminate()
    assert operator.wait(timeout=20) == 0
    operators.append(start_operator())
    marker = model_version("7.7.7", namespace, model="marker")
    cluster.applied(marker)  # once this one has a status, the new operator has looked at everything
    eventually(lambda: reason(cluster, "modelversion", "marker-7.7.7", namespace) == "Registered")
    assert before.items() <= versions_of(cluster, namespace).items()


def test_a_version_that_no_route_needs_any_more_leaves_nothing_behind(
    cluster: Cluster, namespace: str, operator: subprocess.Popen[bytes]
) -> None:
    cluster.applied(runtime(), model_version("1.0.0", namespace, load={"state": "Loaded"}))
    eventually(lambda: cluster.get("deployment", "iris-1.0.0", namespace))
    cluster.applied(model_version("1.0.0", namespace, load={"state": "Auto"}))
    kept = {"ModelVersion/iris-1.0.0"}
    eventually(lambda: {k for k in versions_of(cluster, namespace) if "iris" in k} == kept)


@pytest.mark.requirement("HS-7")
def test_a_route_to_a_version_that_does_not_exist_says_which_do(
    cluster: Cluster, namespace: str, operator: subprocess.Popen[bytes]
) -> None:
    cluster.applied(runtime(), model_version("1.0.0", namespace), model_route("2.0.0", namespace))
    eventually(lambda: reason(cluster, "modelroute", "iris", namespace) == "VersionNotFound")
    stalled = condition(cluster.get("modelroute", "iris", namespace), "Stalled")
    assert stalled["status"] == "True"
    assert "there is no ModelVersion iris-2.0.0" in stalled["message"]
    assert "1.0.0" in stalled["message"]
    events = cluster.kubectl("get", "events", f"--namespace={namespace}").stdout
    assert "VersionNotFound" in events


def test_an_unknown_runtime_is_told(cluster: Cluster, namespace: str, operator: subprocess.Popen[bytes]) -> None:
    version = model_version("1.0.0", namespace, runtime={"name": "no-such"}, load={"state": "Loaded"})
    cluster.applied(version)
    eventually(lambda: reason(cluster, "modelversion", "iris-1.0.0", namespace) == "RuntimeNotFound")
    cluster.applied(runtime("no-such"))
    eventually(lambda: reason(cluster, "modelversion", "iris-1.0.0", namespace) == "Fetching")


def test_somebody_elses_service_is_not_taken_over(
    cluster: Cluster, namespace: str, operator: subprocess.Popen[bytes]
) -> None:
    theirs = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "iris-1-0-0", "namespace": namespace},
        "spec": {"selector": {"app": "theirs"}, "ports": [{"port": 80}]},
    }
    cluster.applied(theirs, runtime(), model_version("1.0.0", namespace, load={"state": "Loaded"}))
    eventually(lambda: reason(cluster, "modelversion", "iris-1.0.0", namespace) == "NameTaken")
    message = condition(cluster.get("modelversion", "iris-1.0.0", namespace), "Stalled")["message"]
    assert "the Service iris-1-0-0" in message
    assert cluster.get("service", "iris-1-0-0", namespace)["spec"]["selector"] == {"app": "theirs"}


def test_a_model_has_one_route(cluster: Cluster, namespace: str, operator: subprocess.Popen[bytes]) -> None:
    cluster.applied(runtime(), model_version("1.0.0", namespace), model_route("1.0.0", namespace))
    eventually(lambda: reason(cluster, "modelroute", "iris", namespace) == "Preparing")
    time.sleep(1.1)  # creation times are whole seconds, and the older route is the one that stays
    cluster.applied(model_route("1.0.0", namespace, name="second"))
    eventually(lambda: reason(cluster, "modelroute", "second", namespace) == "ModelAlreadyRouted")
    assert reason(cluster, "modelroute", "iris", namespace) == "Preparing"


def test_the_chart_renders_what_the_api_server_takes(cluster: Cluster, namespace: str) -> None:
    chart = str(PROJECT / "charts" / "modelswap")

    def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(cluster.server.helm), f"--kubeconfig={cluster.server.kubeconfig}", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    crds = tools.ensure_monitoring(Layout.from_environment()) / "crds"
    for kind in ("podmonitors", "prometheusrules", "servicemonitors"):
        made = cluster.kubectl("apply", "--server-side", "-f", str(crds / f"monitoring.coreos.com_{kind}.yaml"))
        assert made.returncode == 0, made.stderr
    # There is no controller here that makes it, and `helm test` runs as nobody else.
    assert cluster.kubectl("create", "serviceaccount", "default", f"--namespace={namespace}").returncode == 0
    linted = helm("lint", "--strict", chart)
    assert linted.returncode == 0, linted.stdout
    for options in (
        (),
        ("settings.artifactCache.path=/var/cache/modelswap",),
        (f"settings.watchNamespaces={{{namespace}}}",),
        ("replicas=1", "runtimes.mlserverSklearn.create=false", "settings.logFormat=text"),
        (f"image.digest=sha256:{'a' * 64}", "priorityClassName=high", "podLabels.team=ml", "podAnnotations.a=b"),
        ("podDisruptionBudget.create=false", "imagePullSecrets[0].name=pull", "nodeSelector.disk=ssd"),
        ("metrics.serviceMonitor.create=true", "metrics.podMonitor.create=true", "metrics.labels.release=prometheus"),
        ("prometheusRule.create=true", "prometheusRule.thresholds.errorPercent=2", "dashboard.create=true"),
        ("networkPolicy.create=true", f"settings.watchNamespaces={{{namespace}}}", "metrics.podMonitor.create=true"),
        ("networkPolicy.create=true", "networkPolicy.metricsFrom[0].namespaceSelector.matchLabels.a=b"),
        ("settings.fetchHosts={*.example.com,s3.amazonaws.com}",),
    ):
        sets = [word for option in options for word in ("--set", option)]
        rendered = helm("template", "x", chart, f"--namespace={namespace}", *sets)
        assert rendered.returncode == 0, rendered.stderr
        taken = cluster.kubectl(
            *("apply", "--dry-run=server", f"--namespace={namespace}", "-f", "-"), stdin=rendered.stdout
        )
        assert taken.returncode == 0, taken.stderr
    for wrong, word in (
        ("settings.wrokers=3", "wrokers"),
        ("replicas=-1", "replicas"),
        ("image.digest=latest", "digest"),
        ("settings.workers=many", "workers"),
        ("prometheusRule.thresholds.errorPercent=101", "errorPercent"),
        ("metrics.podMonitors.create=true", "podMonitors"),
        ("networkPolicy.apiServerPorts={}", "apiServerPorts"),
    ):
        refused = helm("template", "x", chart, "--set", wrong)
        assert refused.returncode != 0
        assert word in refused.stderr


def test_children_that_are_refused_are_told_and_none_is_made(
    cluster: Cluster, namespace: str, operator: subprocess.Popen[bytes]
) -> None:
    resources = {"limits": {"no such resource": "1"}}
    cluster.applied(runtime(), model_version("1.0.0", namespace, load={"state": "Loaded"}, resources=resources))

    def stalled() -> Any:
        found = condition(cluster.get("modelversion", "iris-1.0.0", namespace), "Stalled")
        return found if found["reason"] == "ChildRefused" else None

    message = eventually(stalled)["message"]
    assert message.startswith("Kubernetes refuses the Deployment iris-1.0.0: ")
    assert "no such resource" in message
    kinds = "deployments,services,configmaps,secrets"
    assert [
        c for c in cluster.all(kinds, namespace) if "modelswap.dev/model-version" in c["metadata"].get("labels", {})
    ] == []
    cluster.applied(model_version("1.0.0", namespace, load={"state": "Loaded"}))
    eventually(lambda: cluster.get("deployment", "iris-1.0.0", namespace))
    eventually(lambda: condition(cluster.get("modelversion", "iris-1.0.0", namespace), "Stalled")["status"] == "False")
    # What serves, or is about to, stays as it is when a change is refused.
    before = cluster.get("deployment", "iris-1.0.0", namespace)["metadata"]["generation"]
    cluster.applied(model_version("1.0.0", namespace, load={"state": "Loaded"}, resources=resources))
    eventually(stalled)
    assert cluster.get("deployment", "iris-1.0.0", namespace)["metadata"]["generation"] == before


def test_an_image_volume_brings_the_model(cluster: Cluster, namespace: str, operator: subprocess.Popen[bytes]) -> None:
    artifact = {"uri": "image://registry.example:5000/models/iris:1.0.0"}
    cluster.applied(runtime(), model_version("1.0.0", namespace, load={"state": "Loaded"}, artifact=artifact))
    deployment = eventually(lambda: cluster.get("deployment", "iris-1.0.0", namespace))
    pod = deployment["spec"]["template"]["spec"]
    volume = next(volume for volume in pod["volumes"] if volume["name"] == "models")
    assert volume["image"] == {"reference": "registry.example:5000/models/iris:1.0.0", "pullPolicy": "IfNotPresent"}
    fetch = next(container for container in pod["initContainers"] if container["name"] == "fetch")
    assert "--verify-only" in fetch["command"]
    mounts = [mount for c in (fetch, pod["containers"][0]) for mount in c["volumeMounts"] if mount["name"] == "models"]
    assert all(mount["readOnly"] for mount in mounts)
