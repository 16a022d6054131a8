"""The operator's side of the agents: one long poll each, and the calls that direct their traffic."""

from __future__ import annotations

import asyncio
import logging
import ssl
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
from pydantic import ValidationError

from modelswap import metrics
from modelswap.api.agent import CONTROL_PORT, AgentReport, TrafficRequest
from modelswap.certificates import KeyPair, Leaf, issue
from modelswap.errors import AgentError
from modelswap.manifests.names import OPERATOR_CLIENT_NAME

logger = logging.getLogger(__name__)

CALL_TIMEOUT = aiohttp.ClientTimeout(total=2, connect=1)
POLL_SECONDS = 25
POLL_TIMEOUT = aiohttp.ClientTimeout(total=POLL_SECONDS + 5, connect=2)
RETRY_SECONDS = 0.25
RETRY_SECONDS_MAX = 5.0
REFUSED_SECONDS = 1.0
"""Before an agent that did not do as told is asked again."""
LOST_AFTER = 2
"""Polls that fail in a row before an agent counts as out of reach."""


@dataclass(frozen=True)
class Agent:
    """Where an agent is."""

    pod_uid: str
    ip: str
    server_name: str
    namespace: str
    model: str
    model_version: str

    @property
    def url(self) -> str:
        """Of its control port."""
        host = f"[{self.ip}]" if ":" in self.ip else self.ip
        return f"https://{host}:{CONTROL_PORT}/v1"


class AgentClient:
    """Calls to agents, behind mutual TLS. The operator's own certificate is made anew in time."""

    def __init__(self, authority: KeyPair, *, before_write: Callable[[], None]) -> None:
        self._authority = authority
        self._before_write = before_write
        """Raises when nothing may be written any more."""
        self._leaf: Leaf | None = None
        self._context: ssl.SSLContext | None = None
        self._session: aiohttp.ClientSession | None = None

    async def report(self, agent: Agent, *, after: str | None) -> AgentReport:
        """The agent's report; with `after`, as soon as it is another one.

        Raises:
            AgentError: no answer in time, or not one of this agent's.

        """
        params = {"after": after, "waitSeconds": str(POLL_SECONDS)} if after else {}
        return await self._call("report", agent, "GET", f"{agent.url}/report", params=params, timeout=POLL_TIMEOUT)

    async def direct(self, agent: Agent, request: TrafficRequest) -> AgentReport:
        """Tell the agent where its requests go.

        Raises:
            AgentError: no answer in time, or a refusal.
            LeadLostError: another replica may lead by now.

        """
        self._before_write()
        body = request.model_dump(by_alias=True, mode="json", exclude_none=True)
        return await self._call("traffic", agent, "PUT", f"{agent.url}/traffic", json=body, timeout=CALL_TIMEOUT)

    async def close(self) -> None:
        """End all connections."""
        if self._session:
            await self._session.close()

    async def _call(self, call: str, agent: Agent, method: str, url: str, **options: object) -> AgentReport:
        try:
            async with self._pool().request(
                method,
                url,
                ssl=self._tls(),
                server_hostname=agent.server_name,
                **options,  # type: ignore[arg-type]
            ) as response:
                text = await response.text()
                if response.status != 200:
                    raise AgentError(f"{agent.model_version} at {agent.ip} answered {response.status}: {text[:200]}")
                report = AgentReport.model_validate_json(text)
        except (aiohttp.ClientError, TimeoutError, OSError, ValidationError) as error:
            metrics.AGENT_CALLS.labels(call, "error").inc()
            raise AgentError(f"{agent.model_version} at {agent.ip}: {type(error).__name__}: {error}") from error
        if report.model_version != agent.model_version:
            raise AgentError(f"{agent.ip} answers for {report.model_version}, not for {agent.model_version}")
        metrics.AGENT_CALLS.labels(call, "ok").inc()
        return report

    def _pool(self) -> aiohttp.ClientSession:
        if self._session is None:
            # Every agent has a poll under way all the time, so the number of agents is the bound.
            self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=60))
        return self._session

    def _tls(self) -> ssl.SSLContext:
        now = datetime.now(UTC)
        if self._context is None or self._leaf is None or now >= self._leaf.renew_after:
            self._leaf = issue(self._authority, OPERATOR_CLIENT_NAME, client=True, now=now)
            self._context = ssl.create_default_context(cadata=self._authority.certificate.decode())
            # Python's ssl reads a key from a file only.
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "client.pem"
                path.touch(mode=0o600)
                path.write_bytes(self._leaf.key + self._leaf.certificate)
                self._context.load_cert_chain(path)
        return self._context


class AgentMonitor:
    """Keeps the newest report of every agent, and says when there is another."""

    def __init__(self, client: AgentClient, changed: Callable[[Agent], None]) -> None:
        self._client = client
        self._changed = changed
        self._agents: dict[str, Agent] = {}
        self._reports: dict[str, AgentReport] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def report_of(self, pod_uid: str) -> AgentReport | None:
        """The newest report, or None when the agent does not answer."""
        return self._reports.get(pod_uid)

    def follow(self, agent: Agent, *, after: float = 0.0) -> None:
        """Be in touch with an agent from now on, or in so many seconds."""
        if self._agents.get(agent.pod_uid) == agent:
            return
        self.drop(agent.pod_uid)
        self._agents[agent.pod_uid] = agent
        self._tasks[agent.pod_uid] = asyncio.create_task(self._poll(agent, after), name=f"agent {agent.ip}")

    def drop(self, pod_uid: str) -> None:
        """Forget an agent whose pod has gone."""
        if task := self._tasks.pop(pod_uid, None):
            task.cancel()
        self._agents.pop(pod_uid, None)
        self._reports.pop(pod_uid, None)
        metrics.AGENTS.set(len(self._reports))

    async def direct(self, pod_uid: str, request: TrafficRequest) -> None:
        """Tell an agent where its requests go.

        Raises:
            AgentError: it is out of reach, or refuses.

        """
        agent = self._agents.get(pod_uid)
        if agent is None:
            raise AgentError(f"the agent of pod {pod_uid} is not known")
        try:
            report = await self._client.direct(agent, request)
        except AgentError:
            # What it said last holds no more; a poll that begins anew hears of it soon, if it is well.
            self.drop(pod_uid)
            self.follow(agent, after=REFUSED_SECONDS)
            self._changed(agent)
            raise
        self._note(agent, report)

    async def close(self) -> None:
        """Stop all polls."""
        tasks = list(self._tasks.values())
        for uid in list(self._tasks):
            self.drop(uid)
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._client.close()

    async def _poll(self, agent: Agent, begin_after: float) -> None:
        await asyncio.sleep(begin_after)
        after: str | None = None
        failures = 0
        while True:
            try:
                report = await self._client.report(agent, after=after)
            except AgentError as error:
                after = None
                failures += 1
                if failures == LOST_AFTER and agent.pod_uid in self._reports:
                    del self._reports[agent.pod_uid]
                    logger.warning("agent lost: %s", error)
                    self._changed(agent)
                await asyncio.sleep(min(RETRY_SECONDS * 2 ** min(failures, 6), RETRY_SECONDS_MAX))
                continue
            failures, after = 0, report.revision
            self._note(agent, report)

    def _note(self, agent: Agent, report: AgentReport) -> None:
        if agent.pod_uid not in self._agents:
            return
        self._reports[agent.pod_uid] = report
        metrics.AGENTS.set(len(self._reports))
        self._changed(agent)
