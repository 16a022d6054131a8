"""`python3 -m modelswap.agent run`, the container's program, and `drain`, its preStop hook."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys

import aiohttp

from modelswap.api.agent import AgentConfig

from .control import Control
from .model import ModelWatcher
from .settings import AgentSettings
from .signals import Revision
from .traffic import TrafficDirector

logger = logging.getLogger(__name__)

DRAIN_TIMEOUT = aiohttp.ClientTimeout(total=58)


async def run(settings: AgentSettings) -> int:
    """Run until told to end, or until a part of the agent ends; the exit code."""
    config = AgentConfig.model_validate_json(settings.config.read_bytes())
    revision = Revision()
    traffic = TrafficDirector(
        settings,
        revision,
        model_version=config.model_version,
        model_port=config.model_server_port,
        grpc_port=config.model_server_grpc_port,
    )
    model = ModelWatcher(settings, config, revision)
    control = Control(settings, config, traffic, model, revision)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    stopping = asyncio.create_task(stop.wait())
    starting = asyncio.create_task(_start(traffic, control))
    await asyncio.wait([stopping, starting], return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        return 0
    starting.result()
    parts = [asyncio.create_task(part()) for part in (traffic.watch, model.watch, control.watch_tls)]
    try:
        await asyncio.wait([stopping, *parts], return_when=asyncio.FIRST_COMPLETED)
        for part in parts:
            if part.done():
                part.result()
        return 0
    finally:
        for task in (stopping, *parts):
            task.cancel()
        await control.close()
        traffic.finish()


async def _start(traffic: TrafficDirector, control: Control) -> None:
    await traffic.start()
    await control.serve()


async def drain(settings: AgentSettings) -> int:
    """Tell the running agent that the pod ends, and wait until it has drained; the exit code."""
    connector = aiohttp.UnixConnector(str(settings.drain_socket))
    try:
        async with (
            aiohttp.ClientSession(connector=connector, timeout=DRAIN_TIMEOUT) as http,
            http.post("http://agent/drain") as response,
        ):
            return 0 if response.status == 200 else 1
    except (aiohttp.ClientError, TimeoutError) as error:
        print(f"the agent did not drain: {error!r}", file=sys.stderr)
        return 1


def main() -> None:
    """Run one of the two commands."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    commands = {"run": run, "drain": drain}
    if len(sys.argv) != 2 or sys.argv[1] not in commands:
        sys.exit(f"usage: python3 -m modelswap.agent {'|'.join(commands)}")
    settings = AgentSettings(settle_seconds=float(os.environ.get("MODELSWAP_SETTLE_SECONDS", "3")))
    sys.exit(asyncio.run(commands[sys.argv[1]](settings)))


if __name__ == "__main__":
    main()
