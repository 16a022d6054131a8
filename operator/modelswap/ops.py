"""The operator's health endpoints and metrics."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

Check = Callable[[], str]
"""Answers with what is wrong, or with nothing."""


async def serve(port: int, *, live: Check, ready: Check) -> web.AppRunner:
    """Serve `/livez`, `/readyz` and `/metrics` on all addresses until the runner is cleaned up."""
    app = web.Application()
    app.router.add_get("/livez", _answering(live))
    app.router.add_get("/readyz", _answering(ready))
    app.router.add_get("/metrics", _metrics)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, None, port).start()
    return runner


def _answering(check: Check) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handler(_: web.Request) -> web.Response:
        problem = check()
        return web.Response(status=503 if problem else 200, text=problem or "ok")

    return handler


async def _metrics(_: web.Request) -> web.Response:
    return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})
