"""The kustomize base and the chart install the same."""

from __future__ import annotations

import subprocess

import yaml
from localcluster import tools
from localcluster.layout import Layout

from tests.support.chart import PROJECT, without_helm

BASE = PROJECT / "deploy" / "kustomize" / "base"


def test_the_base_is_the_chart() -> None:
    written = [found for found in yaml.safe_load_all((BASE / "operator.yaml").read_text()) if found]
    assert written == without_helm(), "run `make kustomize`"
    for crd in (PROJECT / "crds").glob("*.yaml"):
        assert (BASE / "crds" / crd.name).read_text() == crd.read_text(), "run `make kustomize`"


def test_kustomize_takes_the_base_and_puts_all_in_one_namespace() -> None:
    kubectl = tools.ensure(Layout.from_environment()) / "kubectl"
    done = subprocess.run([kubectl, "kustomize", BASE], capture_output=True, text=True, timeout=60, check=True)
    made = [found for found in yaml.safe_load_all(done.stdout) if found]
    namespaced = {"ServiceAccount", "Role", "RoleBinding", "Service", "Deployment", "PodDisruptionBudget"}
    assert {found["kind"] for found in made} == {
        *namespaced, "Namespace", "CustomResourceDefinition", "ClusterRole", "ClusterRoleBinding", "ModelRuntime",
        "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding",
    }  # fmt: skip
    for found in made:
        if found["kind"] in namespaced:
            assert found["metadata"]["namespace"] == "modelswap-system"
        for subject in found.get("subjects", ()):
            assert subject["namespace"] == "modelswap-system"
