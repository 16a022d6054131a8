"""What the demo shows, on the real cluster: a real model, swapped and rolled back under load."""

from __future__ import annotations

import json
from typing import Any

import pytest
from demo.kubectl import kubectl

from .conftest import Demonstration


def run_of(demo: Demonstration, way: str, kind: str) -> dict[str, Any]:
    found: dict[str, Any] = next(r for r in demo.report["runs"] if (r["way"], r["kind"]) == (way, kind))
    return found


@pytest.mark.requirement("HS-10")
@pytest.mark.parametrize("kind", ["swap", "rollback"])
def test_no_request_is_lost_and_the_cut_over_is_strict(demo: Demonstration, kind: str) -> None:
    assert demo.exit_code == 0, demo.output
    figures = run_of(demo, "modelswap", kind)
    assert figures["sent"] >= 3000
    assert figures["failed"] == 0
    assert figures["strict"] is True
    assert figures["large_bodies"] > 0
    assert all(count > 500 for count in figures["versions"].values())


@pytest.mark.requirement("HS-5")
def test_requests_are_held_and_drained(demo: Demonstration) -> None:
    swap = run_of(demo, "modelswap", "swap")
    assert swap["held_requests"] > 0
    assert 0 < swap["held_seconds_max"] <= 5.5


def test_a_selector_flip_is_not_strict(demo: Demonstration) -> None:
    # If even this were strict, the measure would measure nothing.
    flip = run_of(demo, "selector-flip", "swap")
    assert flip["sent"] >= 3000
    assert flip["strict"] is False


@pytest.mark.requirement("HS-2")
def test_the_route_remembers_and_tells_its_swaps(demo: Demonstration) -> None:
    assert demo.exit_code == 0, demo.output
    route = json.loads(kubectl("get", "modelroute", "iris", "--output=json"))
    assert route["status"]["swap"]["state"] == "Completed"
    events = json.loads(kubectl("get", "events", "--field-selector=involvedObject.kind=ModelRoute", "--output=json"))[
        "items"
    ]
    told = [(event["reason"], event["message"]) for event in events]
    assert any(reason == "Completed" and "requests drained" in message for reason, message in told)
    assert any("Rollback" in message for _, message in told)


@pytest.mark.requirement("VM-3")
def test_kubectl_get_tells_how_versions_are(demo: Demonstration) -> None:
    table = kubectl("get", "modelswap")
    assert "iris-1.0.0" in table
    assert "Healthy" in table
    assert "Serving" in table
    version = json.loads(kubectl("get", "modelversion", "iris-1.0.0", "--output=json"))["status"]
    assert version["loaded"] is True
    assert version["requestCount"] > 1000
    assert version["lastLoadSeconds"] > 0
    assert version["artifactDigest"].startswith("sha256:")


def test_the_operator_had_no_fault(demo: Demonstration) -> None:
    log = kubectl("--namespace=modelswap-system", "logs", "deployment/modelswap-operator", "--tail=-1")
    faults = [line for line in log.splitlines() if '"traceback"' in line]
    assert faults == []
