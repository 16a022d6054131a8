"""Versions that are unloaded while a route takes them up: looks, writes, events and crashes in many orders."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import product

import pytest
from modelswap.api.v1alpha1.model_route import SwapState
from modelswap.api.v1alpha1.model_version import ModelVersion
from modelswap.planning.needs import ACTIVE, is_kept
from modelswap.planning.observed import Child, ObservedVersion, ServingVersion
from modelswap.planning.plan import Action, Apply, Delete, IssueCertificate, Plan, SetFinalizer
from modelswap.planning.registry import Versions
from modelswap.planning.routes import plan_route
from modelswap.planning.versions import plan_version

from tests.simulation.world import ConflictError, World
from tests.support.objects import DEFAULTS, child_of, model_version, serving

VERSIONS = ("1.0.0", "1.1.0")
Children = dict[tuple[str, str], Child]


@dataclass
class LoadingWorld(World):
    """A cluster in which versions are loaded and unloaded, and an operator that hears of pods and children late.

    Its own writes to routes and versions the operator knows at once, as the real one does.
    """

    children: dict[str, Children] = field(default_factory=dict)
    heard: dict[str, ServingVersion] = field(default_factory=dict)
    """Pods and children of each version, as the operator has last heard."""
    queued: dict[str, list[Callable[[], None]]] = field(default_factory=dict)
    """Writes that are still to be made, by the key whose look asked for them."""

    def __post_init__(self) -> None:
        for version in VERSIONS:
            self.resources[version] = model_version(version)
            self.children[version] = {}
            self.hear(version)

    # What goes on beside the operator.

    def reconcile_pods(self, version: str) -> None:
        """Kubernetes makes the pod of a Deployment that there is, and ends that of one that there is not."""
        wanted = any(kind == "Deployment" for kind, _ in self.children[version])
        have = self.of(version)
        if wanted and not have:
            self.add_pod(version)
        for agent in have if not wanted else ():
            del self.agents[agent.name]

    def hear_of_agents(self, version: str) -> None:
        """The agents tell how they are; of pods and children nothing is heard."""
        self.heard[version] = replace(
            self.heard[version],
            pods=tuple(
                replace(pod, report=self.agents[pod.name].seen().report) if pod.name in self.agents else pod
                for pod in self.heard[version].pods
            ),
        )

    def hear(self, version: str) -> None:
        """The watches bring the operator up to date with the version's pods and children."""
        now = serving(self.resources[version], *(a.seen() for a in self.of(version)), children=False)
        issued = ("Secret", f"iris-{version}-agent-tls") in self.children[version]
        renewal = serving(self.resources[version]).certificate_renewal if issued else None
        self.heard[version] = replace(now, children=dict(self.children[version]), certificate_renewal=renewal)

    # The operator.

    def seen(self, version: str) -> ServingVersion:
        return replace(self.heard[version], resource=self.resources[version])

    def look_at_version(self, version: str) -> Plan:
        """Plan for one version; its writes wait to be made."""
        self.see()
        observed = ObservedVersion(
            version=self.seen(version), routes=(self.route(),), siblings=Versions.of(self.resources.values())
        )
        plan = plan_version(observed, DEFAULTS, self.now)
        self.queued[version] = [
            *([partial(self._write_version, self.resources[version], plan)] if plan.status is not None else []),
            *(partial(self._act_on_version, version, action) for action in plan.actions),
        ]
        return plan

    def look_at_route(self) -> Plan:
        """Plan for the route; its writes wait to be made."""
        self.see()
        heard = {version: self.seen(version) for version in self.resources}
        plan = plan_route(replace(self.observe(), versions=heard), self.now)
        self.queued["route"] = [
            *(
                [partial(self.carry_out, self.operator, replace(plan, actions=()), stop_after=None)]
                if plan.status
                else []
            ),
            *(partial(self._act, action, self.operator) for action in plan.actions),
        ]
        return plan

    def write_next(self, key: str) -> None:
        """Make one write; one that comes too late for its object ends the look that asked for it."""
        if self.queued.get(key):
            write = self.queued[key].pop(0)
            try:
                write()
            except ConflictError:
                self.queued[key].clear()

    def set_load_state(self, version: str, state: str) -> None:
        """The user changes a version's spec."""
        body = self.resources[version].model_dump(by_alias=True, mode="json", exclude_none=True)
        body["spec"]["load"]["state"] = state
        body["metadata"]["generation"] += 1
        self.resources[version] = ModelVersion.model_validate(body)

    def dies(self) -> None:
        """The operator ends between two writes; the next one lists everything anew."""
        self.queued.clear()
        for version in VERSIONS:
            self.hear(version)

    def _write_version(self, seen: ModelVersion, plan: Plan) -> None:
        version = seen.spec.version
        if self.resources[version] != seen:
            raise ConflictError
        body = self.resources[version].model_dump(by_alias=True, mode="json", exclude_none=True)
        self.resources[version] = ModelVersion.model_validate(body | {"status": plan.status})

    def _act_on_version(self, version: str, action: Action) -> None:
        children = self.children[version]
        match action:
            case Apply(manifest=manifest) | IssueCertificate(manifest=manifest):
                child = child_of(manifest)
                self.born += 1
                old = children.get((child.kind, child.name))
                children[child.kind, child.name] = replace(child, uid=old.uid if old else f"uid-{self.born}")
            case Delete(kind=kind, name=name, uid=uid):
                if (kind, name) in children and children[kind, name].uid == uid:
                    assert version not in self.relied_on(), f"{kind} {name} was deleted while the route leads there"
                    del children[kind, name]
            case SetFinalizer(finalizer=finalizer, present=present):
                body = self.resources[version].model_dump(by_alias=True, mode="json", exclude_none=True)
                body["metadata"]["finalizers"] = [finalizer] if present else []
                self.resources[version] = ModelVersion.model_validate(body)
            case _:
                raise AssertionError(f"a version's plan has no {action}")

    def relied_on(self) -> set[str]:
        """Versions that the route leads to, or has begun to lead to, as is written."""
        status = self.route().status
        found = {status.current_version}
        if status.swap.state in ACTIVE and status.swap.state is not SwapState.PREPARING:
            found |= {status.swap.from_version, status.swap.to_version}
        return found - {""}

    def doomed(self, version: str) -> bool:
        """Whether the version's pods, if any, are about to go."""
        return not any(kind == "Deployment" for kind, _ in self.children[version])

    def run(self, *, looks: int = 300) -> None:
        """Everything goes on by itself until there is nothing left to do."""
        self.dies()
        for _ in range(looks):
            for version in VERSIONS:
                self.reconcile_pods(version)
                self.hear(version)
            self.converge_endpoints()
            plans = [self.look_at_route(), *(self.look_at_version(version) for version in VERSIONS)]
            for key in list(self.queued):
                self.make_writes(key)
            if all(plan.empty and not plan.requeue_after for plan in plans):
                return
            self.elapse(10 if all(plan.empty for plan in plans) else 0.5)
        raise AssertionError(f"not settled after {looks} looks: {self.status}")

    def version_goes_on(self, version: str, looks: int, writes: int | None = None) -> None:
        """The operator looks at a version, and comes as far as so many writes, while it hears of nothing."""
        for _ in range(looks):
            self.make_writes(version)
            self.look_at_version(version)
        self.make_writes(version, writes)

    def make_writes(self, key: str, count: int | None = None) -> None:
        while self.queued.get(key) and count != 0:
            self.write_next(key)
            count = None if count is None else count - 1

    def route_goes_on(self, rounds: int) -> None:
        """The operator looks at the route while its looks at versions have to wait."""
        for _ in range(rounds):
            before = self.route().status.swap
            after = self.look_at_route().status
            if after and after["swap"].get("switchTime") and before.switch_time is None:
                assert not self.doomed(after["swap"]["to"]), "requests were switched to pods that are about to go"
            self.make_writes("route")
            for version in VERSIONS:
                self.hear_of_agents(version)
            self.converge_endpoints()
            self.elapse(0.05)


def unneeded(*, kept: bool) -> LoadingWorld:
    """1.0.0 serves; 1.1.0 is loaded and no longer needed. If `kept`, the route has only just been led away from it."""
    rollback = {"keepWarm": 0, "observeSeconds": 0}
    world = LoadingWorld(spec={"model": "iris", "version": "1.1.0" if kept else "1.0.0", "rollback": rollback})
    for version in VERSIONS:
        world.set_load_state(version, "Loaded")
    world.run()
    assert world.children["1.1.0"]
    if kept:
        world.ask(version="1.0.0")
        world.version_goes_on("1.0.0", 1)
        world.route_goes_on(2)
        world.version_goes_on("1.0.0", 1)
        world.route_goes_on(12)
    assert world.route().status.current_version == "1.0.0"
    assert is_kept(world.resources["1.1.0"]) == kept
    world.set_load_state("1.1.0", "Auto")
    return world


@pytest.mark.requirement("VM-2", "HS-8")
@pytest.mark.parametrize("kept", [False, True])
def test_a_route_that_takes_up_a_version_while_it_is_unloaded(*, kept: bool) -> None:
    begun = unneeded(kept=kept)
    # Looks and writes at the version until the route wants it, the route's looks, the rest of the writes or the
    # operator's end, looks at the version again, the route's looks, and whether the pods' end has been heard of.
    orders = product((1, 2), (0, 1, 4), (0, 2, 10), (False, True), (0, 2), (0, 10), (False, True))
    for looks, writes, rounds, dies, looks_again, rounds_again, told in orders:
        world = deepcopy(begun)
        world.version_goes_on("1.1.0", looks, writes)
        world.ask(version="1.1.0")
        world.route_goes_on(rounds)
        if dies:
            world.dies()
        world.version_goes_on("1.1.0", looks_again)
        world.route_goes_on(rounds_again)
        world.reconcile_pods("1.1.0")
        if told:
            world.hear("1.1.0")
        world.version_goes_on("1.1.0", 2)
        world.route_goes_on(10)
        world.run()
        assert world.answering() == "iris-1.1.0"
    world.set_load_state("1.0.0", "Auto")
    world.run()
    assert world.children["1.0.0"] == {}, "what no route needs any more was not unloaded"
