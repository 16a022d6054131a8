"""The agent's HTTP interfaces: control (mutual TLS), ops (behind HAProxy) and drain (the pod's own)."""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import Awaitable, Callable

from aiohttp import web
from pydantic import ValidationError

from modelswap.api.agent import AgentConfig, AgentReport, TrafficRequest

from .haproxy import HaproxyError
from .model import ModelWatcher
from .settings import AgentSettings
from .signals import Revision
from .traffic import TrafficDirector

logger = logging.getLogger(__name__)

OPERATOR = "operator.modelswap.internal"
"""The one name that may control an agent."""
LONGEST_POLL = 60.0
TERMINATION_NOTICE_SECONDS = 10.0
"""How long after the model server the agent may be told that the pod ends: its hook is a program that has to start, and
on a busy node that took more than three seconds, in which requests met a model server that had ended."""
DRAIN_SECONDS_MAX = 50.0
CONNECTION_SECONDS = 10.0
"""How long an ending pod waits for clients to leave with an answer. Then it takes no new connections, and tells those
that stay (idle ones, and HTTP/2, whose answers end no connection) to go."""
DRAIN_WAITERS = 8
TLS_CHECK_SECONDS = 5.0

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Control:
    """Answers what the agent sees, and does what it is told."""

    def __init__(
        self,
        settings: AgentSettings,
        config: AgentConfig,
        traffic: TrafficDirector,
        model: ModelWatcher,
        revision: Revision,
    ) -> None:
        self._settings = settings
        self._config = config
        self._traffic = traffic
        self._model = model
        self._revision = revision
        self._terminating = asyncio.Event()
        self._drained = asyncio.Event()
        self._waiters = 0
        self._runners: list[web.AppRunner] = []

    async def serve(self) -> None:
        """Open all three."""
        ops = web.Application()
        ops.router.add_get("/live", self._live)
        ops.router.add_get("/ready", self._ready)
        ops.router.add_get("/model", self._model_ready)
        ops.router.add_get("/model/live", self._model_live)
        ops.router.add_get("/drained", self._wait_drained)
        drain = web.Application()
        drain.router.add_post("/drain", self._drain)
        control = web.Application(middlewares=[_problems, _operator_only])
        control.router.add_get("/v1/report", self._report)
        control.router.add_put("/v1/traffic", self._direct)
        for app, path in ((ops, self._settings.ops_socket), (drain, self._settings.drain_socket)):
            path.unlink(missing_ok=True)
            await web.UnixSite(await self._runner(app), str(path)).start()
        context = tls_context(self._settings)
        site = web.TCPSite(
            await self._runner(control),
            self._settings.address or None,
            self._settings.control_port,
            ssl_context=context,
        )
        await site.start()
        self._tls = context

    async def _runner(self, app: web.Application) -> web.AppRunner:
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await runner.setup()
        self._runners.append(runner)
        return runner

    async def close(self) -> None:
        """Close all three."""
        for runner in self._runners:
            await runner.cleanup()

    async def watch_tls(self) -> None:
        """Take up renewed certificates; connections that are open stay."""
        certificate = self._settings.tls / "tls.crt"
        seen = certificate.stat().st_mtime
        while True:
            await asyncio.sleep(TLS_CHECK_SECONDS)
            try:
                modified = certificate.stat().st_mtime
                if modified != seen:
                    _load_tls(self._tls, self._settings)
                    seen = modified
                    logger.info("renewed certificate taken up")
            except (OSError, ssl.SSLError) as error:
                logger.error("the renewed certificate cannot be read, the old one stays: %s", error)

    def report(self) -> AgentReport:
        """What the agent sees now."""
        traffic, model = self._traffic, self._model
        counters = traffic.counters
        return AgentReport(
            revision=str(self._revision),
            model_version=self._config.model_version,
            mode=traffic.state.mode,
            peers=traffic.state.peers,
            upgraded_seconds=traffic.state.upgraded_seconds,
            hold=traffic.hold_report(),
            in_flight=traffic.in_flight,
            upgraded=traffic.traffic.upgraded,
            direct_in_flight=traffic.traffic.direct_in_flight,
            held=traffic.held.held,
            route_connections=traffic.traffic.route_connections,
            loaded=model.loaded,
            loaded_at=model.loaded_at,
            load_seconds=model.load_seconds,
            warmed_up=model.warmed_up,
            warm_up_done=model.warm_up_done,
            warm_up_total=model.warm_up_total,
            healthy=model.healthy,
            last_health_check=model.last_health_check,
            message=model.message,
            fetch=model.fetch,
            memory_bytes=model.memory.memory,
            gpu_memory_bytes=model.memory.gpu_memory,
            request_count=counters.requests,
            error_count=counters.errors,
            last_request_at=traffic.last_request_at,
            terminating=self._terminating.is_set(),
        )

    async def _report(self, request: web.Request) -> web.Response:
        after = request.query.get("after")
        if after:
            seconds = min(float(request.query.get("waitSeconds", "0")), LONGEST_POLL)
            await self._revision.other_than(after, seconds)
        await self._traffic.refresh()
        return self._answer()

    async def _direct(self, request: web.Request) -> web.Response:
        wanted = TrafficRequest.model_validate_json(await request.read())
        if self._terminating.is_set() and wanted.hold is not None:
            # An ending pod keeps nobody waiting; it drains by itself.
            wanted = wanted.model_copy(update={"hold": None})
        await self._traffic.direct(wanted)
        return self._answer()

    def _answer(self) -> web.Response:
        return web.json_response(text=self.report().model_dump_json(by_alias=True))

    async def _live(self, _: web.Request) -> web.Response:
        await self._traffic.refresh()
        return web.Response(text="ok")

    async def _ready(self, _: web.Request) -> web.Response:
        if self._model.ready:
            return web.Response(text="ok")
        return web.Response(status=503, text=self._model.message or "the model is not ready")

    async def _model_ready(self, _: web.Request) -> web.Response:
        if self._model.loaded:
            return web.Response(text="ok")
        return web.Response(status=503, text="the model does not answer yet")

    async def _model_live(self, _: web.Request) -> web.Response:
        if self._model.stuck and not self._terminating.is_set():
            return web.Response(status=503, text=self._model.message or "the model does not answer")
        return web.Response(text="ok")

    async def _drain(self, _: web.Request) -> web.Response:
        """The pod ends: send clients away with their answers, wait until nothing is in flight."""
        if not self._terminating.is_set():
            self._terminating.set()
            self._revision.bump()
            await self._traffic.close_connections()
        began = time.monotonic()
        while (waited := time.monotonic() - began) < DRAIN_SECONDS_MAX:
            await self._traffic.refresh()
            if waited > CONNECTION_SECONDS:
                await self._traffic.shut()
            left = self._traffic.traffic.route_connections == 0 or waited > CONNECTION_SECONDS
            if waited >= self._settings.settle_seconds and self._traffic.drained and left:
                break
            await asyncio.sleep(0.1)
        self._drained.set()
        return web.Response(text="drained")

    async def _wait_drained(self, _: web.Request) -> web.Response:
        """For the model server's preStop: answers when the pod has drained, or at once if it does not end."""
        if self._waiters >= DRAIN_WAITERS:
            return web.Response(status=503, text="too many are waiting")
        self._waiters += 1
        try:
            await asyncio.wait_for(self._terminating.wait(), TERMINATION_NOTICE_SECONDS)
            await asyncio.wait_for(self._drained.wait(), DRAIN_SECONDS_MAX)
        except TimeoutError:
            return web.Response(text="not draining")
        finally:
            self._waiters -= 1
        return web.Response(text="drained")


def tls_context(settings: AgentSettings) -> ssl.SSLContext:
    """Server side of mutual TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    _load_tls(context, settings)
    return context


def _load_tls(context: ssl.SSLContext, settings: AgentSettings) -> None:
    context.load_cert_chain(settings.tls / "tls.crt", settings.tls / "tls.key")
    context.load_verify_locations(settings.tls / "ca.crt")


@web.middleware
async def _operator_only(request: web.Request, handler: Handler) -> web.StreamResponse:
    certificate = request.get_extra_info("peercert") or {}
    if ("DNS", OPERATOR) not in certificate.get("subjectAltName", ()):
        return _problem(403, f"only {OPERATOR} may control an agent")
    return await handler(request)


@web.middleware
async def _problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except ValidationError as error:
        return _problem(422, f"the request does not fit: {error.errors(include_url=False)}")
    except ValueError as error:
        return _problem(400, str(error))
    except HaproxyError as error:
        logger.error("%s", error)
        return _problem(502, str(error))


def _problem(status: int, detail: str) -> web.Response:
    """An error as RFC 9457 problem details."""
    body = {"status": status, "detail": detail}
    return web.json_response(body, status=status, content_type="application/problem+json")
