"""Every kind of client under a swap, a rollback, and a swap right after a swap: none loses a request."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import grpc
import pytest
from modelswap.api.agent import Hold, TrafficMode, TrafficRequest

from tests.support.service import LoopbackService

from .clients import KINDS, MODEL, Record
from .conftest import MakePod, Pod, pods_in
from .model import GRPC_SERVICE
from .test_agent import post

CLIENTS = 2
"""Of each kind."""
PAUSE = 1.0
HOLD_SECONDS = 3.0

Outcome = tuple[dict[str, Record], Counter[str]]


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """All kinds at once, over a swap, a rollback, and two swaps in a row."""
    return asyncio.run(_run(tmp_path_factory.mktemp("protocols")))


async def _run(folder: Path) -> Outcome:
    async with pods_in(folder) as make_pod:
        pods: list[Pod] = [await make_pod(version, grpc=True) for version in ("1.0.0", "1.1.0", "2.0.0")]
        await asyncio.gather(*(pod.until_ready() for pod in pods))
        service = LoopbackService()
        await service.start()
        records, stop = {kind: Record() for kind in KINDS}, asyncio.Event()
        route = Route(service, pods)
        await route.swap(pods[0])
        tasks = [
            asyncio.create_task(client(service.address, records[kind], stop))
            for kind, client in KINDS.items()
            for _ in range(CLIENTS if kind != "large_bodies" else 1)
        ]
        await asyncio.sleep(PAUSE)
        await route.swap(pods[1])
        await asyncio.sleep(PAUSE)
        await route.rollback(pods[0])
        await asyncio.sleep(PAUSE)
        await route.swap(pods[1])
        await route.swap(pods[2])
        await asyncio.gather(*(record.until("2.0.0") for record in records.values()))
        stop.set()
        async with asyncio.timeout(40):
            await asyncio.gather(*tasks)
        await service.stop()
        begun: Counter[str] = Counter()
        for pod in pods:
            begun.update(pod.model.begun)
        await asyncio.sleep(0.2)  # transports are closed in the loop's next turns
    return records, begun


class Route:
    """Does by hand what the operator does."""

    def __init__(self, service: LoopbackService, pods: list[Pod]) -> None:
        self._service = service
        self._pods = pods
        self._swaps = 0

    async def swap(self, target: Pod) -> None:
        """Hold, drain, hand over, select."""
        others = [pod for pod in self._pods if pod is not target]
        await self._hold(others, HOLD_SECONDS)
        for pod in others:
            try:
                await pod.until(lambda report: report.in_flight == 0, HOLD_SECONDS - 0.5)
            except TimeoutError:
                continue  # what takes longer ends on the source
        await self._switch(target, others)

    async def rollback(self, target: Pod) -> None:
        """Hand over and select, drain after."""
        await self._hold(self._pods, 1)
        await self._switch(target, [pod for pod in self._pods if pod is not target])

    async def _hold(self, pods: list[Pod], seconds: float) -> None:
        self._swaps += 1
        for pod in pods:
            report = await pod.report()
            hold = Hold(id=f"swap-{self._swaps}", seconds=seconds)
            await pod.direct(TrafficRequest(mode=report.mode, peers=report.peers, hold=hold))

    async def _switch(self, target: Pod, others: list[Pod]) -> None:
        await target.direct(TrafficRequest())
        for pod in others:
            await pod.direct(TrafficRequest(mode=TrafficMode.HAND_OVER, peers=(target.handover,)))
        self._service.endpoint = ("127.0.0.1", target.settings["route_port"])


@pytest.mark.requirement("HS-10")
@pytest.mark.parametrize("kind", KINDS)
def test_no_request_is_lost_whatever_the_protocol(outcome: Outcome, kind: str) -> None:
    records, begun = outcome
    record = records[kind]
    assert record.failures == []
    assert {"1.0.0", "1.1.0", "2.0.0"} >= {version for _, version in record.answers} > {"2.0.0"}
    assert all(begun[request_id] == 1 for request_id in record.ids), "a request came to a model twice"
    if kind in ("keep_alive", "pipelined", "http2", "grpc_unary"):
        assert record.versions()[0] == "1.0.0"
        assert record.versions()[-1] == "2.0.0"


@pytest.mark.requirement("HS-10")
async def test_who_hangs_up_while_held_asks_nothing_of_the_model(make_pod: MakePod) -> None:
    pod = await make_pod("1.0.0")
    await pod.until_ready()
    await pod.direct(TrafficRequest(hold=Hold(id="one", seconds=20)))
    writers = []
    for _ in range(5):
        _, writer = await asyncio.open_connection("127.0.0.1", pod.settings["route_port"])
        writer.write(f"POST {MODEL}/infer HTTP/1.1\r\nHost: iris\r\nContent-Length: 0\r\n\r\n".encode())
        writers.append(writer)
    await pod.until_held(5)
    for writer in writers[:4]:
        writer.close()
        await writer.wait_closed()
    await pod.until_held(1)
    await pod.direct(TrafficRequest())
    await pod.until_held(0)
    await pod.until(lambda report: report.in_flight == 0)
    assert pod.model.served == 1
    writers[4].close()
    await writers[4].wait_closed()


LEAVING = ("keep_alive", "pipelined", "grpc_unary", "grpc_stream")
"""Not httpx2: it gives requests up on a GOAWAY that lets them end (RFC 9113, section 6.8)."""


@pytest.mark.requirement("HS-10")
async def test_clients_of_a_pod_that_ends_find_another(make_pod: MakePod) -> None:
    old, new = await make_pod("1.0.0", grpc=True), await make_pod("1.1.0", grpc=True)
    await asyncio.gather(old.until_ready(), new.until_ready())
    service, stop = LoopbackService(), asyncio.Event()
    await service.start()
    service.endpoint = ("127.0.0.1", old.settings["route_port"])
    records = {kind: Record() for kind in LEAVING}
    tasks = [asyncio.create_task(KINDS[kind](service.address, record, stop)) for kind, record in records.items()]
    for record in records.values():
        await record.until("1.0.0")
    service.endpoint = ("127.0.0.1", new.settings["route_port"])
    draining = old.drain()
    assert await asyncio.to_thread(draining.wait, 30) == 0
    for process in (old.process, old.proxy):
        assert process is not None
        process.terminate()
        assert await asyncio.to_thread(process.wait, 20) == 0
    for record in records.values():
        await record.until("1.1.0")
    stop.set()
    await asyncio.gather(*tasks)
    await service.stop()
    assert {kind: record.failures for kind, record in records.items()} == {kind: [] for kind in LEAVING}


@pytest.mark.requirement("HS-10")
async def test_a_stream_that_the_model_ends_first_ends_well(make_pod: MakePod) -> None:
    pod = await make_pod("1.0.0", grpc=True)
    await pod.until_ready()

    async def ask(infer: grpc.aio.StreamStreamMultiCallable[bytes, bytes], pause: float) -> list[bytes]:
        async def messages() -> AsyncIterator[bytes]:
            yield b"one"
            yield b"end"
            await asyncio.sleep(pause)

        return [answer async for answer in infer(messages(), timeout=20)]

    async with grpc.aio.insecure_channel(f"127.0.0.1:{pod.settings['route_port']}") as channel:
        infer: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(
            f"/{GRPC_SERVICE}/ModelStreamInfer"
        )
        for _ in range(50):
            answers = await asyncio.gather(*(ask(infer, pause) for pause in (0, 0.01, 0.1)))
            assert answers == [[b"1.0.0 one"]] * 3


@pytest.mark.requirement("HS-10")
async def test_a_long_hold_loses_nobody(make_pod: MakePod) -> None:
    """Longer than HAProxy's own limits for a request's head and for Lua."""
    pod = await make_pod("1.0.0")
    await pod.until_ready()
    await pod.direct(TrafficRequest(hold=Hold(id="long", seconds=60)))
    waiting = [asyncio.create_task(post(pod.route)) for _ in range(3)]
    await pod.until_held(3)
    await asyncio.sleep(12)
    await pod.direct(TrafficRequest())
    assert await asyncio.gather(*waiting) == ["1.0.0"] * 3


@pytest.mark.requirement("HS-10")
async def test_a_websocket_stays_until_its_limit_and_finds_the_new_version_then(make_pod: MakePod) -> None:
    old, new = await make_pod("1.0.0"), await make_pod("1.1.0")
    await asyncio.gather(old.until_ready(), new.until_ready())
    hand_over = TrafficRequest(mode=TrafficMode.HAND_OVER, peers=(new.handover,), upgraded_seconds=2)
    async with aiohttp.ClientSession() as http, http.ws_connect(f"{old.route}{MODEL}/socket") as socket:
        await socket.send_str("before")
        assert await socket.receive_str(timeout=5) == "1.0.0 before"
        report = await old.report()
        assert (report.upgraded, report.in_flight) == (1, 0), "nobody waits for its end"
        await old.direct(TrafficRequest(hold=Hold(id="swap", seconds=5)))
        await socket.send_str("held")
        assert await socket.receive_str(timeout=5) == "1.0.0 held"
        await old.direct(hand_over)
        await socket.send_str("after")
        assert await socket.receive_str(timeout=5) == "1.0.0 after"
        async with http.ws_connect(f"{old.route}{MODEL}/socket") as another:
            await another.send_str("hello")
            assert await another.receive_str(timeout=5) == "1.1.0 hello"
            closed = await socket.receive(timeout=5)
            assert closed.type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR, aiohttp.WSMsgType.CLOSE)
            await another.send_str("still there")
            assert await another.receive_str(timeout=5) == "1.1.0 still there"
    assert (await old.report()).upgraded == 0


@pytest.mark.requirement("VM-5")
async def test_a_grpc_error_counts_though_http_calls_it_a_success(make_pod: MakePod) -> None:
    pod = await make_pod("1.0.0", grpc=True)
    await pod.until_ready()
    pod.model.infer_status = 500
    record, stop = Record(), asyncio.Event()
    task = asyncio.create_task(KINDS["grpc_unary"](f"127.0.0.1:{pod.settings['route_port']}", record, stop))
    report = await pod.until(lambda r: r.error_count >= 3)
    stop.set()
    await task
    assert "the model is broken" in record.failures[0]
    assert report.request_count >= report.error_count
