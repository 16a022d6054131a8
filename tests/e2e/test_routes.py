"""What a route does for its user, on the real cluster: the hot swapper's rows, one after the other."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import pytest
from demo.kubectl import DemoError

from tests.support.conditions import condition_of

from .tenant import PROBE, Object, Tenant, artifact, model_route, model_version

OLD, NEW = "1.0.0", "1.1.0"
FAIL, SLOW, WRONG = "/tmp/fail", "/tmp/slow", "/tmp/wrong"  # noqa: S108 - in the container: see scripts/publish.py
INFER = "/v2/models/hot/infer"
TWO_ROWS = {"inputs": [{"name": "x", "shape": [2, 4], "datatype": "FP64", "data": [[6.0, 2.7, 5.1, 1.6]] * 2}]}


class Route:
    """The route `hot` and its two versions, whose models do as they are told."""

    def __init__(self, tenant: Tenant) -> None:
        self.tenant = tenant

    @property
    def status(self) -> Object:
        found: Object = self.tenant.get("modelroute", "hot").get("status", {})
        return found

    def ask_for(self, version: str, *, history: int = 1, **spec: Any) -> None:
        """With a history of one entry, the version that served before last is not remembered: it is a swap."""
        self.tenant.apply(model_route("hot", version, historyLimit=history, **spec))

    def wait_for(self, what: str, seconds: float = 60, **wanted: Any) -> Object:
        """The swap, once it is as wanted and the status is about the newest spec."""
        found: Object = {}

        def reached() -> bool:
            route = self.tenant.get("modelroute", "hot")
            found.clear()
            found.update(route.get("status", {}).get("swap", {}))
            new = route.get("status", {}).get("observedGeneration") == route["metadata"]["generation"]
            return new and all(found.get(key) == value for key, value in wanted.items())

        self.tenant.wait_for(what, reached, seconds=seconds, explain=self.explain)
        return found

    def serve(self, version: str, **spec: Any) -> Object:
        """Lead the route to a version, and wait until it has come."""
        self.ask_for(version, **spec)
        self.tenant.wait_for(f"{version} serves", lambda: self.serves(version), explain=self.explain)
        found: Object = self.status["swap"]
        return found

    def serves(self, version: str) -> bool:
        """It does, and nothing else is to come."""
        route = self.tenant.get("modelroute", "hot")
        status = route.get("status", {})
        new = status.get("observedGeneration") == route["metadata"]["generation"]
        return bool(new and status["currentVersion"] == version and condition_of(status)["status"] == "True")

    def explain(self) -> str:
        return self.tenant.kubectl("describe", "modelroute", "hot") + self.tenant.kubectl("get", "pods,modelswap")

    def answering(self) -> str:
        """The version that a request through the route reaches."""
        path = f"/api/v1/namespaces/{self.tenant.namespace}/services/hot:http/proxy/.well-known/modelswap"
        return str(json.loads(self.tenant.kubectl("get", "--raw", path))["modelVersion"])

    def selected(self) -> str:
        return str(self.tenant.get("service", "hot")["spec"]["selector"]["modelswap.dev/model-version"])

    def tell(self, version: str, *command: str) -> None:
        """Run a command beside the model."""
        self.tenant.kubectl("exec", self.pod(version), "--container=model-server", "--", *command)

    def pod(self, version: str) -> str:
        """The one that serves; others may be on their way out."""
        pods = self.tenant.pods(f"hot-{version}")
        [name] = [pod["metadata"]["name"] for pod in pods if "deletionTimestamp" not in pod["metadata"]]
        return str(name)

    @contextmanager
    def moody(self, version: str, file: str) -> Iterator[None]:
        """Its model behaves as a file says, for a while."""
        self.tell(version, "touch", file)
        try:
            yield
        finally:
            # A version that was turned away may be unloaded by now.
            with suppress(DemoError, ValueError):
                self.tell(version, "rm", "-f", file)

    @contextmanager
    def request_in_flight(self, version: str) -> Iterator[None]:
        """One that the model has begun, and which it answers at the end."""
        answers: list[Object] = []

        def ask() -> None:
            answers.append(self.tenant.ask("hot", INFER))

        with self.moody(version, SLOW):
            thread = threading.Thread(target=ask)
            thread.start()
            self.tenant.wait_for("the model has begun", lambda: self.in_flight(version, "local") > 0)
            yield
        thread.join(timeout=60)
        assert answers, "the request was lost"
        assert answers[0]["outputs"][0]["data"] == [1]

    def in_flight(self, version: str, backend: str) -> int:
        """As HAProxy itself tells."""
        path = f"/api/v1/namespaces/{self.tenant.namespace}/pods/{self.pod(version)}:8404/proxy/metrics"
        text = self.tenant.kubectl("get", "--raw", path)
        metric = f'haproxy_backend_current_sessions{{proxy="{backend}"}}'
        line = next(line for line in text.splitlines() if line.startswith(metric))
        return int(float(line.rpartition(" ")[2]))


@pytest.fixture(scope="module")
def route(tenant: Tenant) -> Iterator[Route]:
    made = Route(tenant)
    expect = {"values": [{"path": "/outputs/0/data", "values": [1]}]}
    sample = {"request": {"path": INFER, "body": PROBE}, "expect": expect, "periodSeconds": 1, "timeoutSeconds": 30}
    for version in (OLD, NEW):
        tenant.apply(
            model_version(
                "hot",
                version,
                artifact=artifact("moody/"),
                sample=sample,
                load={"state": "Auto", "timeoutSeconds": 180},
            )
        )
    made.ask_for(OLD)
    made.wait_for(f"{OLD} serves", seconds=180, to=OLD, state="Completed")
    yield made
    tenant.kubectl("delete", "modelroute", "hot")
    tenant.kubectl("delete", "modelversions", "--all", "--timeout=60s")


@pytest.fixture(autouse=True)
def at_rest(route: Route) -> None:
    """Each test begins with the old version serving."""
    route.serve(OLD)


class States:
    """The states of a swap as a watch tells them."""

    def __init__(self, tenant: Tenant) -> None:
        self.seen: list[str] = []
        self._tenant = tenant

    def __enter__(self) -> States:
        self._process = self._tenant.watch("modelroute", "hot", "{.status.swap.id} {.status.swap.state}{'\\n'}")
        self._thread = threading.Thread(target=self._read)
        self._thread.start()
        return self

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                state = line.split()[1]
                if self.seen[-1:] != [state]:
                    self.seen.append(state)

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(timeout=10)
        self._thread.join(timeout=10)


@pytest.mark.requirement("HS-1", "HS-2", "HS-6", "HS-9")
def test_a_swap_loads_its_target_leads_the_address_to_it_and_tells_how_it_went(route: Route) -> None:
    assert not route.tenant.status(f"hot-{NEW}").get("loaded")
    with States(route.tenant) as states:
        route.ask_for(NEW)
        swap = route.wait_for("the swap is done", seconds=180, to=NEW, state="Completed")
    assert states.seen[-5:] == ["Preparing", "Draining", "Swapping", "Verifying", "Completed"]
    assert (swap.get("from"), swap["to"], swap["kind"]) == (OLD, NEW, "Swap")
    assert swap["startTime"] < swap["drainTime"] <= swap["switchTime"] < swap["endTime"]
    assert (swap["requestsDrained"], swap["requestsRemaining"]) == (0, 0)
    status = route.status
    assert (status["currentVersion"], status["targetVersion"]) == (NEW, NEW)
    newest = status["history"][0]
    assert (newest["version"], newest["from"], newest["result"]) == (NEW, OLD, "Completed")
    assert route.selected() == f"hot-{NEW}"
    assert route.answering() == f"hot-{NEW}"
    assert condition_of(status)["status"] == "True"


@pytest.mark.requirement("HS-3", "HS-9")
def test_a_rollback_to_the_version_in_production_before_loads_nothing(route: Route) -> None:
    route.serve(NEW, history=10)
    loads = route.tenant.status(f"hot-{OLD}")["loadCount"]
    swap = route.serve(OLD, history=10)
    assert (swap["kind"], swap["trigger"], swap["from"], swap["to"]) == ("Rollback", "Spec", NEW, OLD)
    assert route.answering() == f"hot-{OLD}"
    assert route.tenant.status(f"hot-{OLD}")["loadCount"] == loads
    newest = route.status["history"][0]
    assert (newest["kind"], newest["version"], newest["from"]) == ("Rollback", OLD, NEW)
    assert newest["startTime"] < newest["endTime"]


@pytest.mark.requirement("HS-5")
def test_requests_in_flight_are_waited_for_and_counted(route: Route) -> None:
    with route.request_in_flight(OLD):
        route.ask_for(NEW, swap={"maxHoldSeconds": 20})
        route.wait_for("requests drain", to=NEW, state="Draining")
        assert route.selected() == f"hot-{OLD}"
    swap = route.wait_for("the swap is done", to=NEW, state="Completed")
    assert (swap["requestsDrained"], swap["requestsRemaining"]) == (1, 0)


@pytest.mark.requirement("HS-5")
def test_a_drain_that_takes_too_long_aborts_if_told_to_and_nothing_is_lost(route: Route) -> None:
    with route.request_in_flight(OLD):
        route.ask_for(NEW, swap={"maxHoldSeconds": 2, "onDrainTimeout": "Abort"})
        swap = route.wait_for("the swap is aborted", to=NEW, state="Failed")
        assert swap["message"].startswith("DrainTimeout: 1 requests were still in flight after")
        assert (swap["requestsDrained"], swap["requestsRemaining"]) == (0, 1)
        assert route.answering() == f"hot-{OLD}"
        assert condition_of(route.status)["reason"] == "WaitingToRetry"
        assert condition_of(route.status, "Healthy")["status"] == "True"


@pytest.mark.requirement("HS-5")
def test_a_drain_that_takes_too_long_proceeds_and_tells_what_remained(route: Route) -> None:
    with route.request_in_flight(OLD):
        route.ask_for(NEW, swap={"maxHoldSeconds": 1, "drainTimeoutSeconds": 2})
        swap = route.wait_for("the swap is done", to=NEW, state="Completed")
    assert (swap["requestsDrained"], swap["requestsRemaining"]) == (0, 1)


@pytest.mark.requirement("HS-1")
def test_who_routes_first_lets_new_requests_through_at_once(route: Route) -> None:
    with route.request_in_flight(OLD):
        route.ask_for(NEW, swap={"strategy": "RouteThenDrain"})
        route.wait_for("requests drain", to=NEW, state="Draining")
        assert route.selected() == f"hot-{NEW}"
        assert route.answering() == f"hot-{NEW}"
    swap = route.wait_for("the swap is done", to=NEW, state="Completed")
    assert (swap["kind"], swap["strategy"]) == ("Swap", "RouteThenDrain")
    assert (swap["requestsDrained"], swap["requestsRemaining"]) == (1, 0)


@pytest.mark.requirement("HS-8")
def test_a_second_swap_is_none_beside_the_first(route: Route) -> None:
    with route.request_in_flight(OLD):
        route.ask_for(NEW, swap={"maxHoldSeconds": 20})
        first = route.wait_for("requests drain", to=NEW, state="Draining")
        route.ask_for(OLD)
        ended = route.wait_for("the first has ended", id=first["id"], state="Failed")
        assert ended["message"].startswith("Superseded: ")
        assert route.answering() == f"hot-{OLD}"
    assert [entry["id"] for entry in route.status["history"]] == [first["id"]]


@pytest.mark.requirement("HS-7", "HS-8")
def test_a_target_that_is_scaled_to_zero_meanwhile_ends_in_the_source_serving(route: Route) -> None:
    with route.request_in_flight(OLD):
        route.ask_for(NEW, swap={"maxHoldSeconds": 20})
        route.wait_for("requests drain", to=NEW, state="Draining")
        route.tenant.kubectl("scale", "modelversion", f"hot-{NEW}", "--replicas=0")
        swap = route.wait_for("the swap has failed", to=NEW, state="Failed")
        assert swap["message"].startswith("TargetScaledToZero: ")
        assert route.answering() == f"hot-{OLD}"
    route.tenant.wait_for("it is told", lambda: condition_of(route.status, "Stalled")["reason"] == "TargetScaledToZero")
    route.tenant.kubectl("scale", "modelversion", f"hot-{NEW}", "--replicas=1")
    route.wait_for("it is taken up again", seconds=120, to=NEW, state="Completed")


@pytest.mark.requirement("HS-7", "HS-4")
def test_the_health_of_a_target_decides(route: Route) -> None:
    route.serve(NEW)
    route.serve(OLD)
    with route.moody(NEW, WRONG):
        route.tenant.wait_for_reason(f"hot-{NEW}", "Unhealthy")
        health = condition_of(route.tenant.status(f"hot-{NEW}"), "Healthy")
        assert health["status"] == "False"
        assert "7" in health["message"], "the diagnostics tell what it answered"
        route.ask_for(NEW)
        swap = route.wait_for("the swap waits", to=NEW, state="Preparing")
        route.tenant.wait_for("it says for what", lambda: "sample inference" in route.status["swap"]["message"])
        assert route.answering() == f"hot-{OLD}"
    assert route.wait_for("the swap goes on", to=NEW, state="Completed")["id"] == swap["id"]
    assert condition_of(route.tenant.status(f"hot-{NEW}"), "Healthy")["status"] == "True"


@pytest.mark.requirement("HS-7")
def test_a_route_to_the_version_that_serves_is_no_swap(route: Route) -> None:
    before = route.status["swap"]["id"]
    route.ask_for(f">={OLD},<{NEW}")
    route.wait_for("the spec is taken up", id=before)
    assert condition_of(route.status)["status"] == "True"


@pytest.mark.requirement("HS-3", "HS-4")
def test_a_version_that_fails_its_requests_is_rolled_back_and_rejected(route: Route) -> None:
    route.serve(NEW, history=10, rollback={"maxErrorPercent": 20, "minRequests": 5})
    with route.moody(NEW, FAIL):
        for _ in range(8):  # the last ones may be answered by the version gone back to
            with suppress(DemoError):
                route.tenant.ask("hot", INFER, TWO_ROWS)
        swap = route.wait_for("it is rolled back", to=OLD, state="Completed")
    assert (swap["kind"], swap["trigger"]) == ("Rollback", "ErrorPercent")
    assert "requests (100.0 %) failed since the switch" in swap["cause"]
    assert route.answering() == f"hot-{OLD}"
    status = route.status
    assert [(entry["version"], entry["reason"]) for entry in status["rejected"]] == [(NEW, "ErrorPercent")]
    assert condition_of(status, "Stalled")["reason"] == "Rejected"
    assert route.tenant.get("modelroute", "hot")["spec"]["version"] == NEW, "the spec is the user's"
    events = route.tenant.kubectl("get", "events", "--field-selector=involvedObject.name=hot,type=Warning")
    assert "AutomaticRollback" in events
    route.tenant.kubectl("annotate", "modelversion", f"hot-{NEW}", "modelswap.dev/retry=mended", "--overwrite")
    route.wait_for("it is tried again", seconds=120, to=NEW, state="Completed")
    assert route.status["rejected"] == []


@pytest.mark.requirement("HS-3", "MM-5")
def test_a_version_that_loses_its_health_is_rolled_back(route: Route) -> None:
    route.serve(NEW, history=10)
    with route.moody(NEW, WRONG):
        swap = route.wait_for("it is rolled back", to=OLD, state="Completed")
        assert (swap["kind"], swap["trigger"]) == ("Rollback", "LostHealth")
        assert "sample inference" in swap["cause"]
        assert route.answering() == f"hot-{OLD}"


@pytest.mark.requirement("HS-10")
def test_grpc_loses_nothing_over_a_swap_a_rollback_and_two_swaps_in_a_row(route: Route, images: dict[str, str]) -> None:
    route.serve(NEW)
    route.serve(OLD)
    route.tenant.apply_file(
        "grpc-load", MLSERVER_IMAGE=images["mlserver-sklearn"], HOST="hot", MODEL="hot", SECONDS="14"
    )
    log = partial(route.tenant.kubectl, "logs", "job/grpc-load")
    route.tenant.wait_for("clients run", lambda: route.tenant.get("job", "grpc-load")["status"].get("ready"))
    route.tenant.wait_for("requests come", lambda: route.in_flight(OLD, "local-grpc") > 0)
    route.serve(NEW, history=10)
    route.serve(OLD, history=10)
    route.serve(NEW)
    route.serve(OLD)
    route.tenant.kubectl("wait", "--for=condition=Complete", "job/grpc-load", "--timeout=60s")
    summary = json.loads(log().splitlines()[-1])
    assert summary["failures"] == [], summary["failures"][:3]
    assert summary["answers"] > 100
    assert summary["order"][0] == OLD
    assert summary["order"][-1] == OLD
    assert NEW in summary["order"]
