"""The real cluster that `make test` brought up, with the images of this tree."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from .tenant import Tenant, prepared

PROJECT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Demonstration:
    """A run of the demo: how it ended, what it printed and measured."""

    exit_code: int
    output: str
    report: dict[str, Any]
    images: dict[str, str]


@pytest.fixture(scope="session")
def images() -> dict[str, str]:
    given = os.environ.get("MODELSWAP_TEST_IMAGES")
    if not given or not os.environ.get("KUBECONFIG"):
        pytest.fail("these tests need a cluster and images: run them by `make test ARGS=tests/e2e`")
    found: dict[str, str] = json.loads(given)
    return found


@pytest.fixture(scope="session")
def demo(images: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Demonstration:
    """The demo, run once as `make demo` does."""
    report = tmp_path_factory.mktemp("demo") / "report.json"
    done = subprocess.run(
        [sys.executable, "-m", "demo", "--images", json.dumps(images), "--report", str(report)],
        env=os.environ | {"PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    print(done.stdout, done.stderr)
    figures = json.loads(report.read_text()) if report.exists() else {}
    return Demonstration(done.returncode, done.stdout + done.stderr, figures, images)


@pytest.fixture(scope="session")
def metrics_api(images: dict[str, str]) -> Iterator[None]:
    """The metrics API answers for this cluster."""
    system = Tenant("kube-system")
    system.apply_file("metrics-api", METRICS_SERVER_IMAGE=images["metrics-server"])
    try:
        system.kubectl("rollout", "status", "deployment/metrics-server", "--timeout=120s")
        yield
    finally:
        # An API without a server behind it would keep namespaces from being deleted.
        system.kubectl("delete", "apiservice", "v1beta1.metrics.k8s.io")
        system.kubectl("delete", "deployment,service,serviceaccount", "metrics-server")


@pytest.fixture(scope="session")
def tenant(demo: Demonstration) -> Iterator[Tenant]:
    """A namespace with models that go wrong in the demo's store, and a web server that drops connections."""
    assert demo.exit_code == 0, demo.output
    made = prepared(demo.images)
    yield made
    # Kubernetes takes a minute to see that a namespace is empty, and nobody waits for it here.
    made.kubectl("delete", "namespace", made.namespace, "--wait=false")
