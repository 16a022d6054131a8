"""Observe, plan, apply: one object at a time, as often as it takes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from datetime import UTC, datetime
from itertools import groupby

import aiohttp

from modelswap import metrics
from modelswap.api.agent import IDENTITY_PATH
from modelswap.api.v1alpha1.base import Metadata
from modelswap.api.v1alpha1.model_route import ModelRouteStatus
from modelswap.api.v1alpha1.model_version import ModelVersionStatus
from modelswap.certificates import KeyPair, issue
from modelswap.errors import AgentError, ChildError, ModelswapError
from modelswap.kube.api import ApiException, KubeApi, Ref
from modelswap.kube.cache import Cache
from modelswap.kube.events import emit
from modelswap.logs import about
from modelswap.manifests.agent_files import with_certificate
from modelswap.manifests.pod import ServingDefaults
from modelswap.planning.observed import ObservedRoute, ProbeResult, Refusal
from modelswap.planning.plan import Action, Apply, Delete, Direct, IssueCertificate, Plan, Probe, SetFinalizer
from modelswap.planning.routes import plan_route
from modelswap.planning.versions import plan_version

from .agents import AgentMonitor
from .keys import Key
from .measurements import measure_load, measure_swap
from .observer import Memory, Observer
from .queue import KeyedQueue
from .tracing import SwapTracer

logger = logging.getLogger(__name__)

PROBE_TIMEOUT = aiohttp.ClientTimeout(total=2)
REFUSED_SECONDS = 30.0
"""Between tries of a child that was refused."""
RECONCILE_SECONDS_MAX = 60.0
"""For one look, with all its writes; one that takes longer is given up and tried again."""


class Reconciler:
    """Looks at keys from the queue, and does what their plans say."""

    def __init__(
        self,
        *,
        api: KubeApi,
        cache: Cache,
        agents: AgentMonitor,
        queue: KeyedQueue[Key],
        memory: Memory,
        authority: KeyPair,
        defaults: ServingDefaults,
        tracer: SwapTracer | None = None,
    ) -> None:
        self._api = api
        self._cache = cache
        self._agents = agents
        self._queue = queue
        self._authority = authority
        self._defaults = defaults
        self._tracer = tracer
        self._observer = Observer(cache, agents, memory)
        self._refusals: dict[Key, Refusal] = {}
        self._probes: dict[Key, ProbeResult] = {}
        self._http: aiohttp.ClientSession | None = None

    async def work(self) -> None:
        """Take keys from the queue for ever."""
        while True:
            key = await self._queue.get()
            metrics.QUEUE_DEPTH.set(len(self._queue))
            try:
                with metrics.RECONCILE_SECONDS.labels(key.kind).time():
                    async with asyncio.timeout(RECONCILE_SECONDS_MAX):
                        await self._reconcile(key)
            except (ModelswapError, ApiException, aiohttp.ClientError, TimeoutError) as error:
                self._failed(key, f"{type(error).__name__}: {_brief(error)}")
            except Exception:
                logger.exception("%s: a fault in the operator", key)
                self._failed(key, "fault")
            else:
                metrics.RECONCILES.labels(key.kind, "ok").inc()
                self._queue.done(key)

    def _failed(self, key: Key, error: str) -> None:
        metrics.RECONCILES.labels(key.kind, "error").inc()
        delay = self._queue.failed(key)
        logger.warning("%s: %s; again in %.1f s", key, error, delay)

    async def close(self) -> None:
        """End all connections."""
        if self._http:
            await self._http.close()
        if self._tracer:
            await self._tracer.close()

    async def _reconcile(self, key: Key) -> None:
        now = datetime.now(UTC)
        if key.kind == "ModelVersion":
            await self._reconcile_version(key, now)
        else:
            await self._reconcile_route(key, now)

    async def _reconcile_version(self, key: Key, now: datetime) -> None:
        version = self._observer.version(key, refusal=self._refusals.get(key))
        if version is None:
            return self._forget(key)
        resource = version.version.resource
        with about(namespace=key.namespace, model=resource.spec.model, version=resource.spec.version):
            plan = plan_version(version, self._defaults, now)
            await self._apply(key, resource.metadata, plan, {}, now)
        if plan.status is not None:
            measure_load(key.namespace, resource.status, ModelVersionStatus.model_validate(plan.status))
        return None

    async def _reconcile_route(self, key: Key, now: datetime) -> None:
        route = self._observer.route(key, refusal=self._refusals.get(key), probe=self._probes.get(key))
        if route is None:
            return self._forget(key)
        plan = plan_route(route, now)
        before = route.route.status.swap
        swap = before if plan.status is None else ModelRouteStatus.model_validate(plan.status).swap
        with about(
            namespace=key.namespace,
            route=key.name,
            model=route.route.spec.model,
            version=swap.to_version,
            source=swap.from_version,
            swap=swap.id,
        ):
            await self._apply(key, route.route.metadata, plan, _pods(route), now)
        measure_swap(before, swap)
        if self._tracer is not None:
            self._tracer.trace(key.namespace, key.name, before, swap)
        return None

    def _forget(self, key: Key) -> None:
        self._refusals.pop(key, None)
        self._probes.pop(key, None)

    async def _apply(self, key: Key, about: Metadata, plan: Plan, pods: dict[str, str], now: datetime) -> None:
        if plan.status is not None:
            ref = Ref(key.kind, key.namespace, key.name)
            written = await self._api.apply_status(ref, plan.status, resource_version=about.resource_version)
            self._cache.wrote(written)
        for event in plan.events:
            logger.info("%s: %s: %s", key, event.reason, event.message)
            await emit(
                self._api,
                kind=key.kind,
                about=about,
                reason=event.reason,
                message=event.message,
                warning=event.warning,
                now=now,
            )
        try:
            await self._act(key, about, plan.actions, pods, now)
        except ChildError as error:
            refusal = Refusal(error.reason, str(error))
            self._queue.add(key, after=REFUSED_SECONDS if self._refusals.get(key) == refusal else 0.0)
            self._refusals[key] = refusal
            return
        self._refusals.pop(key, None)
        if plan.requeue_after is not None:
            # A plan that changed nothing may not ask for the next look at once.
            self._queue.add(key, after=plan.requeue_after if not plan.empty else max(plan.requeue_after, 0.05))

    async def _act(
        self, key: Key, about: Metadata, actions: Iterable[Action], pods: dict[str, str], now: datetime
    ) -> None:
        actions = tuple(actions)
        await self._rehearse(actions)
        for kind, group in groupby(actions, type):
            if kind is Direct:
                # Agents are told side by side: a hold should begin everywhere at once.
                await self._direct([a for a in group if isinstance(a, Direct)], pods)
                continue
            for action in group:
                await self._act_on_cluster(key, about, action, now)

    async def _rehearse(self, actions: Iterable[Action]) -> None:
        """All new children or none: one that the API server does not take is found out before the first is made."""
        new = [action for action in actions if isinstance(action, Apply) and not action.exists]
        if len(new) > 1:
            for action in new:
                await self._api.ensure(action.manifest, exists=False, rehearse=True)

    async def _direct(self, calls: list[Direct], pods: dict[str, str]) -> None:
        results = await asyncio.gather(
            *(self._agents.direct(pods[call.pod], call.request) for call in calls), return_exceptions=True
        )
        for call, result in zip(calls, results, strict=True):
            if isinstance(result, AgentError):
                logger.warning("agent of %s was not told (%s): %s", call.pod, call.reason, result)
            elif isinstance(result, BaseException):
                raise result

    async def _act_on_cluster(self, key: Key, about: Metadata, action: Action, now: datetime) -> None:
        match action:
            case Apply(manifest=manifest, exists=exists):
                self._cache.wrote(await self._api.ensure(manifest, exists=exists))
            case IssueCertificate(manifest=manifest, server_name=name, exists=exists):
                leaf = issue(self._authority, name, client=False, now=now)
                files = {"tls.crt": leaf.certificate, "tls.key": leaf.key, "ca.crt": self._authority.certificate}
                secret = with_certificate(manifest, files, leaf.renew_after.isoformat())
                self._cache.wrote(await self._api.ensure(secret, exists=exists))
            case Delete(kind=kind, namespace=namespace, name=name, uid=uid):
                await self._api.delete(Ref(kind, namespace, name), uid=uid)
            case SetFinalizer(finalizer=finalizer, present=present):
                ref = Ref(key.kind, key.namespace, key.name)
                body = await self._api.set_finalizer(ref, finalizer, present=present, uid=about.uid)
                if body is not None:
                    self._cache.wrote(body)
            case Probe():
                await self._probe(key)
            case Direct():
                raise AssertionError("agents are told in groups")

    async def _probe(self, key: Key) -> None:
        """Ask the route's address, over a new connection, which version answers."""
        observed = self._observer.route(key, refusal=None, probe=None)
        if observed is None or observed.service is None:
            return
        host = observed.service.cluster_ip
        host = f"[{host}]" if ":" in host else host
        url = f"http://{host}:{observed.route.spec.service.port}{IDENTITY_PATH}"
        answered, error = "", ""
        try:
            if self._http is None:
                self._http = aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True), trust_env=False)
            async with self._http.get(url, timeout=PROBE_TIMEOUT) as response:
                answered = str((await response.json()).get("modelVersion", ""))
        except (aiohttp.ClientError, TimeoutError, ValueError) as failure:
            error = f"{type(failure).__name__}: {failure}"
        self._probes[key] = ProbeResult(answered=answered, at=datetime.now(UTC), error=error)
        self._queue.add(key)


def _pods(observed: ObservedRoute) -> dict[str, str]:
    """Name → uid of every serving pod of the route."""
    return {pod.name: pod.uid for version in observed.versions.values() for pod in version.pods}


def _brief(error: BaseException) -> str:
    if isinstance(error, ApiException):
        return f"{error.status} {error.reason}: {(error.body or '')[:300]}"
    return str(error)
