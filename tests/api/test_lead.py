"""Two replicas of the operator: one leads, the other takes over in time, and a former leader writes nothing."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from .conftest import Cluster, condition, eventually, model_version

Process = subprocess.Popen[bytes]
Start = Callable[..., Process]

TAKEOVER_SECONDS = 15


@pytest.fixture
def both(cluster: Cluster, start_operator: Start, operators: list[Process]) -> tuple[Process, Process]:
    """The one that leads, with the Lease's default length, and the one that stands by."""
    for process in operators:
        process.terminate()
        process.wait(timeout=15)
    before = holder(cluster).get("holderIdentity")
    leader = start_operator(lease_seconds="")
    eventually(lambda: holder(cluster).get("holderIdentity") not in (None, before))
    follower = start_operator(lease_seconds="")
    operators.append(follower)
    return leader, follower


def registered(cluster: Cluster, namespace: str, version: str, seconds: float) -> None:
    """Whoever leads looks at a new version."""
    cluster.applied(model_version(version, namespace))

    def looked_at() -> bool:
        found = cluster.get("modelversion", f"iris-{version}", namespace)
        return bool(condition(found, "Ready")["reason"] == "Registered")

    eventually(looked_at, seconds)


def holder(cluster: Cluster) -> dict[str, Any]:
    return dict(cluster.get("lease", "modelswap-operator", "modelswap-system").get("spec", {}))


@pytest.mark.requirement("HS-8")
def test_another_takes_over_within_15_seconds_of_a_kill(
    cluster: Cluster, namespace: str, both: tuple[Process, Process]
) -> None:
    leader, follower = both
    registered(cluster, namespace, "1.0.0", 30)
    transitions = holder(cluster).get("leaseTransitions", 0)
    leader.kill()
    leader.wait(timeout=10)
    registered(cluster, namespace, "1.1.0", TAKEOVER_SECONDS)
    assert follower.poll() is None
    assert holder(cluster)["leaseTransitions"] == transitions + 1


@pytest.mark.requirement("HS-8")
def test_another_takes_over_at_once_when_the_leader_ends_well(
    cluster: Cluster, namespace: str, both: tuple[Process, Process]
) -> None:
    leader, follower = both
    registered(cluster, namespace, "1.0.0", 30)
    leader.terminate()
    assert leader.wait(timeout=15) == 0
    # Well before the Lease of nine seconds would have run out.
    registered(cluster, namespace, "1.1.0", 6)
    assert follower.poll() is None


@pytest.mark.requirement("HS-8")
def test_a_leader_that_was_stopped_for_too_long_writes_nothing_and_ends(
    cluster: Cluster, namespace: str, both: tuple[Process, Process], operator_log: Callable[[], str]
) -> None:
    leader, follower = both
    registered(cluster, namespace, "1.0.0", 30)
    leader.send_signal(signal.SIGSTOP)
    registered(cluster, namespace, "1.1.0", TAKEOVER_SECONDS + 5)
    # With nobody else to look at it, 1.2.0 shows what the former leader does when it goes on.
    follower.kill()
    cluster.applied(model_version("1.2.0", namespace))
    before = holder(cluster)["holderIdentity"]
    leader.send_signal(signal.SIGCONT)
    assert leader.wait(timeout=15) == 1
    assert "the lead is lost" in operator_log()
    assert holder(cluster)["holderIdentity"] == before
    assert "status" not in cluster.get("modelversion", "iris-1.2.0", namespace)
