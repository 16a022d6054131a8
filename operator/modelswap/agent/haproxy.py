"""HAProxy's admin socket."""

from __future__ import annotations

import asyncio
import csv
from dataclasses import dataclass
from pathlib import Path

COMMAND_SECONDS = 2.0
START_SECONDS = 60.0
"""For the proxy's container to start: it comes up beside the agent's."""
ATTACH_TICK = 0.02

MODEL_BACKENDS = ("local", "local-grpc", "direct", "direct-grpc", "upgraded")
"""Those whose requests this pod's model answers."""


class HaproxyError(Exception):
    """HAProxy is not there, did not answer, or refused a command."""


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
    process: str = ""
    """Of HAProxy: another one has counted nothing yet."""


class Haproxy:
    """The commands that it takes while it runs, in a container of its own."""

    def __init__(self, admin_socket: Path) -> None:
        self._socket = admin_socket

    async def attach(self) -> None:
        """Wait until it takes commands.

        Raises:
            HaproxyError: it did not in time.

        """
        try:
            async with asyncio.timeout(START_SECONDS):
                while not await self._answers():
                    await asyncio.sleep(ATTACH_TICK)
        except TimeoutError as error:
            raise HaproxyError(f"haproxy took no command within {START_SECONDS:.0f} s") from error

    async def _answers(self) -> bool:
        try:
            await self.command("show version")
        except HaproxyError:
            return False
        return True

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
        except (TimeoutError, OSError) as error:
            raise HaproxyError(f"haproxy did not answer `{commands[0]}`: {error!r}") from error

    async def change(self, *commands: str) -> None:
        """Run commands that print nothing when they succeed.

        Raises:
            HaproxyError: one of them was refused.

        """
        answer = (await self.command(*commands)).strip()
        if answer and not _is_noise(answer):
            raise HaproxyError(f"haproxy refused {commands}: {answer}")

    async def counts(self) -> tuple[Traffic, Held]:
        """Counts of all front and back ends, and of the newest hold, of one process at one time.

        Raises:
            HaproxyError: no answer.

        """
        hold, _, rest = (await self.command("show modelswap", "show stat -1 3 -1")).partition("\n")
        name, held, total, longest, grpc_errors, process = hold.split()
        return _traffic(rest), Held(
            id="" if name == "-" else name,
            held=int(held),
            total=int(total),
            longest_seconds=int(longest) / 1000,
            grpc_errors=int(grpc_errors),
            process=process,
        )


def _traffic(table: str) -> Traffic:
    rows = csv.DictReader(table.strip().lstrip("# ").splitlines())
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


def _is_noise(answer: str) -> bool:
    """`set server … addr` tells what it has changed, or that nothing needed to."""
    noise = ("changed from", "no need to change", "nothing changed")
    return all(any(words in line for words in noise) or not line.strip() for line in answer.splitlines())
