"""The registry as its users meet it: a real API server with the operator beside it."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from .conftest import Cluster, condition, eventually, model_route, model_version, runtime

MANY = 120


def number(place: int) -> str:
    return f"{place // 20}.{place % 20}.0" + ("-rc.1" if place % 5 == 0 else "")


@pytest.mark.requirement("RG-1", "RG-5")
def test_what_is_registered_can_be_asked_for(cluster: Cluster, namespace: str) -> None:
    cluster.applied(*(model_version(v, namespace, model=m) for m in ("iris", "wine") for v in ("1.0.0", "1.1.0")))

    def names(*options: str) -> list[str]:
        done = cluster.kubectl("get", "modelversions", f"--namespace={namespace}", "--output=name", *options)
        return [line.partition("/")[2] for line in done.stdout.splitlines()]

    assert names("--field-selector=spec.model=iris") == ["iris-1.0.0", "iris-1.1.0"]
    assert names("--field-selector=spec.model=iris,spec.version=1.1.0") == ["iris-1.1.0"]
    assert names("--field-selector=spec.model=nobody-knows-it") == []
    assert cluster.get("modelversion", "wine-1.0.0", namespace)["spec"]["model"] == "wine"
    assert not cluster.get("modelversion", "wine-9.9.9", namespace)
    cluster.kubectl("delete", "modelversion", "iris-1.0.0", f"--namespace={namespace}")
    assert names("--field-selector=spec.model=iris") == ["iris-1.1.0"]


@pytest.mark.requirement("RG-6")
def test_metadata_comes_back_as_it_was_given(cluster: Cluster, namespace: str) -> None:
    about = {
        "type": "classifier",
        "framework": "sklearn",
        "trainingDate": "2026-11-01T12:00:00Z",
        "hyperparameters": {
            "C": 0.5,
            "layers": [64, 32],
            "penalty": "l2",
            "nested": {"warm": True, "seed": None},
            "größe": "ü",
        },
        "performanceMetrics": {"accuracy": 0.97, "latencyMs": 12},
    }
    cluster.applied(model_version("1.0.0", namespace, metadata=about))
    spec = cluster.get("modelversion", "iris-1.0.0", namespace)["spec"]
    assert spec["metadata"] == about
    assert spec["artifact"]["uri"] == "s3://models/iris/1.0.0/"
    refused = cluster.refused(
        model_version("1.1.0", namespace, metadata={"performanceMetrics": {"accuracy": "very good"}})
    )
    assert "performanceMetrics" in refused


@pytest.mark.requirement("RG-7", "RG-3")
def test_more_than_a_hundred_versions_registered_at_once_are_all_known(
    cluster: Cluster, namespace: str, operator: subprocess.Popen[bytes]
) -> None:
    cluster.applied(runtime())
    numbers = [number(place) for place in range(MANY)]

    def register(part: int) -> None:
        cluster.applied(*(model_version(n, namespace) for n in numbers[part::10]))

    with ThreadPoolExecutor(10) as pool:
        list(pool.map(register, range(10)))

    def statuses() -> Counter[str]:
        return Counter(condition(found, "Ready")["reason"] for found in cluster.all("modelversions", namespace))

    eventually(lambda: statuses() == {"Registered": MANY})
    cluster.applied(model_route(">=1.0.0,<3.0.0", namespace))

    def target() -> Any:
        return cluster.get("modelroute", "iris", namespace).get("status", {}).get("targetVersion")

    assert eventually(target) == "2.19.0"
    with ThreadPoolExecutor(10) as pool:
        list(pool.map(lambda n: cluster.kubectl("delete", "modelversion", f"iris-{n}", f"-n{namespace}"), numbers[::3]))
    cluster.applied(model_route(">=4.0.0-rc.1", namespace))
    left = [n for place, n in enumerate(numbers) if place % 3]
    eventually(lambda: target() == left[-1])
    assert len(cluster.all("modelversions", namespace)) == len(left)


@contextmanager
def watch(cluster: Cluster, namespace: str, log: Path) -> Iterator[None]:
    command = [str(cluster.server.kubectl), f"--kubeconfig={cluster.server.kubeconfig}", f"--namespace={namespace}"]
    command += ["get", "modelversions", "--watch", "--output-watch-events", "--output=json"]
    with log.open("wb") as sink:
        process = subprocess.Popen(command, stdout=sink)
        try:
            yield
        finally:
            process.kill()
            process.wait(timeout=10)


def watched(log: Path) -> list[tuple[str, str]]:
    """Type of each change and the reason of Ready in it."""
    text, found, decoder = log.read_text(), [], json.JSONDecoder()
    while text.strip():
        try:
            event, end = decoder.raw_decode(text.lstrip())
        except ValueError:
            break  # half of it is written
        found.append((event["type"], condition(event["object"], "Ready")["reason"]))
        text = text.lstrip()[end:]
    return found


@pytest.mark.requirement("RG-8")
def test_changes_are_notified(
    cluster: Cluster, namespace: str, operator: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    with watch(cluster, namespace, tmp_path / "log"):
        cluster.applied(runtime(), model_version("1.0.0", namespace))
        eventually(lambda: ("MODIFIED", "Registered") in watched(tmp_path / "log"))
        cluster.kubectl("patch", "modelversion", "iris-1.0.0", f"--namespace={namespace}", "--type=merge",
                        '--patch={"spec": {"load": {"state": "Loaded"}}}')  # fmt: skip
        eventually(lambda: ("MODIFIED", "Fetching") in watched(tmp_path / "log"))
        cluster.kubectl("delete", "modelversion", "iris-1.0.0", f"--namespace={namespace}")
        eventually(lambda: watched(tmp_path / "log")[-1][0] == "DELETED")
    assert watched(tmp_path / "log")[0][0] == "ADDED"
    told = [(event["reason"], event["regarding"]["name"]) for event in cluster.all("events.events.k8s.io", namespace)]
    assert ("Registered", "iris-1.0.0") in told
    assert ("Fetching", "iris-1.0.0") in told
