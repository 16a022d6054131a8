"""A model server that answers as it is asked to: HTTP/1.1, streams, WebSockets, gRPC."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import grpc
from aiohttp import WSMsgType, web

REQUEST_ID = "X-Request-Id"
GRPC_SERVICE = "inference.GRPCInferenceService"
CHUNK = bytes(256 * 1024)

Context = grpc.aio.ServicerContext[bytes, bytes]


@dataclass
class Model:
    """A model server. Requests take as long as they ask for."""

    version: str
    port: int
    grpc_port: int | None = None
    host: str = "127.0.0.1"
    status: int = 200
    infer_status: int | None = None
    """Of inferences, if it is another."""
    hangs: bool = False
    """Takes requests and never answers."""
    served: int = 0
    begun: Counter[str] = field(default_factory=Counter)
    """How often each request has come, by its id."""
    runner: web.AppRunner | None = None
    grpc_server: grpc.aio.Server | None = None

    async def start(self) -> None:
        app = web.Application(client_max_size=2**28)
        app.router.add_get("/v2/models/iris/ready", self._ready)
        app.router.add_post("/v2/models/iris/infer", self._infer)
        app.router.add_post("/v2/models/iris/sum", self._sum)
        app.router.add_get("/v2/models/iris/large", self._large)
        app.router.add_get("/v2/models/iris/events", self._events)
        app.router.add_get("/v2/models/iris/socket", self._socket)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/begun", self._begun)
        self.runner = web.AppRunner(app, access_log=None, shutdown_timeout=0)
        await self.runner.setup()
        await web.TCPSite(self.runner, self.host, self.port).start()
        if self.grpc_port:
            self.grpc_server = grpc.aio.server()
            self.grpc_server.add_generic_rpc_handlers((self._grpc_handlers(),))
            self.grpc_server.add_insecure_port(f"{self.host}:{self.grpc_port}")
            await self.grpc_server.start()

    async def stop(self) -> None:
        if self.runner is not None:
            await self.runner.cleanup()
            self.runner = None
        if self.grpc_server is not None:
            await self.grpc_server.stop(grace=None)
            self.grpc_server = None

    def _begin(self, request: web.Request) -> None:
        self.served += 1
        if request_id := request.headers.get(REQUEST_ID):
            self.begun[request_id] += 1

    async def _ready(self, _: web.Request) -> web.Response:
        while self.hangs:
            await asyncio.sleep(0.1)
        return web.Response(status=self.status)

    async def _infer(self, request: web.Request) -> web.Response:
        self._begin(request)
        await request.read()
        await asyncio.sleep(float(request.query.get("seconds", "0")))
        return web.json_response({"version": self.version}, status=self.infer_status or self.status)

    async def _sum(self, request: web.Request) -> web.Response:
        """Of a large body."""
        self._begin(request)
        digest, size = hashlib.sha256(), 0
        async for chunk in request.content.iter_any():
            digest.update(chunk)
            size += len(chunk)
        return web.json_response({"version": self.version, "sha256": digest.hexdigest(), "bytes": size})

    async def _large(self, request: web.Request) -> web.StreamResponse:
        self._begin(request)
        size = int(request.query.get("bytes", 20 * 2**20))
        response = web.StreamResponse(headers={"Content-Length": str(size)})
        await response.prepare(request)
        while size > 0:
            await response.write(CHUNK[:size])
            size -= len(CHUNK)
        return response

    async def _events(self, request: web.Request) -> web.StreamResponse:
        """Server-sent events: twenty, five hundredths of a second apart."""
        self._begin(request)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for number in range(20):
            await response.write(f"id: {number}\ndata: {self.version}\n\n".encode())
            await asyncio.sleep(0.05)
        await response.write(b"event: end\ndata: \n\n")
        return response

    async def _socket(self, request: web.Request) -> web.WebSocketResponse:
        self._begin(request)
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            if message.type is WSMsgType.TEXT:
                await socket.send_str(f"{self.version} {message.data}")
        return socket

    async def _metrics(self, _: web.Request) -> web.Response:
        gpus = 'nv_gpu_memory_used_bytes{gpu="0"} 1e+06\nnv_gpu_memory_used_bytes{gpu="1"} 2e+06\n'
        return web.Response(text=f"process_resident_memory_bytes 1.23e+08\n{gpus}")

    async def _begun(self, _: web.Request) -> web.Response:
        """For a test that is in another process."""
        return web.json_response(self.begun)

    def _grpc_handlers(self) -> grpc.GenericRpcHandler:
        """The Open Inference Protocol's service; messages stay bytes."""
        methods: dict[str, Any] = {
            "ModelInfer": grpc.unary_unary_rpc_method_handler(self._model_infer),
            "ModelStreamInfer": grpc.stream_stream_rpc_method_handler(self._model_stream_infer),
        }
        return grpc.method_handlers_generic_handler(GRPC_SERVICE, methods)

    async def _model_infer(self, request: bytes, context: Context) -> bytes:
        self.served += 1
        self.begun[request.decode()] += 1
        await asyncio.sleep(0.01)
        if self.infer_status:
            await context.abort(grpc.StatusCode.INTERNAL, "the model is broken")
        return self.version.encode()

    async def _model_stream_infer(self, requests: AsyncIterator[bytes], context: Context) -> AsyncIterator[bytes]:
        """Until the client ends, or asks it to end first."""
        self.served += 1
        async for request in requests:
            if request == b"end":
                return
            yield self.version.encode() + b" " + request


async def _serve_forever() -> None:
    """As a model server in a pod: see tests/e2e/test_protocols.py."""
    port, grpc_port = (int(os.environ[name]) for name in ("MODEL_SERVER_PORT", "MODEL_SERVER_GRPC_PORT"))
    await Model(os.environ["MODEL_VERSION"], port, grpc_port).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve_forever())
