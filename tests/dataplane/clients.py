"""Clients of many kinds that ask without end, and note every answer and every failure."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass, field

import aiohttp
import grpc
import httpx2

from .model import GRPC_SERVICE, REQUEST_ID

MODEL = "/v2/models/iris"
LARGE = 100 * 10**6
TIMEOUT = aiohttp.ClientTimeout(total=40)

_ids = itertools.count()


@dataclass
class Record:
    """What the clients of one kind have seen."""

    answers: list[tuple[float, str]] = field(default_factory=list)
    """When, and which version."""
    ids: set[str] = field(default_factory=set)
    """Of requests that were answered."""
    failures: list[str] = field(default_factory=list)

    def answered(self, version: str, request_id: str = "") -> None:
        self.answers.append((time.monotonic(), version))
        if request_id:
            self.ids.add(request_id)

    async def until(self, version: str) -> None:
        async with asyncio.timeout(15):
            while version not in self.versions():
                await asyncio.sleep(0.05)

    def versions(self) -> list[str]:
        """The versions in the order in which they were first and next seen."""
        return [version for version, _ in itertools.groupby(version for _, version in self.answers)]


Client = Callable[[str, Record, asyncio.Event], Coroutine[None, None, None]]
ERRORS = (aiohttp.ClientError, httpx2.HTTPError, grpc.RpcError, OSError, TimeoutError, KeyError, ValueError, EOFError)


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host, int(port)


def new_id() -> str:
    return f"r{next(_ids)}"


async def until_stopped(record: Record, stop: asyncio.Event, ask: Callable[[], Awaitable[None]]) -> None:
    """Ask again and again; note what goes wrong."""
    while not stop.is_set():
        try:
            await ask()
        except ERRORS as error:
            record.failures.append(f"{type(error).__name__}: {error}")
            await asyncio.sleep(0.05)


async def keep_alive(address: str, record: Record, stop: asyncio.Event) -> None:
    """HTTP/1.1, one request after the other."""
    async with aiohttp.ClientSession(timeout=TIMEOUT) as http:

        async def ask() -> None:
            request_id = new_id()
            url = f"http://{address}{MODEL}/infer?seconds=0.02"
            async with http.post(url, headers={REQUEST_ID: request_id}) as answer:
                record.answered((await answer.json())["version"], request_id)

        await until_stopped(record, stop, ask)


async def pipelined(address: str, record: Record, stop: asyncio.Event) -> None:
    """HTTP/1.1, five requests at a time on one connection.

    What is unanswered when the server closes the connection is asked again on another (RFC 9112, section 9.3.2).
    """
    connection: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
    unanswered: list[str] = []

    async def ask() -> None:
        unanswered.extend(new_id() for _ in range(5 - len(unanswered)))
        if not connection:
            connection.append(await asyncio.open_connection(*_split(address)))
        reader, writer = connection[0]
        head = f"POST {MODEL}/infer?seconds=0.01 HTTP/1.1\r\nHost: iris\r\nContent-Length: 0\r\n{REQUEST_ID}: "
        closed = False
        try:
            writer.write("".join(f"{head}{request_id}\r\n\r\n" for request_id in unanswered).encode())
            while unanswered and not closed:
                version, closed = await _read_answer(reader)
                record.answered(version, unanswered.pop(0))
        except (ConnectionError, asyncio.IncompleteReadError):
            closed = True
        if closed:
            connection.clear()
            writer.close()

    await until_stopped(record, stop, ask)
    for _, writer in connection:
        writer.close()


async def _read_answer(reader: asyncio.StreamReader) -> tuple[str, bool]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    assert head.startswith("http/1.1 200"), head
    length = int(head.partition("content-length: ")[2].partition("\r\n")[0])
    body = json.loads(await reader.readexactly(length))
    return str(body["version"]), "connection: close" in head


async def http2(address: str, record: Record, stop: asyncio.Event) -> None:
    """HTTP/2 without TLS, four requests side by side on one connection."""
    async with httpx2.AsyncClient(http1=False, http2=True, timeout=40) as http:

        async def one() -> None:
            request_id = new_id()
            url = f"http://{address}{MODEL}/infer?seconds=0.02"
            answer = await http.post(url, headers={REQUEST_ID: request_id})
            answer.raise_for_status()
            record.answered(answer.json()["version"], request_id)

        async def ask() -> None:
            await asyncio.gather(*(one() for _ in range(4)))

        await until_stopped(record, stop, ask)


async def grpc_unary(address: str, record: Record, stop: asyncio.Event) -> None:
    """The Open Inference Protocol's ModelInfer."""
    async with grpc.aio.insecure_channel(address) as channel:
        infer: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(f"/{GRPC_SERVICE}/ModelInfer")

        async def ask() -> None:
            request_id = new_id()
            record.answered((await infer(request_id.encode(), timeout=40)).decode(), request_id)

        await until_stopped(record, stop, ask)


async def grpc_stream(address: str, record: Record, stop: asyncio.Event) -> None:
    """ModelStreamInfer: ten messages both ways, a twentieth of a second apart."""
    async with grpc.aio.insecure_channel(address) as channel:
        infer: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(
            f"/{GRPC_SERVICE}/ModelStreamInfer"
        )

        async def messages() -> AsyncIterator[bytes]:
            for number in range(10):
                yield str(number).encode()
                await asyncio.sleep(0.05)

        async def ask() -> None:
            got = [answer.decode().split() async for answer in infer(messages(), timeout=40)]
            if [number for _, number in got] != [str(number) for number in range(10)]:
                raise ValueError(f"the stream broke: {got}")
            if len({version for version, _ in got}) != 1:
                raise ValueError(f"one stream, two versions: {got}")
            record.answered(got[0][0])

        await until_stopped(record, stop, ask)


async def server_sent_events(address: str, record: Record, stop: asyncio.Event) -> None:
    """A stream of a second."""
    async with aiohttp.ClientSession(timeout=TIMEOUT) as http:

        async def ask() -> None:
            request_id = new_id()
            url = f"http://{address}{MODEL}/events"
            async with http.get(url, headers={REQUEST_ID: request_id}) as answer:
                lines = (await answer.text()).split("\n")
            if "event: end" not in lines or lines.count("id: 19") != 1:
                raise ValueError(f"the stream broke off after {len(lines)} lines")
            record.answered(lines[1].removeprefix("data: "), request_id)

        await until_stopped(record, stop, ask)


async def large_bodies(address: str, record: Record, stop: asyncio.Event) -> None:
    """100 MB in, then 100 MB out."""
    part = bytes(10**6)
    digest = hashlib.sha256(part * 100).hexdigest()

    async def body() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield part

    async with aiohttp.ClientSession(timeout=TIMEOUT) as http:

        async def ask() -> None:
            request_id = new_id()
            headers = {REQUEST_ID: request_id, "Content-Length": str(LARGE)}
            async with http.post(f"http://{address}{MODEL}/sum", data=body(), headers=headers) as answer:
                found = await answer.json()
            if (found["bytes"], found["sha256"]) != (LARGE, digest):
                raise ValueError(f"other bytes came: {found}")
            record.answered(found["version"], request_id)
            async with http.get(f"http://{address}{MODEL}/large?bytes={LARGE}") as answer:
                size = sum([len(chunk) async for chunk in answer.content.iter_any()])
            if size != LARGE:
                raise ValueError(f"{size} of {LARGE} bytes came")

        await until_stopped(record, stop, ask)


async def slow_readers(address: str, record: Record, stop: asyncio.Event) -> None:
    """An answer of 2 MB that takes its client two seconds to read."""

    async def ask() -> None:
        reader, writer = await asyncio.open_connection(*_split(address), limit=2**14)
        try:
            writer.write(f"GET {MODEL}/large?bytes=2000000 HTTP/1.1\r\nHost: iris\r\n\r\n".encode())
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            if not head.startswith("HTTP/1.1 200"):
                raise ValueError(head)
            for _ in range(20):
                await reader.readexactly(100_000)
                await asyncio.sleep(0.1)
            version = head.lower().partition("modelswap-version: iris-")[2].partition("\r\n")[0]
            record.answered(version)
        finally:
            writer.close()

    await until_stopped(record, stop, ask)


async def websockets(address: str, record: Record, stop: asyncio.Event) -> None:
    """Ten messages there and back on each connection: an open one keeps its version, a new one finds the newest."""
    async with aiohttp.ClientSession(timeout=TIMEOUT) as http:

        async def ask() -> None:
            async with http.ws_connect(f"http://{address}{MODEL}/socket") as socket:
                versions = set()
                for number in range(10):
                    await socket.send_str(str(number))
                    version, _, echo = (await socket.receive_str(timeout=20)).partition(" ")
                    if echo != str(number):
                        raise ValueError(f"{number} came back as {echo}")
                    versions.add(version)
                    await asyncio.sleep(0.05)
            if len(versions) != 1:
                raise ValueError(f"one connection, several versions: {versions}")
            record.answered(versions.pop())

        await until_stopped(record, stop, ask)


async def hanging_up(address: str, record: Record, stop: asyncio.Event) -> None:
    """Half of them go away while they wait for their answer; the others must not notice."""
    async with aiohttp.ClientSession(timeout=TIMEOUT) as http:

        async def ask() -> None:
            _, writer = await asyncio.open_connection(*_split(address))
            writer.write(f"POST {MODEL}/infer?seconds=0.5 HTTP/1.1\r\nHost: iris\r\nContent-Length: 0\r\n\r\n".encode())
            await asyncio.sleep(0.05)
            writer.close()
            request_id = new_id()
            async with http.post(f"http://{address}{MODEL}/infer", headers={REQUEST_ID: request_id}) as answer:
                record.answered((await answer.json())["version"], request_id)

        await until_stopped(record, stop, ask)


KINDS: dict[str, Client] = {
    client.__name__: client
    for client in (
        keep_alive,
        pipelined,
        http2,
        grpc_unary,
        grpc_stream,
        server_sent_events,
        large_bodies,
        slow_readers,
        websockets,
        hanging_up,
    )
}
