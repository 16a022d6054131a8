"""The demo's manifests are its examples, too."""

from __future__ import annotations

import string
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from demo.kubectl import FOLDER
from modelswap.api.v1alpha1.model_route import ModelRoute
from modelswap.api.v1alpha1.model_version import ModelVersion

MANIFESTS = sorted((FOLDER / "manifests").glob("*.yaml"))
VALUES = {
    "VERSION": "1.0.0",
    "SHA256": "0" * 64,
    "ANSWER": "1",
    "HISTORY_LIMIT": "10",
    "SECONDS": "20",
    "ANSWERS": '{"1.0.0": 1}',
}


def objects() -> list[Any]:
    return [
        pytest.param(found, id=f"{path.stem}-{found['kind']}")
        for path in MANIFESTS
        for found in yaml.safe_load_all(text(path))
    ]


def text(path: Any) -> str:
    template = string.Template(path.read_text())
    return template.substitute({name: name.lower() for name in template.get_identifiers()} | VALUES)


def pod_specs(found: Any) -> Iterator[dict[str, Any]]:
    if found["kind"] in ("Deployment", "Job"):
        yield found["spec"]["template"]["spec"]


@pytest.mark.parametrize("found", [p for p in objects() if list(pod_specs(p.values[0]))])
def test_every_pod_is_restricted(found: dict[str, Any]) -> None:
    [pod] = pod_specs(found)
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in [*pod.get("initContainers", []), *pod["containers"]]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }


def test_the_resources_of_the_demo_are_understood() -> None:
    kinds = {"ModelVersion": ModelVersion, "ModelRoute": ModelRoute}
    found = [kinds[o.values[0]["kind"]].model_validate(o.values[0]) for o in objects() if o.values[0]["kind"] in kinds]
    assert {type(resource) for resource in found} == {ModelVersion, ModelRoute}
