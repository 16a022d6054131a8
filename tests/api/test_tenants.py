"""What an author of versions and routes tries in order to get at what is not his. Every attempt is refused."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.chart import rendered

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


@pytest.fixture
def admission_policy(cluster: Cluster) -> Iterator[None]:
    """The chart's."""
    policy = [found for found in rendered() if found["kind"].startswith("ValidatingAdmissionPolicy")]
    assert len(policy) == 2
    cluster.applied(*policy)
    yield
    for found in reversed(policy):
        cluster.kubectl("delete", found["kind"], found["metadata"]["name"])


def allow(cluster: Cluster, namespace: str, name: str, *rights: str) -> None:
    """Ada to do something."""
    assert cluster.kubectl("create", "role", name, f"--namespace={namespace}", *rights).returncode == 0
    who = (f"--role={name}", "--user=ada", f"--namespace={namespace}")
    assert cluster.kubectl("create", "rolebinding", name, *who).returncode == 0


@pytest.mark.parametrize(
    ("kind", "name", "artifact"),
    [
        ("secret", "payroll", {"uri": "oci://evil.example/x:1", "secretRef": {"name": "payroll"}}),
        ("persistentvolumeclaim", "payroll", {"uri": "pvc://payroll/all/"}),
    ],
)
def test_an_author_may_name_only_what_he_may_read(
    cluster: Cluster, namespace: str, admission_policy: None, kind: str, name: str, artifact: dict[str, Any]
) -> None:
    namespace = f"{namespace}-{kind[:6]}"
    assert cluster.kubectl("create", "namespace", namespace).returncode == 0
    writing = ("--verb=create,get,patch,update", "--resource=modelversions.modelswap.dev")
    allow(cluster, namespace, "author", *writing)
    harmless = model_version("1.0.0", namespace)
    bad = model_version("1.1.0", namespace, artifact=artifact)

    def create(body: dict[str, Any]) -> subprocess.CompletedProcess[str]:
        return cluster.kubectl("create", "--as=ada", "-f", "-", stdin=json.dumps(body))

    # A policy takes a moment to be in force: until then the API server would take it.
    eventually(lambda: cluster.kubectl(
        "create", "--as=ada", "--dry-run=server", "-f", "-", stdin=json.dumps(bad)
    ).returncode != 0)  # fmt: skip
    assert create(harmless).returncode == 0, "what names nothing is his to register"
    refused = create(bad)
    assert refused.returncode != 0
    assert f"{name}, which you may not get" in refused.stderr
    allow(cluster, namespace, "reader", f"--resource={kind}s", f"--resource-name={name}", "--verb=get")
    eventually(lambda: create(bad).returncode == 0)
    # What another has registered may be changed by him in all that is not the artifact.
    patch = ("patch", "modelversion", "iris-1.1.0", f"--namespace={namespace}", "--type=merge")
    assert cluster.kubectl("delete", "rolebinding", "reader", f"--namespace={namespace}").returncode == 0
    changed = cluster.kubectl(*patch, "--as=ada", '--patch={"spec": {"replicas": 2}}')
    assert changed.returncode == 0, changed.stderr


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
