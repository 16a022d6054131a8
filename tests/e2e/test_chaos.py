"""What dies or is replaced under load: the operator, an agent, a pod, the API server, kubelet, the lead, the release.

On the local cluster only: another one's parts are not ours to end.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from demo.__main__ import install
from demo.kubectl import SYSTEM, run
from localcluster import cluster
from localcluster.layout import Layout

from tests.support.conditions import condition_of

from .tenant import Object, Tenant, artifact, model_route, model_version

PROJECT = Path(__file__).resolve().parents[2]
LOAD = PROJECT / "deploy" / "demo" / "scripts" / "load.py"
OLD, NEW = "1.0.0", "1.1.0"
LAYOUT = Layout.from_environment()
CLIENTS = 31
OPERATOR = Tenant(SYSTEM)


@dataclass
class Storm:
    """A route with two pods behind it, and clients that must not notice anything."""

    tenant: Tenant
    answers: dict[str, int]
    history: int = 1
    summary: Object = field(default_factory=dict)

    def status(self) -> Object:
        found: Object = self.tenant.get("modelroute", "storm").get("status", {})
        return found

    def ask_for(self, version: str) -> None:
        self.tenant.apply(model_route("storm", version, historyLimit=self.history, swap={"maxHoldSeconds": 5}))

    def wait_for(self, version: str, state: str, seconds: float = 90) -> Object:
        found: Object = {}

        def reached() -> bool:
            found.clear()
            found.update(self.status().get("swap", {}))
            return found.get("to") == version and found.get("state") == state

        self.tenant.wait_for(f"{version} is {state}", reached, seconds=seconds, explain=self.explain)
        return found

    def explain(self) -> str:
        log = OPERATOR.kubectl("logs", "--selector=app.kubernetes.io/component=operator", "--tail=30", "--prefix")
        return self.tenant.kubectl("describe", "modelroute", "storm") + log

    def serves(self, version: str) -> bool:
        route = self.tenant.get("modelroute", "storm")
        status = route.get("status", {})
        new = status.get("observedGeneration") == route["metadata"]["generation"]
        return bool(new and status["currentVersion"] == version and condition_of(status)["status"] == "True")

    @contextmanager
    def load(self, seconds: int) -> Iterator[None]:
        """Two hundred requests a second, and large ones that take their time; for so many seconds at the most."""
        address = self.tenant.get("service", "storm")["spec"]["clusterIP"]
        url = f"http://{address}/v2/models/storm/infer"
        command = [sys.executable, str(LOAD), f"--url={url}", f"--seconds={seconds}"]
        process = subprocess.Popen(
            [*command, f"--answers={json.dumps(self.answers)}"], stdout=subprocess.PIPE, text=True
        )
        try:
            time.sleep(2)  # of load before anything happens
            yield
            time.sleep(3)  # of load after all has happened
            process.terminate()
            out, _ = process.communicate(timeout=30)
        finally:
            with process:
                process.kill()
        self.summary = json.loads(out.splitlines()[-1])["summary"]

    def lost_nothing(self) -> None:
        assert self.summary["failed"] == 0, self.summary
        assert self.summary["sent"] > 1000


@pytest.fixture(scope="module")
def storm(tenant: Tenant) -> Iterator[Storm]:
    if os.environ.get("KUBECONFIG") != str(LAYOUT.kubeconfig):
        pytest.skip("only the local cluster's own parts may be ended")
    demo = Tenant("modelswap-demo")
    answers = {}
    for version in (OLD, NEW):
        expect = demo.get("modelversion", f"iris-{version}")["spec"]["sample"]["expect"]
        answers[version] = int(expect["values"][0]["values"][0])
        tenant.apply(model_version("storm", version, artifact=artifact(f"iris/{version}/"), replicas=2))
    made = Storm(tenant, answers)
    made.ask_for(OLD)
    made.wait_for(OLD, "Completed", seconds=240)
    tenant.wait_for_reason(f"storm-{NEW}", "Healthy", seconds=240)
    yield made
    tenant.kubectl("delete", "modelroute", "storm")
    tenant.kubectl("delete", "modelversions", "--all", "--timeout=60s")


@pytest.fixture(autouse=True)
def at_rest(storm: Storm) -> None:
    """Each test begins with the old version serving, and the operator at work."""
    storm.ask_for(OLD)
    storm.tenant.wait_for(f"{OLD} serves", lambda: storm.serves(OLD), explain=storm.explain)
    for version in (OLD, NEW):
        storm.tenant.wait_for_reason(f"storm-{version}", "Healthy")
    wait_for_operators()


def wait_for_operators() -> None:
    OPERATOR.kubectl("rollout", "status", "deployment/modelswap-operator", "--timeout=90s")


def leader() -> str:
    """The pod that leads."""
    return str(OPERATOR.get("lease", "modelswap-operator")["spec"]["holderIdentity"])


def kill_container(tenant: Tenant, pod: str, name: str) -> None:
    """SIGKILL, as the kernel does when it runs out of memory."""
    status = tenant.get("pod", pod)["status"]
    statuses = [*status.get("initContainerStatuses", []), *status["containerStatuses"]]
    container = next(s for s in statuses if s["name"] == name)["containerID"].removeprefix("containerd://")
    command = ["ctr", f"--address={LAYOUT.containerd_socket}", "--namespace=k8s.io", "tasks", "kill"]
    subprocess.run([*command, f"--signal={signal.SIGKILL.value}", container], check=True, timeout=30)


@contextmanager
def stopped(part: str, seconds: float) -> Iterator[None]:
    """A part of the cluster is gone for a while: suddenly, as an end in peace would take longer than that."""
    cluster.stop(LAYOUT, part, grace=0.5)
    try:
        yield
        time.sleep(seconds)
    finally:
        command = [sys.executable, "-m", "localcluster", "up"]
        subprocess.run(command, check=True, timeout=120, stdout=subprocess.DEVNULL)


@pytest.mark.requirement("HS-10", "HS-8")
def test_the_operator_is_killed_while_agents_hold(storm: Storm) -> None:
    with storm.load(40):
        storm.ask_for(NEW)
        storm.wait_for(NEW, "Draining")
        kill_container(OPERATOR, leader(), "operator")
        storm.wait_for(NEW, "Completed", seconds=35)
    storm.lost_nothing()


@pytest.mark.requirement("HS-10", "HS-8")
def test_the_lead_moves_in_the_middle_of_a_swap(storm: Storm) -> None:
    with storm.load(25):
        before = leader()
        storm.ask_for(NEW)
        storm.wait_for(NEW, "Draining")
        OPERATOR.kubectl("delete", "pod", before, "--wait=false")
        storm.wait_for(NEW, "Completed", seconds=20)
        assert leader() != before
    storm.lost_nothing()


@pytest.mark.requirement("HS-10")
def test_a_serving_pod_is_deleted_in_the_middle_of_a_swap(storm: Storm) -> None:
    with storm.load(60):
        storm.ask_for(NEW)
        storm.wait_for(NEW, "Draining")
        for version in (OLD, NEW):
            pod = storm.tenant.pods(f"storm-{version}")[0]["metadata"]["name"]
            storm.tenant.kubectl("delete", "pod", pod, "--wait=false")
        storm.wait_for(NEW, "Completed", seconds=55)
    storm.lost_nothing()


@pytest.mark.requirement("HS-10", "HS-8")
def test_the_api_server_is_gone_for_ten_seconds_in_the_middle_of_a_swap(storm: Storm) -> None:
    with storm.load(60):
        storm.ask_for(NEW)
        storm.wait_for(NEW, "Draining")
        with stopped("kube-apiserver", 10):
            pass
        storm.wait_for(NEW, "Completed", seconds=40)
    storm.lost_nothing()


@pytest.mark.requirement("HS-10")
def test_kubelet_is_gone_in_the_middle_of_a_swap(storm: Storm) -> None:
    with storm.load(60):
        with stopped("kubelet", 3):
            storm.ask_for(NEW)
            storm.wait_for(NEW, "Completed", seconds=20)
        for version in (OLD, NEW):
            storm.tenant.wait_for_reason(f"storm-{version}", "Healthy")
    storm.lost_nothing()


@pytest.mark.requirement("HS-10")
def test_an_agent_that_is_killed_costs_nothing(storm: Storm) -> None:
    """Its container is killed before a swap, and another's during the swap."""
    with storm.load(40):
        pod = storm.tenant.pods(f"storm-{OLD}")[0]["metadata"]["name"]
        kill_container(storm.tenant, pod, "agent")
        storm.tenant.wait_for("the pod is whole again", lambda: is_ready(storm.tenant, pod, "agent"))
        storm.ask_for(NEW)
        storm.wait_for(NEW, "Draining")
        kill_container(storm.tenant, storm.tenant.pods(f"storm-{OLD}")[1]["metadata"]["name"], "agent")
        storm.wait_for(NEW, "Completed", seconds=35)
    storm.lost_nothing()
    assert storm.summary["versions"][NEW] > 0


@pytest.mark.requirement("HS-10")
def test_a_proxy_that_is_killed_costs_what_went_through_it_and_no_more(storm: Storm) -> None:
    """Its connections break with it, each with one request at the most; and until the endpoints follow, new ones that
    are led to it are refused, of which a client that goes on without a pause has many."""
    with storm.load(30):
        pod = storm.tenant.pods(f"storm-{OLD}")[0]["metadata"]["name"]
        kill_container(storm.tenant, pod, "proxy")
        storm.tenant.wait_for("the pod is whole again", lambda: is_ready(storm.tenant, pod, "proxy"))
        storm.ask_for(NEW)
        storm.wait_for(NEW, "Completed", seconds=20)
    print(storm.summary)
    kinds = storm.summary["failure_kinds"]
    assert set(kinds) <= {*BROKEN, "ClientConnectorError"}, storm.summary
    assert sum(kinds.get(kind, 0) for kind in BROKEN) <= CLIENTS, storm.summary
    assert storm.summary["versions"][NEW] > 0


def serving_pods(storm: Storm) -> set[str]:
    """Of both versions, by their uid; those on their way out aside."""
    pods = [pod for version in (OLD, NEW) for pod in storm.tenant.pods(f"storm-{version}")]
    return {pod["metadata"]["uid"] for pod in pods if "deletionTimestamp" not in pod["metadata"]}


@pytest.mark.requirement("MM-12")
def test_the_chart_is_upgraded_and_rolled_back_and_models_do_not_notice(storm: Storm, images: dict[str, str]) -> None:
    """Another setting of the operator: no pod of a model is replaced, nothing is swapped, and the CRDs are renewed."""
    crd = ("crd", "modelroutes.modelswap.dev")
    older = '[{"op": "replace", "path": "/spec/names/shortNames", "value": ["older"]}]'
    run("kubectl", "patch", *crd, "--type=json", f"--patch={older}")
    pods, swap = serving_pods(storm), storm.status()["swap"]["id"]
    with storm.load(90):
        install(images, "--set", "settings.workers=4", "--set", "crds.upgrade=true")
        assert json.loads(run("kubectl", "get", *crd, "--output=json"))["spec"]["names"]["shortNames"] == ["msr"]
        run("helm", "rollback", "modelswap", "--namespace", SYSTEM, "--wait", "--timeout=2m")
        wait_for_operators()
    storm.lost_nothing()
    assert serving_pods(storm) == pods
    assert storm.status()["swap"]["id"] == swap


@pytest.mark.requirement("MM-12", "VM-8")
def test_a_release_that_changes_serving_pods_rolls_them_without_a_lost_request(
    storm: Storm, images: dict[str, str]
) -> None:
    before, swap = serving_pods(storm), storm.status()["swap"]["id"]

    def replaced() -> bool:
        now = serving_pods(storm)
        return len(now) == len(before) and not now & before

    with storm.load(150):
        install(images, "--set", "settings.fetchHosts={*.svc}")
        storm.tenant.wait_for("all pods are replaced", replaced, seconds=120, explain=storm.explain)
        for version in (OLD, NEW):
            storm.tenant.wait_for_reason(f"storm-{version}", "Healthy")
    storm.lost_nothing()
    assert storm.status()["swap"]["id"] == swap
    install(images)


BROKEN = ("ServerDisconnectedError", "ClientOSError", "ClientPayloadError")


def is_ready(tenant: Tenant, pod: str, container: str) -> bool:
    """All of a pod, one container of which has been started again."""
    found: dict[str, Any] = tenant.get("pod", pod)["status"]
    statuses = (*found["initContainerStatuses"], *found["containerStatuses"])
    restarted = any(s["name"] == container and s["restartCount"] > 0 for s in statuses)
    return restarted and condition_of(found)["status"] == "True"
