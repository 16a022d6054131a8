"""A Service on loopback: a new connection goes to the pod that is selected now, an open one stays where it is."""

from __future__ import annotations

import asyncio
from contextlib import suppress


class LoopbackService:
    """What kube-proxy does for a Service, connection by connection."""

    def __init__(self) -> None:
        self.endpoint: tuple[str, int] = ("127.0.0.1", 0)
        """Host and port that new connections go to."""
        self.port = 0
        self._servers: list[asyncio.Server] = []
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def address(self) -> str:
        """Where clients connect, on loopback."""
        return f"127.0.0.1:{self.port}"

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        """Listen there, too."""
        server = await asyncio.start_server(self._connect, host, port)
        self._servers.append(server)
        self.port = server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        for server in self._servers:
            server.close()
            await server.wait_closed()
        for writer in list(self._writers):
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            there_reader, there_writer = await asyncio.open_connection(*self.endpoint)
        except OSError:
            writer.transport.abort()
            self._writers.discard(writer)
            return
        self._writers.add(there_writer)
        await asyncio.gather(_copy(reader, there_writer), _copy(there_reader, writer))
        for each in (writer, there_writer):
            self._writers.discard(each)
            each.close()
            with suppress(OSError):
                await each.wait_closed()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(2**16):
            writer.write(data)
            await writer.drain()
        writer.write_eof()
    except (ConnectionError, OSError):
        writer.transport.abort()
