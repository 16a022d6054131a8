"""Why a version or a route is as it is, in plain words, and what to do next. Pure."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from modelswap.api.v1alpha1.base import Condition
from modelswap.api.v1alpha1.model_route import ModelRoute, SwapState
from modelswap.api.v1alpha1.model_version import LoadState, ModelVersion

from .words import ago, condition, is_true

NOTHING = "Nothing: it is as its spec asks."
UNSEEN = (
    "See whether the operator runs: kubectl get pods -A -l app.kubernetes.io/name=modelswap. If it serves some "
    "namespaces only (settings.watchNamespaces of its chart), this one must be among them."
)
RUNNING = (SwapState.PREPARING, SwapState.DRAINING, SwapState.SWAPPING, SwapState.VERIFYING)
WAIT = "Wait: it goes on by itself."


@dataclass(frozen=True)
class Explanation:
    """What is told of one object."""

    headline: str
    """One sentence."""
    facts: tuple[tuple[str, str], ...]
    """What it is about, and what there is to say."""
    next_step: str

    def text(self, width: int) -> str:
        """For a terminal of so many columns."""
        column = max((len(about) for about, _ in self.facts), default=0)
        facts = [_wrapped(f"  {about:<{column}}  ", what, width) for about, what in self.facts]
        last = _wrapped("Next: ", self.next_step, width)
        return "\n".join([_wrapped("", self.headline, width), *([""] if facts else []), *facts, "", last])


def _wrapped(first: str, text: str, width: int) -> str:
    """Lines that begin below the text."""
    return textwrap.fill(
        text,
        max(width, 60),
        initial_indent=first,
        subsequent_indent=" " * len(first),
        break_long_words=False,
        break_on_hyphens=False,
    )


def explain_version(version: ModelVersion, now: datetime) -> Explanation:
    """Why a version is ready, or why it is not."""
    name, status = f"ModelVersion {version.metadata.name}", version.status
    ready = condition(status.conditions, "Ready")
    if ready is None or status.observed_generation != version.metadata.generation:
        return _unseen(name)
    facts = [
        ("state", _says(ready)),
        ("loaded", _why_loaded(version)),
        *([("last failure", f"{ago(f.time, now)}: {f.reason}: {f.message}") for f in status.failures[:3]]),
    ]
    deferred = condition(status.conditions, "Reconciling")
    if is_true(deferred) and deferred and deferred.reason == "DeletionDeferred":
        return Explanation(
            f"{name} is being deleted, and serves until no route leads there.",
            (*facts, ("deletion", deferred.message)),
            "Lead these routes to another version, or delete them.",
        )
    well = "is as its spec asks" if ready.status == "True" else "is not ready"
    return Explanation(f"{name} {well}: {ready.reason}.", tuple(facts), _next_of_version(version, ready))


def _unseen(name: str) -> Explanation:
    return Explanation(f"{name} is as yet unseen by the operator, or its newest change is.", (), UNSEEN)


def _says(found: Condition) -> str:
    return f"{found.reason}: {found.message}" if found.message else found.reason


def _why_loaded(version: ModelVersion) -> str:
    load, routes = version.spec.load.state, version.status.routed_by
    needed = f"needed by ModelRoute {', '.join(routes)}" if routes else "needed by no route"
    how = {
        LoadState.AUTO: f"{needed}; spec.load.state is Auto",
        LoadState.LOADED: f"kept loaded by spec.load.state; {needed}",
        LoadState.UNLOADED: f"kept unloaded by spec.load.state; {needed}",
    }[load]
    attempts = version.status.load_attempts
    tried = (
        f"; attempt {attempts} of {version.spec.load.max_attempts}" if attempts and not version.status.loaded else ""
    )
    return how + tried


def _next_of_version(version: ModelVersion, ready: Condition) -> str:
    name, namespace = version.metadata.name, version.metadata.namespace
    logs = f"kubectl -n {namespace} logs -l modelswap.dev/model-version={name} -c model-server --tail=50"
    retry = f"kubectl -n {namespace} annotate modelversion {name} modelswap.dev/retry=again --overwrite"
    if ready.reason in ("Registered", "Unloaded"):
        if version.spec.load.state is LoadState.UNLOADED:
            return "Set spec.load.state to Auto or Loaded, if it is to be loaded."
        return "Lead a route to it, or set spec.load.state to Loaded, if it is to be loaded."
    steps = {
        "ScaledToZero": "Set spec.replicas to 1 or more, if it is to serve.",
        "LoadFailed": "Mend what the failure names. The artifact itself never changes: a better one is another "
        f"version. Where the cause was elsewhere, try again: {retry}",
        "RuntimeNotFound": f"Create ModelRuntime {version.spec.runtime.name}, or register the version with another.",
        "NameTaken": "Delete or rename the object that has the name: modelswap does not take over what is not its own.",
        "ChildRefused": "Change what the message names in the spec: Kubernetes does not take what comes of it.",
        "Unhealthy": f"Read what the model server says: {logs}",
        "Loading": f"Wait, or read what the model server says: {logs}",
        "Healthy": NOTHING,
    }
    return steps.get(ready.reason, WAIT)


def explain_route(route: ModelRoute, versions: Mapping[str, ModelVersion], now: datetime) -> Explanation:
    """Where a route leads, and why not elsewhere; `versions` are those of its model, by version."""
    name, status = f"ModelRoute {route.metadata.name}", route.status
    ready = condition(status.conditions, "Ready")
    if ready is None or status.observed_generation != route.metadata.generation:
        return _unseen(name)
    serves = f"leads to {route.spec.model}-{status.current_version}" if status.current_version else "leads nowhere yet"
    facts = [("asked for", route.spec.version), ("state", _says(ready)), *_swap_facts(route, now)]
    facts += [(f"rejected {r.version}", f"{ago(r.time, now)}: {r.reason}: {r.message}") for r in status.rejected]
    stalled = condition(status.conditions, "Stalled")
    if is_true(stalled) and stalled:
        # The message of a route that is stalled says itself what to change.
        step = f"As it says: {stalled.message}."
        return Explanation(f"{name} {serves}, and cannot go where its spec asks.", tuple(facts), step)
    if status.swap.state in RUNNING:
        waits = _what_it_waits_for(route, versions, now)
        if waits is not None:
            return Explanation(
                f"{name} {serves}, and waits for {route.spec.model}-{status.swap.to_version}.",
                (*facts, ("waits for", waits.headline), *waits.facts),
                waits.next_step,
            )
        return Explanation(f"{name} {serves}, and is being led to {status.swap.to_version}.", tuple(facts), WAIT)
    if ready.reason == "WaitingToRetry":
        step = f"{WAIT} Mend what the message names, to be there sooner."
        return Explanation(f"{name} {serves}, and tries again after a while.", tuple(facts), step)
    if ready.status == "True":
        return Explanation(f"{name} {serves}, as its spec asks.", tuple(facts), NOTHING)
    current = versions.get(status.current_version)
    why = explain_version(current, now) if current else None
    return Explanation(
        f"{name} {serves}, which has no pod that answers well.",
        (*facts, *(why.facts if why else ())),
        why.next_step if why else "Lead the route to a version that exists: set its spec.version.",
    )


def _swap_facts(route: ModelRoute, now: datetime) -> list[tuple[str, str]]:
    swap = route.status.swap
    if not swap.id or swap.start_time is None:
        return []
    began = f"{swap.kind.value} {swap.from_version or 'nothing'} → {swap.to_version}, begun {ago(swap.start_time, now)}"
    facts = [("swap" if swap.state in RUNNING else "last swap", f"{began}, {swap.state.value}: {swap.message}")]
    return [*facts, *([("because", swap.cause)] if swap.cause else [])]


def _what_it_waits_for(route: ModelRoute, versions: Mapping[str, ModelVersion], now: datetime) -> Explanation | None:
    swap = route.status.swap
    target = versions.get(swap.to_version)
    if swap.state is not SwapState.PREPARING or target is None:
        return None
    if is_true(condition(target.status.conditions, "Healthy")):
        return None
    return explain_version(target, now)
