"""The operator is killed before and after every write of a swap and of a rollback: each ends as if it was not."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from localcluster.apiserver import ApiServer

from tests.dataplane.clients import Record, keep_alive
from tests.dataplane.model import Model
from tests.support.hand_made_node import Node, Rest
from tests.support.network import own_network
from tests.support.service import LoopbackService

from .conftest import PROJECT, Cluster, condition, eventually, model_route, model_version, operator_environment, runtime

NAMESPACE = "crashes"
VERSIONS = {"1.0.0": "198.18.0.1", "1.1.0": "198.18.0.2"}
QUIET_SECONDS = 0.5
"""Nothing tells that an operator has no more to write but that it writes nothing for a while."""
WRITES_MIN = 10
"""A swap has its states, its holds, its hand-over and its Service to write."""


class Loop:
    """An event loop in a thread: models, the Service's address, and clients."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="loop")
        self._thread.start()

    def run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    def begin(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=10)
        self._loop.close()


@dataclass
class World:
    """A served route under load, and an operator that can be told when to die."""

    cluster: Cluster
    folder: Path
    zygote: subprocess.Popen[str]
    record: Record
    operator: int = 0
    round: int = 0

    @property
    def death(self) -> Path:
        return self.folder / "death"

    def start_operator(self) -> None:
        """One that lives on."""
        self._tell(f"{self.round} 0 before")
        assert self.zygote.stdin is not None
        assert self.zygote.stdout is not None
        self.zygote.stdin.write("\n")
        self.zygote.stdin.flush()
        self.operator = int(self.zygote.stdout.readline())

    def arm(self, number: int, when: str) -> None:
        self.round += 1
        self._tell(f"{self.round} {number} {when}")

    def _tell(self, words: str) -> None:
        part = self.death.with_suffix(".part")
        part.write_text(words)
        part.replace(self.death)

    @property
    def alive(self) -> bool:
        return Path(f"/proc/{self.operator}").exists()

    def ask(self, version: str, history_limit: int) -> None:
        self.cluster.applied(model_route(version, NAMESPACE, historyLimit=history_limit, swap={"maxHoldSeconds": 2}))

    def route(self) -> dict[str, Any]:
        return self.cluster.get("modelroute", "iris", NAMESPACE)

    def settled(self, version: str) -> bool:
        """The route has done all that its spec asks for."""
        route = self.route()
        status = route.get("status", {})
        return bool(
            status.get("observedGeneration") == route["metadata"]["generation"]
            and status.get("currentVersion") == version
            and status["swap"]["state"] == "Completed"
            and status["swap"]["to"] == version
            and condition(route, "Reconciling")["status"] == "False"
        )

    def outcome(self) -> dict[str, Any]:
        """Where a swap has ended, without what differs from one to the next."""
        route = self.route()
        status = route["status"]
        newest = status["history"][0]
        ids = [entry["id"] for entry in status["history"]]
        return {
            "current": status["currentVersion"],
            "selected": self.cluster.get("service", "iris", NAMESPACE)["spec"]["selector"],
            "conditions": {c["type"]: (c["status"], c["reason"]) for c in status["conditions"]},
            "newest": {key: newest[key] for key in ("version", "from", "kind", "trigger", "result")},
            "told_once": len(ids) == len(set(ids)),
            "rejected": status.get("rejected", []),
            "agents": {version: self.agent(version) for version in VERSIONS},
        }

    def agent(self, version: str) -> dict[str, Any]:
        state = json.loads((self.folder / f"iris-{version}" / "run" / "state.json").read_text())["traffic"]
        return {"mode": state["mode"], "peers": state["peers"], "holds": state["hold_outcome"] == "Holding"}

    def at_rest(self, version: str) -> bool:
        """All that its spec asks for, and nothing written for a while: the settled route is not the last to be told."""
        written = len(self.writes())
        if not self.settled(version):
            return False
        time.sleep(QUIET_SECONDS)
        return len(self.writes()) == written

    def writes(self) -> list[str]:
        """Of this round."""
        lines = self.death.with_suffix(".log").read_text().splitlines()
        return [line for line in lines if line.startswith(f"{self.round} ")]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("crashes")
    with own_network(), ApiServer() as server:
        cluster = Cluster(server)
        cluster.kubectl("apply", "--server-side", "-f", str(PROJECT / "crds"))
        cluster.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
        for name in ("modelswap-system", NAMESPACE):
            cluster.kubectl("create", "namespace", name)
        # The Service's account does not come by itself: there are no controllers here.
        cluster.kubectl("create", "serviceaccount", "default", f"--namespace={NAMESPACE}")
        loop, service, stop = Loop(), LoopbackService(), asyncio.Event()
        models = [Model(version, 9000, host=address) for version, address in VERSIONS.items()]
        node = Node(Rest(server), NAMESPACE, folder, service)
        environment = operator_environment(cluster) | {"PYTHONPATH": ":".join([str(PROJECT), *sys.path])}
        with (folder / "operator.log").open("w") as log:
            zygote = subprocess.Popen(
                [sys.executable, "-m", "tests.support.mortal_operator", str(folder / "death")],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        made = World(cluster, folder, zygote, Record())
        try:
            for model in models:
                loop.run(model.start())
            made.start_operator()
            _serve(made, node, loop, service)
            clients = [loop.begin(keep_alive(service.address, made.record, stop)) for _ in range(2)]
            yield made
            loop.run(_set(stop))
            for client in clients:
                client.result(30)
        finally:
            with zygote:
                zygote.kill()
            if made.alive:
                os.kill(made.operator, 9)
            node.stop()
            loop.run(service.stop())
            for model in models:
                loop.run(model.stop())
            loop.stop()
            print((folder / "operator.log").read_text()[-6000:])


async def _set(event: asyncio.Event) -> None:
    event.set()


def _serve(world: World, node: Node, loop: Loop, service: LoopbackService) -> None:
    """Both versions loaded, the first one routed, the address open."""
    cluster = world.cluster
    loaded = [model_version(version, NAMESPACE, load={"state": "Loaded"}) for version in VERSIONS]
    cluster.applied(runtime(), *loaded)
    for version, address in VERSIONS.items():
        name = f"iris-{version}"
        eventually(lambda name=name: cluster.get("deployment", name, NAMESPACE))  # type: ignore[misc]
        eventually(lambda name=name: cluster.get("secret", f"{name}-agent-tls", NAMESPACE))  # type: ignore[misc]
        node.run_pod(name, address)
    world.ask("1.0.0", 1)
    address = eventually(lambda: cluster.get("service", "iris", NAMESPACE))["spec"]["clusterIP"]
    loop.run(service.start(address, 80))
    loop.run(service.start())
    node.serve()
    eventually(lambda: world.settled("1.0.0"))


def other(version: str) -> str:
    return next(v for v in VERSIONS if v != version)


@pytest.mark.requirement("HS-1", "HS-3", "HS-8")
@pytest.mark.parametrize(("kind", "history_limit"), [("Swap", 1), ("Rollback", 10)])
def test_killed_at_any_write_it_ends_in_the_same_place(world: World, kind: str, history_limit: int) -> None:
    if kind == "Rollback":  # a history in which both have served
        for version in (other(current(world)), current(world)):
            swap_undisturbed(world, version, history_limit)
    reference = {version: swap_undisturbed(world, version, history_limit) for version in reversed_order(world)}
    assert {outcome["newest"]["kind"] for outcome in reference.values()} == {kind}
    number, when = 1, "before"
    while True:
        target = other(current(world))
        world.arm(number, when)
        world.ask(target, history_limit)
        eventually(lambda target=target: not world.alive or world.at_rest(target))  # type: ignore[misc]
        if world.alive:
            world.arm(0, "before")
            break  # it has no such write
        world.start_operator()
        eventually(lambda target=target: world.settled(target))  # type: ignore[misc]
        assert world.outcome() == reference[target], world.writes()
        number, when = (number, "after") if when == "before" else (number + 1, "before")
    assert number > WRITES_MIN
    assert world.record.failures == []


def current(world: World) -> str:
    return str(world.route()["status"]["currentVersion"])


def reversed_order(world: World) -> list[str]:
    """Away from the version that serves, and back."""
    now = current(world)
    return [other(now), now]


def swap_undisturbed(world: World, version: str, history_limit: int) -> dict[str, Any]:
    world.arm(0, "before")
    world.ask(version, history_limit)
    eventually(lambda: world.settled(version))
    return world.outcome()
