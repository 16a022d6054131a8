"""A real etcd and kube-apiserver on loopback, and the operator as a process beside them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from localcluster.apiserver import ApiServer, free_port

from tests.support.conditions import condition_of

PROJECT = Path(__file__).resolve().parents[2]
JsonObject = dict[str, Any]


@dataclass
class Cluster:
    """The API server, by kubectl."""

    server: ApiServer

    def kubectl(self, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        command = [str(self.server.kubectl), f"--kubeconfig={self.server.kubeconfig}", *arguments]
        return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=60, check=False)

    def apply(self, *objects: dict[str, Any]) -> subprocess.CompletedProcess[str]:
        document = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
        return self.kubectl("apply", "--server-side", "--field-manager=user", "-f", "-", stdin=document)

    def applied(self, *objects: dict[str, Any]) -> None:
        done = self.apply(*objects)
        assert done.returncode == 0, done.stderr

    def refused(self, *objects: dict[str, Any]) -> str:
        done = self.apply(*objects)
        assert done.returncode != 0, done.stdout
        return done.stderr

    def get(self, kind: str, name: str, namespace: str) -> dict[str, Any]:
        done = self.kubectl("get", kind, name, f"--namespace={namespace}", "--ignore-not-found", "--output=json")
        return dict(json.loads(done.stdout)) if done.stdout else {}

    def all(self, kinds: str, namespace: str) -> list[dict[str, Any]]:
        done = self.kubectl("get", kinds, f"--namespace={namespace}", "--output=json")
        return list(json.loads(done.stdout)["items"])


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    with ApiServer() as server:
        made = Cluster(server)
        done = made.kubectl("apply", "--server-side", "-f", str(PROJECT / "crds"))
        assert done.returncode == 0, done.stderr
        made.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
        yield made


@pytest.fixture
def namespace(cluster: Cluster, request: pytest.FixtureRequest) -> str:
    name = request.node.name.replace("_", "-").split("[")[0][:60].strip("-")
    cluster.kubectl("create", "namespace", name)
    return str(name)


def operator_environment(cluster: Cluster, deployment: str = "", lease_seconds: str = "4") -> dict[str, str]:
    lease = {"MODELSWAP_LEASE_SECONDS": lease_seconds} if lease_seconds else {}
    return (
        os.environ
        | lease
        | {
            "PYTHONPATH": ":".join(sys.path),
            "KUBECONFIG": str(cluster.server.kubeconfig),
            "MODELSWAP_AGENT_IMAGE": "agent:1",
            "MODELSWAP_OPS_PORT": str(free_port()),
            "MODELSWAP_LOG_FORMAT": "text",
            "MODELSWAP_POD_NAME": f"operator-{uuid.uuid4().hex[:8]}",
            "MODELSWAP_DEPLOYMENT": deployment,
        }
    )


@pytest.fixture(scope="session")
def operator_log_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("operator") / "log"


@pytest.fixture
def operator_log(operator_log_file: Path) -> Callable[[], str]:
    """What operators have said since the test began."""
    before = operator_log_file.stat().st_size if operator_log_file.exists() else 0
    return lambda: operator_log_file.read_bytes()[before:].decode()


@pytest.fixture(scope="session")
def start_operator(cluster: Cluster, operator_log_file: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts an operator; it leads at once, as the one before it gave the lead up."""
    cluster.kubectl("create", "namespace", "modelswap-system")
    started: list[subprocess.Popen[bytes]] = []

    def start(deployment: str = "", lease_seconds: str = "4") -> subprocess.Popen[bytes]:
        env = operator_environment(cluster, deployment, lease_seconds)
        with operator_log_file.open("ab") as sink:
            process = subprocess.Popen([sys.executable, "-m", "modelswap"], env=env, stdout=sink, stderr=sink)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait(timeout=10)
    print(operator_log_file.read_text()[-5000:])


@pytest.fixture(scope="session")
def operators() -> list[subprocess.Popen[bytes]]:
    """Those that tests share; the last one leads."""
    return []


@pytest.fixture
def operator(
    start_operator: Callable[[], subprocess.Popen[bytes]], operators: list[subprocess.Popen[bytes]]
) -> subprocess.Popen[bytes]:
    """An operator that runs, and no other."""
    if not operators or operators[-1].poll() is not None:
        operators.append(start_operator())
    return operators[-1]


def eventually(condition: Callable[[], Any], seconds: float = 30) -> Any:
    """What the condition comes to, as soon as it is true."""
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.1)


def model_version(version: str, namespace: str, *, model: str = "iris", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "modelswap.dev/v1alpha1",
        "kind": "ModelVersion",
        "metadata": {"name": f"{model}-{version}", "namespace": namespace},
        "spec": {
            "model": model,
            "version": version,
            "runtime": {"name": "mlserver"},
            "artifact": {"uri": f"s3://models/{model}/{version}/"},
            **spec,
        },
    }


def model_route(version: str, namespace: str, *, name: str = "iris", model: str = "iris", **spec: Any) -> JsonObject:
    return {
        "apiVersion": "modelswap.dev/v1alpha1",
        "kind": "ModelRoute",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"model": model, "version": version, **spec},
    }


def runtime(name: str = "mlserver") -> dict[str, Any]:
    return {
        "apiVersion": "modelswap.dev/v1alpha1",
        "kind": "ModelRuntime",
        "metadata": {"name": name},
        "spec": {"modelServer": {"image": "server:1"}},
    }


def condition(resource: dict[str, Any], type_: str) -> dict[str, Any]:
    return condition_of(resource.get("status", {}), type_)
