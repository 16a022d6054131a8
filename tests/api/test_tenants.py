"""What an author of versions and routes tries in order to get at what is not his. Every attempt is refused."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from .conftest import Cluster, condition, eventually, model_route, model_version, runtime


def refusal(cluster: Cluster, body: dict[str, Any]) -> str:
    """What the API server says to somebody who looks at what it says."""
    done = cluster.kubectl("create", "--validate=strict", "--dry-run=server", "-f", "-", stdin=json.dumps(body))
    assert done.returncode != 0, "it was taken"
    return done.stderr


@pytest.mark.parametrize(
    ("spec", "word"),
    [
        ({"artifact": {"uri": "s3://m/x/", "secretRef": {"name": "other/secret"}}}, "secretRef.name"),
        ({"artifact": {"uri": "s3://m/x/", "secretRef": {"name": "s", "namespace": "other"}}}, "secretRef.namespace"),
        ({"artifact": {"uri": "pvc://../claim/x"}}, "CLAIM"),
        ({"artifact": {"uri": "pvc://claim/../../etc/"}}, "without '..'"),
        ({"artifact": {"uri": "file:///etc/passwd"}}, "URI is"),
        ({"artifact": {"uri": "hostpath://node/etc/"}}, "URI is"),
        ({"hostPath": {"path": "/"}}, "spec.hostPath"),
        ({"volumes": [{"name": "x", "hostPath": {"path": "/"}}]}, "spec.volumes"),
        ({"serviceAccountName": "admin"}, "spec.serviceAccountName"),
        ({"image": "evil"}, "spec.image"),
        ({"env": [{"name": "LD_PRELOAD", "value": "x"}]}, "spec.env"),
        ({"securityContext": {"privileged": True}}, "spec.securityContext"),
        ({"runtime": {"name": "mlserver", "namespace": "other"}}, "runtime.namespace"),
        ({"runtime": {"name": "../mlserver"}}, "runtime.name"),
    ],
)
def test_a_version_has_no_words_for_what_is_not_its_own(
    cluster: Cluster, namespace: str, spec: dict[str, Any], word: str
) -> None:
    assert word in refusal(cluster, model_version("1.0.0", namespace, **spec))


@pytest.mark.parametrize(
    ("spec", "word"),
    [
        ({"namespace": "other"}, "spec.namespace"),
        ({"model": "other/iris"}, "spec.model"),
        ({"service": {"name": "other"}}, "spec.service.name"),
        ({"service": {"externalName": "other.svc"}}, "spec.service.externalName"),
        ({"service": {"type": "ExternalName"}}, "spec.service.type"),
    ],
)
def test_nor_has_a_route(cluster: Cluster, namespace: str, spec: dict[str, Any], word: str) -> None:
    body = model_route("1.0.0", namespace)
    body["spec"] |= spec
    assert word in refusal(cluster, body)


def test_a_route_leads_to_versions_of_its_own_namespace_alone(
    cluster: Cluster, namespace: str, operator: subprocess.Popen[bytes]
) -> None:
    other = f"{namespace}-other"
    assert cluster.kubectl("create", "namespace", other).returncode == 0
    cluster.applied(runtime(), model_version("1.0.0", other, load={"state": "Loaded"}), model_route("1.0.0", namespace))

    def ready() -> Any:
        return condition(cluster.get("modelroute", "iris", namespace), "Ready")

    eventually(lambda: ready()["status"] == "False" and "1.0.0" in ready()["message"])
    assert cluster.get("modelversion", "iris-1.0.0", other)["status"].get("routedBy", []) == []


@pytest.mark.parametrize("kind", ["service", "configmap"])
def test_what_exists_is_not_taken_over(
    cluster: Cluster, namespace: str, operator: subprocess.Popen[bytes], kind: str
) -> None:
    body: dict[str, Any] = {"apiVersion": "v1", "metadata": {"namespace": namespace}}
    if kind == "service":
        body |= {"kind": "Service", "spec": {"selector": {"app": "bank"}, "ports": [{"port": 80}]}}
        body["metadata"]["name"] = "iris-1-0-0"
    else:
        body |= {"kind": "ConfigMap", "data": {"agent.json": "{}"}}
        body["metadata"]["name"] = "iris-1.0.0-agent"
    cluster.applied(body)
    cluster.applied(runtime(), model_version("1.0.0", namespace, load={"state": "Loaded"}))

    def stalled() -> Any:
        found = condition(cluster.get("modelversion", "iris-1.0.0", namespace), "Stalled")
        return found if found.get("reason") == "NameTaken" else None

    assert "is not modelswap's" in eventually(stalled)["message"]
    found = cluster.get(kind, body["metadata"]["name"], namespace)
    assert found["metadata"].get("ownerReferences") is None
    assert found.get("data", found.get("spec", {}).get("selector")) in ({"agent.json": "{}"}, {"app": "bank"})


def test_a_pod_gets_no_token_and_no_right(cluster: Cluster, namespace: str, operator: subprocess.Popen[bytes]) -> None:
    cluster.applied(runtime(), model_version("1.0.0", namespace, load={"state": "Loaded"}))
    pod = eventually(lambda: cluster.get("deployment", "iris-1.0.0", namespace))["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert pod.get("serviceAccountName", "default") == "default"
    assert not any("hostPath" in volume for volume in pod["volumes"])
    for container in (*pod["initContainers"], *pod["containers"]):
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["readOnlyRootFilesystem"] is True
        assert context["capabilities"] == {"drop": ["ALL"]}
    # The strictest standard of Kubernetes takes it as it is.
    enforce = "pod-security.kubernetes.io/enforce=restricted"
    assert cluster.kubectl("label", "namespace", namespace, enforce).returncode == 0
    assert cluster.kubectl("create", "serviceaccount", "default", f"--namespace={namespace}").returncode == 0
    meta = {"name": "as-made", "namespace": namespace}
    cluster.applied({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": pod})
