"""Serving pods as processes on loopback: a real HAProxy and agent each, a model server whose answers take as asked."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import IO, Any

import aiohttp
import pytest
from localcluster import images
from localcluster.apiserver import free_port
from localcluster.layout import Layout
from modelswap import agent
from modelswap.api.agent import AgentReport, TrafficRequest
from modelswap.certificates import KeyPair, issue, new_authority

from .model import Model

NOW = datetime.now(UTC)
SERVER_NAME = "agent.test"
ENVIRONMENT = os.environ | {"PYTHONPATH": ":".join(sys.path)}
PROXY = resources.files(agent) / "proxy.sh"

# The program of the container, with its surroundings moved.
PROGRAM = """
import asyncio, json, sys
from pathlib import Path
from modelswap.agent.__main__ import {command}
from modelswap.agent.settings import AgentSettings
given = json.loads(sys.argv[1])
paths = {{key: Path(given.pop(key)) for key in ("config", "tls", "run", "fetch_progress")}}
sys.exit(asyncio.run({command}(AgentSettings(**paths, **given))))
"""


@dataclass
class Pod:
    """One agent with its model."""

    model: Model
    folder: Path
    authority: KeyPair
    settings: dict[str, Any]
    operator: aiohttp.ClientSession
    sample: dict[str, Any] | None = None
    warm_up: dict[str, Any] | None = None
    memory_metrics: bool = False
    process: subprocess.Popen[bytes] | None = None
    """The agent's."""
    proxy: subprocess.Popen[bytes] | None = None

    @property
    def route(self) -> str:
        return f"http://127.0.0.1:{self.settings['route_port']}"

    @property
    def direct_url(self) -> str:
        return f"http://127.0.0.1:{self.settings['direct_port']}"

    @property
    def ops(self) -> str:
        return f"http://127.0.0.1:{self.settings['ops_port']}"

    @property
    def handover(self) -> str:
        return f"127.0.0.1:{self.settings['handover_port']}"

    @property
    def fetch_progress(self) -> Path:
        return Path(self.settings["fetch_progress"])

    @property
    def control(self) -> str:
        return f"https://127.0.0.1:{self.settings['control_port']}/v1"

    def start(self) -> None:
        """The containers that have ended, or have not begun."""
        if self.proxy is None or self.proxy.poll() is not None:
            self.proxy = start_proxy(Path(self.settings["run"]))
        if self.process is None or self.process.poll() is not None:
            command = [*self._program("run"), json.dumps(self.settings)]
            self.process = subprocess.Popen(command, start_new_session=True, env=ENVIRONMENT)

    def _program(self, command: str) -> list[str]:
        return [sys.executable, "-c", PROGRAM.format(command=command)]

    def drain(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen([*self._program("drain"), json.dumps(self.settings)], env=ENVIRONMENT)

    def configure(self) -> None:
        config = {
            "modelVersion": f"iris-{self.model.version}",
            "model": "iris",
            "version": self.model.version,
            "modelServerPort": self.model.port,
            "modelServerGrpcPort": self.model.grpc_port,
            "sample": self.sample,
            "warmUp": self.warm_up,
            "memoryMetrics": {"port": self.model.port} if self.memory_metrics else None,
        }
        (self.folder / "agent.json").write_text(json.dumps(config))

    def issue_certificate(self) -> None:
        leaf = issue(self.authority, SERVER_NAME, client=False, now=NOW)
        tls = self.folder / "tls"
        tls.mkdir(exist_ok=True)
        (tls / "tls.key").write_bytes(leaf.key)
        (tls / "ca.crt").write_bytes(self.authority.certificate)
        (tls / "tls.crt").write_bytes(leaf.certificate)

    async def report(self) -> AgentReport:
        async with self.operator.get(f"{self.control}/report", server_hostname=SERVER_NAME) as response:
            return AgentReport.model_validate_json(await response.text())

    async def direct(self, request: TrafficRequest) -> AgentReport:
        body = request.model_dump(by_alias=True, mode="json")
        async with self.operator.put(f"{self.control}/traffic", json=body, server_hostname=SERVER_NAME) as response:
            assert response.status == 200, await response.text()
            return AgentReport.model_validate_json(await response.text())

    async def until(self, condition: Callable[[AgentReport], bool], seconds: float = 15) -> AgentReport:
        """The first report that fits, by long polls."""
        after = ""
        async with asyncio.timeout(seconds):
            while True:
                try:
                    params = {"after": after, "waitSeconds": "1"}
                    async with self.operator.get(
                        f"{self.control}/report", params=params, server_hostname=SERVER_NAME
                    ) as response:
                        response.raise_for_status()
                        report = AgentReport.model_validate_json(await response.text())
                except aiohttp.ClientError:
                    await asyncio.sleep(0.05)
                    continue
                if condition(report):
                    return report
                after = report.revision

    async def until_held(self, count: int) -> None:
        """By polling: how many are held is a counter, and no change that a report is sent for."""
        async with asyncio.timeout(15):
            while (await self.report()).held != count:
                await asyncio.sleep(0.05)

    async def until_ready(self) -> AgentReport:
        return await self.until(lambda r: r.healthy is True)

    def kill_agent(self) -> None:
        """As a node does with a container: everything in it ends at once."""
        _kill(self.process)

    def kill_proxy(self) -> None:
        _kill(self.proxy)

    def stop(self) -> None:
        self.kill_agent()
        self.kill_proxy()


def _kill(process: subprocess.Popen[bytes] | None) -> None:
    if process is not None and process.poll() is None:
        for pid in (*children_of(process.pid), process.pid):
            os.kill(pid, signal.SIGKILL)
        process.wait(timeout=5)


def start_proxy(run: Path, log: IO[bytes] | None = None) -> subprocess.Popen[bytes]:
    """The program of the proxy's container, with the HAProxy of its image."""
    folder = images.ensure_haproxy(Layout.from_environment()).parent
    environment = ENVIRONMENT | {"PATH": f"{folder}:{os.environ['PATH']}"}
    return subprocess.Popen(
        ["sh", str(PROXY), str(run)], start_new_session=True, env=environment, stdout=log, stderr=log
    )


def children_of(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def client_context(authority: KeyPair, leaf: KeyPair | None, folder: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=authority.certificate.decode())
    if leaf is not None:
        file = folder / "client.pem"
        file.write_bytes(leaf.key + leaf.certificate)
        context.load_cert_chain(file)
    return context


MakePod = Callable[..., Any]


@pytest.fixture
async def make_pod(tmp_path: Path) -> AsyncIterator[MakePod]:
    """Makes pods; `await make_pod("1.0.0")`."""
    async with pods_in(tmp_path) as make:
        yield make


@asynccontextmanager
async def pods_in(tmp_path: Path) -> AsyncIterator[MakePod]:
    """Pods with their files in a folder; they end with the context."""
    authority = new_authority(NOW)
    leaf = issue(authority, "operator.modelswap.internal", client=True, now=NOW)
    context = client_context(authority, leaf, tmp_path)
    connector = aiohttp.TCPConnector(ssl=context)
    operator = aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=10))
    pods: list[Pod] = []

    async def make(version: str, *, serve: bool = True, grpc: bool = False, **more: Any) -> Pod:
        folder = tmp_path / f"{version}-{len(pods)}"
        (folder / "run").mkdir(parents=True)
        settings: dict[str, Any] = {"config": str(folder / "agent.json"), "tls": str(folder / "tls")}
        settings |= {
            "run": str(folder / "run"),
            "fetch_progress": str(folder / "fetch.json"),
            "address": "127.0.0.1",
            "settle_seconds": 0.2,
        }
        ports = ("route_port", "direct_port", "handover_port", "ops_port", "control_port")
        settings |= {port: free_port() for port in ports}
        made = Pod(
            Model(version, free_port(), free_port() if grpc else None),
            folder,
            authority,
            settings,
            operator,
            **more,
        )
        made.configure()
        made.issue_certificate()
        if serve:
            await made.model.start()
        made.start()
        pods.append(made)
        return made

    try:
        yield make
    finally:
        for pod in pods:
            pod.stop()
            await pod.model.stop()
        await operator.close()
