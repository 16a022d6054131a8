"""Clients of the Open Inference Protocol's gRPC service: `grpc_load.py HOST:PORT MODEL SECONDS`.

Runs in the image of MLServer, which brings the protocol's messages. Half of the clients ask one request after the
other, half by streams of one message, which they open some time before they send it.
The model takes a moment for its answer, so that the client has ended its half of the stream by then: what happens
otherwise is told in docs/concepts.md. Prints a summary as JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import grpc
from mlserver.grpc import dataplane_pb2, dataplane_pb2_grpc

CLIENTS = 4
ROW = [6.0, 2.7, 5.1, 1.6]

answers: list[tuple[float, str]] = []
failures: list[str] = []


def request(model: str) -> dataplane_pb2.ModelInferRequest:
    """One inference."""
    contents = dataplane_pb2.InferTensorContents(fp64_contents=ROW)
    tensor = dataplane_pb2.ModelInferRequest.InferInputTensor(
        name="x", datatype="FP64", shape=[1, 4], contents=contents
    )
    return dataplane_pb2.ModelInferRequest(model_name=model, inputs=[tensor])


async def until(end: float, ask: Callable[[], Awaitable[str]]) -> None:
    """Ask again and again."""
    while time.time() < end:
        try:
            answers.append((time.time(), await ask()))
        except (grpc.RpcError, ValueError) as error:
            failures.append(repr(error)[:300])
        await asyncio.sleep(0.05)


async def main() -> None:
    """Run all clients."""
    target, model, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
    end = time.time() + seconds

    async def client(*, streams: bool) -> None:
        async with grpc.aio.insecure_channel(target) as channel:
            stub = dataplane_pb2_grpc.GRPCInferenceServiceStub(channel)

            async def unary() -> str:
                answer = await stub.ModelInfer(request(model), timeout=30)
                return str(answer.model_version)

            async def messages() -> AsyncIterator[dataplane_pb2.ModelInferRequest]:
                await asyncio.sleep(0.3)
                yield request(model)

            async def stream() -> str:
                got = [str(answer.model_version) async for answer in stub.ModelStreamInfer(messages(), timeout=30)]
                if len(set(got)) != 1:
                    raise ValueError(f"no answer, or more than one version: {got}")
                return got[0]

            await until(end, stream if streams else unary)

    await asyncio.gather(*(client(streams=number % 2 == 1) for number in range(CLIENTS)))
    versions = [version for _, version in sorted(answers)]
    order = [version for place, version in enumerate(versions) if place == 0 or versions[place - 1] != version]
    print(json.dumps({"answers": len(answers), "failures": failures, "order": order}))


if __name__ == "__main__":
    asyncio.run(main())
