"""Every kind of client, of the cluster's Service, under a swap, a rollback, and a swap right after a swap."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from tests.dataplane.clients import KINDS, Record

from .tenant import Tenant, artifact, model_route, model_version

VERSIONS = ("1.0.0", "1.1.0", "1.2.0", "2.0.0")
CLIENTS = 2
"""Of each kind."""
PAUSE = 1.0
RUNTIME = "protocols"


@pytest.fixture(scope="module")
def route(tenant: Tenant, images: dict[str, str]) -> Iterator[Tenant]:
    """Versions whose model server speaks everything, and a route to the first."""
    server = {
        "image": images["mlserver-sklearn"],
        "command": ["/opt/mlserver/bin/python3", "/mnt/models/model.py"],
        "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"memory": "512Mi"}},
    }
    tenant.apply(
        {
            "apiVersion": "modelswap.dev/v1alpha1",
            "kind": "ModelRuntime",
            "metadata": {"name": RUNTIME},
            "spec": {"port": 9000, "grpcPort": 9001, "modelServer": server},
        }
    )
    for version in VERSIONS:
        tenant.apply(model_version("iris", version, artifact=artifact("protocols/"), runtime={"name": RUNTIME}))
    for version in VERSIONS:
        tenant.wait_for_reason(f"iris-{version}", "Healthy", seconds=180)
    lead(tenant, VERSIONS[0])
    tenant.wait_for_reason("iris", "Serving", kind="modelroute", seconds=60)
    yield tenant
    tenant.kubectl("delete", "modelroute", "iris")
    tenant.kubectl("delete", "modelversion", *(f"iris-{version}" for version in VERSIONS), "--timeout=90s")
    tenant.kubectl("delete", "modelruntime", RUNTIME)


def lead(tenant: Tenant, version: str) -> None:
    tenant.apply(model_route("iris", version, swap={"maxHoldSeconds": 3}))


def served(tenant: Tenant, version: str) -> bool:
    found = tenant.get("modelroute", "iris")
    status = found.get("status", {})
    swap = status.get("swap", {})
    heard = status.get("observedGeneration") == found["metadata"]["generation"]
    return bool(heard and status["currentVersion"] == version and swap["state"] == "Completed")


async def moved(tenant: Tenant, version: str) -> None:
    """The route has come to a version."""
    await asyncio.to_thread(lead, tenant, version)
    what = f"{version} serves"
    await asyncio.to_thread(tenant.wait_for, what, lambda: served(tenant, version), seconds=60)


Outcome = tuple[dict[str, Record], Counter[str], list[dict[str, Any]]]


@pytest.fixture(scope="module")
def outcome(route: Tenant) -> Outcome:
    """All kinds of clients at once."""
    return asyncio.run(_run(route))


async def _run(tenant: Tenant) -> Outcome:
    address = f"{tenant.get('service', 'iris')['spec']['clusterIP']}:80"
    records, stop = {kind: Record() for kind in KINDS}, asyncio.Event()
    tasks = [
        asyncio.create_task(client(address, records[kind], stop))
        for kind, client in KINDS.items()
        for _ in range(CLIENTS if kind != "large_bodies" else 1)
    ]
    await asyncio.gather(*(record.until("1.0.0") for record in records.values()))
    for version in ("1.1.0", "1.0.0"):
        await moved(tenant, version)
        await asyncio.sleep(PAUSE)
    await moved(tenant, "1.2.0")
    await moved(tenant, "2.0.0")
    await asyncio.gather(*(record.until("2.0.0") for record in records.values()))
    stop.set()
    async with asyncio.timeout(60):
        await asyncio.gather(*tasks)
    begun: Counter[str] = Counter()
    for version in VERSIONS:
        url = f"/api/v1/namespaces/{tenant.namespace}/services/iris-{version.replace('.', '-')}:http/proxy/begun"
        begun.update(json.loads(tenant.kubectl("get", "--raw", url)))
    return records, begun, tenant.get("modelroute", "iris")["status"]["history"]


@pytest.mark.requirement("HS-10")
@pytest.mark.parametrize("kind", KINDS)
def test_no_request_is_lost_whatever_the_protocol(outcome: Outcome, kind: str) -> None:
    records, begun, _ = outcome
    record = records[kind]
    print(kind, len(record.answers), "answers", record.versions())
    assert record.failures == []
    assert {version for _, version in record.answers} >= {"1.0.0", "2.0.0"}
    assert all(begun[request_id] == 1 for request_id in record.ids), "a request came to a model twice"


@pytest.mark.requirement("HS-10")
def test_what_they_went_through_was_a_swap_a_rollback_and_two_swaps(outcome: Outcome) -> None:
    _, _, history = outcome
    print(json.dumps(history, indent=1))
    assert [(entry["kind"], entry["version"], entry["result"]) for entry in reversed(history)] == [
        ("Swap", "1.0.0", "Completed"),
        ("Swap", "1.1.0", "Completed"),
        ("Rollback", "1.0.0", "Completed"),
        ("Swap", "1.2.0", "Completed"),
        ("Swap", "2.0.0", "Completed"),
    ]
