"""What the operator tells Prometheus."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest
from modelswap.api.v1alpha1.model_route import SwapState, SwapStatus
from modelswap.api.v1alpha1.model_version import ModelVersion, ModelVersionStatus
from modelswap.engine.measurements import measure_load, measure_swap, phases
from modelswap.engine.state_metrics import StateMetrics
from modelswap.kube.cache import Cache
from modelswap.kube.version_cache import VersionCache
from prometheus_client import REGISTRY, CollectorRegistry

from tests.support.objects import NOW, model_route, model_version

SECOND = timedelta(seconds=1)


def value(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def swap(**more: Any) -> SwapStatus:
    values: dict[str, Any] = {"id": "s", "state": SwapState.COMPLETED, "start_time": NOW, "end_time": NOW + 10 * SECOND}
    return SwapStatus(**(values | more))


@pytest.mark.parametrize(
    ("drain", "switch", "expected"),
    [
        (2, 5, {"preparing": 2, "draining": 3, "swapping": 5}),
        (5, 2, {"preparing": 2, "swapping": 3, "draining": 5}),
        (None, None, {"preparing": 10}),
        (None, 4, {"preparing": 4, "swapping": 6}),
    ],
    ids=["a swap", "a rollback routes first", "it failed before it began", "nothing to drain"],
)
def test_the_phases_of_a_swap_add_up_to_it(drain: int | None, switch: int | None, expected: dict[str, float]) -> None:
    at = {"drain_time": drain, "switch_time": switch}
    found = phases(swap(**{key: None if n is None else NOW + n * SECOND for key, n in at.items()}))
    assert {phase.name: phase.seconds for phase in found} == expected
    assert sum(phase.seconds for phase in found) == 10


def test_a_swap_is_measured_once_when_it_ends() -> None:
    labels = {"kind": "Swap", "trigger": "Spec", "result": "completed"}
    before, held = value("modelswap_swaps_total", **labels), value("modelswap_swap_requests_held_total", kind="Swap")
    ended = swap(drain_time=NOW + SECOND, switch_time=NOW + 2 * SECOND, held_requests=3)
    measure_swap(swap(state=SwapState.DRAINING, end_time=None), ended)
    measure_swap(ended, ended)
    assert value("modelswap_swaps_total", **labels) == before + 1
    assert value("modelswap_swap_requests_held_total", kind="Swap") == held + 3


def test_alerts_see_the_first_swap_too() -> None:
    """A counter that is not there before its first event has never risen, as Prometheus sees it."""
    rollback = {"kind": "Rollback", "trigger": "LostHealth", "result": "completed"}
    assert REGISTRY.get_sample_value("modelswap_swaps_total", rollback) is not None


def test_loads_and_their_failures_are_measured() -> None:
    count, failed = "modelswap_load_seconds_count", {"namespace": "measured", "reason": "ArtifactMissing"}
    failure = {"time": NOW, "reason": "ArtifactMissing", "message": "m", "attempt": 1, "pod": "p"}
    empty = ModelVersionStatus()
    tried = ModelVersionStatus.model_validate({"failureCount": 1, "failures": [failure]})
    loaded = tried.model_copy(update={"load_count": 1, "last_load_seconds": 2.5})
    for earlier, later in ((empty, tried), (tried, tried), (tried, loaded), (loaded, loaded)):
        measure_load("measured", earlier, later)
    assert value("modelswap_load_failures_total", **failed) == 1
    assert value(count, namespace="measured") == 1
    assert value("modelswap_load_seconds_sum", namespace="measured") == 2.5


def ready(status: str, reason: str) -> list[Mapping[str, str]]:
    at = NOW.isoformat()
    return [{"type": "Ready", "status": status, "reason": reason, "message": "", "lastTransitionTime": at}]


def body(resource: Any) -> dict[str, Any]:
    kind = "ModelVersion" if isinstance(resource, ModelVersion) else "ModelRoute"
    return {"kind": kind, **resource.model_dump(by_alias=True, mode="json", exclude_none=True)}


def test_what_there_is_can_be_seen_and_what_has_gone_cannot() -> None:
    versions = VersionCache()
    good = model_version(
        "1.0.0",
        resources={"limits": {"memory": "1Ki"}},
        status={"conditions": ready("True", "Healthy"), "loaded": True, "memoryBytes": 900, "readyReplicas": 1,
                "requestCount": 7, "errorCount": 2, "lastLoadSeconds": 1.5},
    )  # fmt: skip
    for resource in (good, model_version("1.1.0", status={"conditions": ready("False", "Fetching")})):
        versions.saw(body(resource))
    route = model_route("1.0.0", status={"conditions": ready("True", "Serving"), "pendingRequests": 4})
    cache = Cache({"routes": {("ns", "iris"): [body(route)]}, "runtimes": {}}, versions)
    registry = CollectorRegistry()
    registry.register(StateMetrics(cache))

    def now(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(f"modelswap_{name}", {"namespace": "ns", **labels})

    one = {"model": "iris", "version": "1.0.0"}
    assert (now("versions", phase="Healthy"), now("versions", phase="Fetching")) == (1, 1)
    assert (now("version_ready", **one), now("version_ready", **(one | {"version": "1.1.0"}))) == (1, 0)
    assert (now("version_memory_bytes", **one), now("version_memory_limit_bytes", **one)) == (900, 1024)
    assert (now("version_requests_total", **one), now("version_errors_total", **one)) == (7, 2)
    assert now("version_last_load_seconds", **one) == 1.5
    assert (now("route_ready", route="iris"), now("route_pending_requests", route="iris")) == (1, 4)
    versions.gone(body(good))
    assert now("version_ready", **one) is None
    assert now("versions", phase="Healthy") is None
