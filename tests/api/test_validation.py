"""What the API server itself refuses, and what it says."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from .conftest import Cluster, model_route, model_version


@pytest.mark.requirement("RG-1")
def test_a_name_is_model_and_version(cluster: Cluster, namespace: str) -> None:
    wrong = model_version("1.0.0", namespace)
    wrong["metadata"]["name"] = "iris-one"
    assert "metadata.name must be <spec.model>-<spec.version>" in cluster.refused(wrong)


@pytest.mark.requirement("RG-2")
@pytest.mark.parametrize("version", ["v1.0.0", "v1.0", "1.0", "1.0.0+build", "01.0.0", "1.0.0-01", "latest"])
def test_a_version_that_is_not_semver_is_told_what_one_is(cluster: Cluster, namespace: str, version: str) -> None:
    words = cluster.refused(model_version(version, namespace))
    assert "a version is MAJOR.MINOR.PATCH of SemVer 2.0" in words
    assert "no leading 'v'" in words


@pytest.mark.requirement("RG-2")
@pytest.mark.parametrize("version", ["0.0.1", "1.2.3-rc.1", "1.2.3-0a.x-y", "10.20.30"])
def test_semver_is_taken(cluster: Cluster, namespace: str, version: str) -> None:
    cluster.applied(model_version(version, namespace))


@pytest.mark.requirement("RG-3")
def test_of_ten_who_register_the_same_version_one_wins(cluster: Cluster, namespace: str) -> None:
    document = json.dumps(model_version("1.0.0", namespace))
    with ThreadPoolExecutor(10) as pool:
        done = list(pool.map(lambda _: cluster.kubectl("create", "-f", "-", stdin=document), range(10)))
    assert sum(d.returncode == 0 for d in done) == 1
    assert all("already exists" in d.stderr for d in done if d.returncode)


@pytest.mark.requirement("RG-1")
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("artifact", {"uri": "s3://models/other/"}),
        ("artifact", {"uri": "s3://models/iris/1.0.0/", "sha256": "a" * 64}),
        ("runtime", {"name": "other"}),
    ],
)
def test_what_a_version_is_made_of_cannot_change(cluster: Cluster, namespace: str, field: str, value: Any) -> None:
    cluster.applied(model_version("1.0.0", namespace))
    words = cluster.refused(model_version("1.0.0", namespace, **{field: value}))
    assert f"{field} is immutable: register another version instead" in words


def test_how_a_version_is_run_may_change(cluster: Cluster, namespace: str) -> None:
    cluster.applied(model_version("1.0.0", namespace))
    cluster.applied(model_version("1.0.0", namespace, replicas=3, load={"state": "Loaded"}))


@pytest.mark.parametrize("version", ["v1.0.0", "1.0", ">= 1.0.0", ">=1.0.0 <2.0.0", "^1.0.0", "latest"])
def test_a_route_with_a_version_that_is_none_is_told_what_one_is(
    cluster: Cluster, namespace: str, version: str
) -> None:
    assert "a route's version is exact, such as 1.2.0" in cluster.refused(model_route(version, namespace))


@pytest.mark.parametrize("version", ["1.0.0", ">=1.0.0,<2.0.0", ">=2.0.0-rc.1", "!=1.0.1,>1.0.0"])
def test_exact_versions_and_ranges_are_taken(cluster: Cluster, namespace: str, version: str) -> None:
    cluster.applied(model_route(version, namespace))


@pytest.mark.parametrize(
    ("artifact", "words"),
    [
        ({"uri": "ftp://host/x"}, "image://HOST/REPOSITORY:TAG"),
        ({"uri": "http://host/x"}, "give its sha256, or use https://"),
        ({"uri": "s3://models/x", "sha256": "abc"}, "sha256"),
    ],
)
def test_an_artifact_that_cannot_be_fetched_is_refused(
    cluster: Cluster, namespace: str, artifact: dict[str, str], words: str
) -> None:
    assert words in cluster.refused(model_version("1.0.0", namespace, artifact=artifact))


def test_the_category_lists_versions_and_routes(cluster: Cluster, namespace: str) -> None:
    cluster.applied(model_version("1.0.0", namespace), model_route("1.0.0", namespace))
    listing = cluster.kubectl("get", "modelswap", f"--namespace={namespace}").stdout
    assert "modelversion.modelswap.dev/iris-1.0.0" in listing
    assert "modelroute.modelswap.dev/iris" in listing


@pytest.mark.requirement("RG-5")
def test_versions_of_a_model_are_selected_by_field(cluster: Cluster, namespace: str) -> None:
    cluster.applied(model_version("1.0.0", namespace), model_version("1.0.0", namespace, model="wine"))
    listing = cluster.kubectl(
        "get", "msv", f"--namespace={namespace}", "--field-selector=spec.model=wine", "--output=name"
    )
    assert listing.stdout.split() == ["modelversion.modelswap.dev/wine-1.0.0"]


@pytest.mark.parametrize(
    ("resources", "words"),
    [
        ({"limits": {"memory": "lots"}}, "spec.resources.limits.memory"),
        ({"limits": {"memory": "-1Gi"}}, "spec.resources.limits.memory"),
        ({"limits": {"memory": "1Gi"}, "requests": {"memory": "1500M"}}, "lower resources.requests"),
        ({"limits": {"cpu": 1}, "requests": {"cpu": "1001m"}}, "lower resources.requests"),
    ],
)
def test_resources_that_no_pod_can_have_are_refused(
    cluster: Cluster, namespace: str, resources: dict[str, Any], words: str
) -> None:
    assert words in cluster.refused(model_version("1.0.0", namespace, resources=resources))


def test_resources_that_a_pod_can_have_are_taken(cluster: Cluster, namespace: str) -> None:
    resources = {
        "limits": {"memory": "1.5Gi", "cpu": 2, "nvidia.com/gpu": "1"},
        "requests": {"cpu": "0.5", "memory": "1e9"},
    }
    cluster.applied(model_version("1.0.0", namespace, resources=resources))
