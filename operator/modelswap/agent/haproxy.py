"""The HAProxy process and its admin socket."""

from __future__ import annotations

import asyncio
import csv
import signal
from dataclasses import dataclass
from pathlib import Path

COMMAND_SECONDS = 2.0
START_SECONDS = 10.0


MODEL_BACKENDS = ("local", "local-grpc", "direct", "direct-grpc", "upgraded")
"""Those whose requests this pod's model answers."""


class HaproxyError(Exception):
    """HAProxy did not start, did not answer, or refused a command."""


@dataclass(frozen=True)
class Traffic:
    """What HAProxy counts."""

    in_flight: int = 0
    direct_in_flight: int = 0
    handing_over: int = 0
    upgraded: int = 0
    route_connections: int = 0
    requests: int = 0
    errors: int = 0


@dataclass(frozen=True)
class Held:
    """What the Lua side counts for one hold."""

    id: str = ""
    held: int = 0
    total: int = 0
    longest_seconds: float = 0.0
    grpc_errors: int = 0
    """gRPC answers of the model that tell of a fault of its own, in all."""


class Haproxy:
    """A child process, and the commands that it takes while it runs."""

    def __init__(self, admin_socket: Path) -> None:
        self._socket = admin_socket
        self._process: asyncio.subprocess.Process | None = None

    async def start(self, config: Path) -> None:
        """Start it and wait until it takes commands.

        Raises:
            HaproxyError: it ended, or did not answer in time.

        """
        self._socket.unlink(missing_ok=True)
        # In a session of its own: a signal to us is not a signal to it.
        self._process = await asyncio.create_subprocess_exec(
            "haproxy", "-db", "-f", str(config), start_new_session=True
        )
        async with asyncio.timeout(START_SECONDS):
            while True:
                if self._process.returncode is not None:
                    raise HaproxyError(f"haproxy ended with code {self._process.returncode}")
                try:
                    await self.command("show version")
                    return
                except (OSError, HaproxyError):
                    await asyncio.sleep(0.02)

    async def wait(self) -> int:
        """Its exit code, once it has ended."""
        assert self._process is not None
        return await self._process.wait()

    def finish(self) -> None:
        """Take no new connections, end when the last request has. (SIGTERM would cut them.)"""
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(signal.SIGUSR1)

    def kill(self) -> None:
        """End at once."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()

    async def command(self, *commands: str) -> str:
        """Run commands, one after the other, and return what they print.

        Raises:
            HaproxyError: no answer in time.

        """
        try:
            async with asyncio.timeout(COMMAND_SECONDS):
                reader, writer = await asyncio.open_unix_connection(self._socket, limit=2**20)
                writer.write((";".join(commands) + "\n").encode())
                answer = await reader.read(-1)
                writer.close()
                return answer.decode()
        except (TimeoutError, ConnectionError) as error:
            raise HaproxyError(f"haproxy did not answer `{commands[0]}`: {error!r}") from error

    async def change(self, *commands: str) -> None:
        """Run commands that print nothing when they succeed.

        Raises:
            HaproxyError: one of them was refused.

        """
        answer = (await self.command(*commands)).strip()
        if answer and not _is_noise(answer):
            raise HaproxyError(f"haproxy refused {commands}: {answer}")

    async def traffic(self) -> Traffic:
        """Counts of all front and back ends."""
        rows = csv.DictReader((await self.command("show stat -1 3 -1")).lstrip("# ").splitlines())
        found = {(row["pxname"], row["svname"]): row for row in rows}

        def count(column: str, *proxies: str, side: str = "BACKEND") -> int:
            return sum(int(found.get((proxy, side), {}).get(column) or 0) for proxy in proxies)

        return Traffic(
            in_flight=count("scur", "local", "local-grpc"),
            direct_in_flight=count("scur", "direct", "direct-grpc"),
            handing_over=count("scur", "next", "next-grpc"),
            upgraded=count("scur", "upgraded"),
            route_connections=count("scur", "route", side="FRONTEND"),
            requests=count("req_tot", *MODEL_BACKENDS),
            errors=count("hrsp_5xx", *MODEL_BACKENDS),
        )

    async def held(self) -> Held:
        """Counts of the newest hold."""
        name, held, total, longest, grpc_errors = (await self.command("show modelswap")).split()
        return Held("" if name == "-" else name, int(held), int(total), int(longest) / 1000, int(grpc_errors))


def _is_noise(answer: str) -> bool:
    """`set server … addr` tells what it has changed, or that nothing needed to."""
    return all(
        "changed from" in line or "no need to change" in line or not line.strip() for line in answer.splitlines()
    )
