"""The leader's work: kopf watches, the reconciler acts."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import aiohttp
import kopf
from kubernetes.aio.client import ApiClient
from prometheus_client import REGISTRY

from modelswap import metrics
from modelswap.engine.agents import Agent, AgentClient, AgentMonitor
from modelswap.engine.keys import Key
from modelswap.engine.queue import KeyedQueue
from modelswap.engine.reconciler import Reconciler
from modelswap.engine.state_metrics import StateMetrics
from modelswap.engine.tracing import SwapTracer
from modelswap.engine.wakeups import keys_of
from modelswap.kube.api import ApiException, KubeApi
from modelswap.kube.authority import ensure_authority
from modelswap.kube.cache import Cache
from modelswap.kube.pod_memory import PodMemory
from modelswap.kube.retirement import is_uninstalled, release_all
from modelswap.kube.version_cache import VersionCache
from modelswap.manifests import labels, names
from modelswap.manifests.pod import AGENT, ServingDefaults
from modelswap.settings import Settings

from .registry import INDICES, build, label_selectors

logger = logging.getLogger(__name__)

Body = Mapping[str, Any]

STUCK_SECONDS = 180.0
"""An object that is due for so long tells that the operator does not work any more."""

FINALIZER = "modelswap.dev/kopf-unused"
"""kopf removes a finalizer of this name wherever it finds one; ours must have another."""


class Operator:
    """One leader's run, from taking the lead to losing it."""

    def __init__(self, settings: Settings, client: ApiClient, *, before_write: Callable[[], None]) -> None:
        self._settings = settings
        self._before_write = before_write
        self._api = KubeApi(client, before_write=before_write)
        self._queue: KeyedQueue[Key] = KeyedQueue()
        self._versions = VersionCache()
        self._cache: Cache | None = None
        self._agents: AgentMonitor | None = None
        self._memory = PodMemory(self._api, settings.namespaces, self._measured)
        self._tasks: list[asyncio.Task[None]] = []
        self._state_metrics: StateMetrics | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Watch and reconcile until told to stop."""
        authority = await ensure_authority(self._api, self._settings.namespace, datetime.now(UTC))
        self._agents = AgentMonitor(AgentClient(authority, before_write=self._before_write), self._heard)
        registry = build(self._changed, self._versions.saw)
        reconcilers: list[Reconciler] = []

        @kopf.on.login(registry=registry)
        async def login(**kwargs: Any) -> kopf.ConnectionInfo | None:
            return kopf.login_with_service_account(**kwargs) or kopf.login_with_kubeconfig(**kwargs)

        @kopf.on.startup(registry=registry, errors=kopf.ErrorsMode.PERMANENT)
        async def start(**kwargs: Any) -> None:
            self._cache = Cache({name: kwargs[name] for name, _, _ in INDICES}, self._versions)
            # Of the leader alone: with two, every version would be counted twice.
            self._state_metrics = StateMetrics(self._cache)
            REGISTRY.register(self._state_metrics)
            assert self._agents is not None
            reconciler = Reconciler(
                api=self._api,
                cache=self._cache,
                agents=self._agents,
                memory=self._memory,
                queue=self._queue,
                authority=authority,
                defaults=_serving_defaults(self._settings),
                tracer=SwapTracer(self._settings.otlp_endpoint) if self._settings.otlp_endpoint else None,
            )
            reconcilers.append(reconciler)
            await self._memory.read()
            self._tasks = [asyncio.create_task(reconciler.work()) for _ in range(self._settings.workers)]
            self._tasks.append(asyncio.create_task(self._observe_queue()))
            self._tasks.append(asyncio.create_task(self._memory.watch(self._settings.memory_period_seconds)))

        namespaces = self._settings.namespaces
        try:
            await kopf.operator(
                registry=registry,
                settings=_kopf_settings(),
                standalone=True,
                # By itself, kopf asks for the name of the user that it runs as; an image's user has none.
                identity=self._settings.pod_name,  # type: ignore[arg-type]
                clusterwide=not namespaces,
                namespaces=namespaces,
                stop_flag=stop,
            )
        finally:
            await self._close(reconcilers)
        # A clean end, by a signal: kopf has handlers of its own for these while it runs.
        await self._leave_nothing()

    async def _leave_nothing(self) -> None:
        """A Deployment that is deleted comes with no successor that would take our finalizers off."""
        settings = self._settings
        try:
            if await is_uninstalled(self._api, settings.namespace, settings.deployment):
                await release_all(self._api, settings.namespaces)
        except (ApiException, aiohttp.ClientError, TimeoutError) as error:
            logger.warning("ModelVersions that routes lead to keep their finalizer: %s", error)

    def problem(self) -> str:
        """Why the operator should be started again; empty when it is well."""
        waited = self._queue.oldest_seconds()
        return f"an object has waited {waited:.0f} s to be looked at" if waited > STUCK_SECONDS else ""

    async def _close(self, reconcilers: list[Reconciler]) -> None:
        if self._state_metrics:
            REGISTRY.unregister(self._state_metrics)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for reconciler in reconcilers:
            await reconciler.close()
        if self._agents:
            await self._agents.close()

    async def _observe_queue(self) -> None:
        while True:
            metrics.QUEUE_DEPTH.set(len(self._queue))
            metrics.QUEUE_AGE_SECONDS.set(self._queue.oldest_seconds())
            await asyncio.sleep(1)

    def _changed(self, kind: str, body: Body, gone: bool) -> None:
        assert self._cache is not None
        if gone:
            self._cache.forget(kind, body)
        if kind == "Pod":
            self._follow(body, gone=gone)
        for key in keys_of(kind, body, self._cache):
            self._queue.add(key)

    def _follow(self, body: Body, *, gone: bool) -> None:
        """Be in touch with the agent of a pod while its container runs."""
        assert self._agents is not None
        meta, status = body["metadata"], body.get("status", {})
        name = meta.get("labels", {}).get(labels.MODEL_VERSION)
        containers = status.get("initContainerStatuses", ())
        runs = any(c["name"] == AGENT and c.get("state", {}).get("running") for c in containers)
        if gone or not name or not runs or not status.get("podIP"):
            self._agents.drop(meta["uid"])
            return
        server_name = names.agent_server_name(meta["namespace"], name)
        self._agents.follow(
            Agent(
                pod_uid=meta["uid"],
                ip=status["podIP"],
                server_name=server_name,
                model_version=name,
                namespace=meta["namespace"],
                model=meta["labels"].get(labels.MODEL, ""),
            )
        )

    def _measured(self, namespace: str, version: str) -> None:
        self._queue.add(Key("ModelVersion", namespace, version))

    def _heard(self, agent: Agent) -> None:
        assert self._cache is not None
        self._queue.add(Key("ModelVersion", agent.namespace, agent.model_version))
        for route in self._cache.all("routes_by_model", (agent.namespace, agent.model)):
            self._queue.add(Key("ModelRoute", agent.namespace, route["metadata"]["name"]))


def _serving_defaults(settings: Settings) -> ServingDefaults:
    return ServingDefaults(
        agent_image=settings.agent_image,
        image_pull_policy=settings.image_pull_policy,
        fetch_hosts=settings.fetch_hosts,
        artifact_cache_path=settings.artifact_cache_path,
        artifact_cache_max_bytes=settings.artifact_cache_max_bytes,
    )


def _kopf_settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.persistence.finalizer = FINALIZER
    settings.posting.enabled = False  # our own events tell what happened, kopf's would tell of handlers
    settings.scanning.disabled = True
    settings.process.ultimate_exiting_timeout = 10
    label_selectors(settings)
    return settings
