"""Watches the model: loaded, warmed up, answering well."""

from __future__ import annotations

import asyncio
import logging
import time
from datetime import UTC, datetime

import aiohttp

from modelswap.api.agent import AgentConfig, FetchProgress
from modelswap.api.v1alpha1.inference import Expectation, InferenceRequest
from modelswap.runtimes.protocols import ADAPTERS

from .answers import read_at_most
from .checks import problem_of
from .fetching import FetchFollower
from .memory import MemoryReader, MemoryReading
from .settings import AgentSettings
from .signals import Revision

logger = logging.getLogger(__name__)

LOADING_PERIOD = 0.1
WATCH_PERIOD = 1.0
TOUCH_PERIOD = 0.25
"""Seconds between looks at whether the model server's port is open. A container that is restarted has it closed for
longer, so that none is restarted unseen and gets requests before it is warm."""
READY_TIMEOUT = aiohttp.ClientTimeout(total=2)
FAILURES_UNTIL_LOST = 3
"""Readiness answers that fail in a row before a loaded model counts as gone; a refused connection counts at once."""
RECOVERY_PERIOD = 5.0
"""Seconds between sample inferences of a model that is not healthy, if its own period is longer."""
MAX_ANSWER_BYTES = 16 * 2**20
"""Of a warm-up or sample inference: the agent's memory is not the model's."""
STUCK_SECONDS = 15.0
"""A model that does not answer for so long has its server restarted."""
STUCK_SAMPLES = 3
"""And one that was healthy, when so many sample inferences in a row have failed."""


class ModelWatcher:
    """One model behind one model server."""

    def __init__(self, settings: AgentSettings, config: AgentConfig, revision: Revision) -> None:
        self._settings = settings
        self._revision = revision
        self._config = config
        self._base = f"http://{settings.model_address}:{config.model_server_port}"
        self._fetch = FetchFollower(settings.fetch_progress)
        self._memory = MemoryReader(settings.model_address, config.memory_metrics)
        self._began = time.monotonic()
        self._failed_samples = 0
        self._was_healthy = False
        self._sample_due = 0.0
        self._modified = 0.0
        self.loaded_at: datetime | None = None
        self.load_seconds: float | None = None
        self.warmed_up = False
        self.warm_up_done = 0
        self.healthy: bool | None = None
        self.last_health_check: datetime | None = None
        self.message = ""

    @property
    def loaded(self) -> bool:
        """Whether the model answers that it is ready."""
        return self.loaded_at is not None

    @property
    def ready(self) -> bool:
        """Whether it may get requests."""
        return self.loaded and self.warmed_up and self.healthy is True

    @property
    def stuck(self) -> bool:
        """Whether only a restart of the model server may help.

        A model that has never been healthy is not restarted for its answers: it would answer the same again.
        """
        if not self.loaded:
            return time.monotonic() - self._began > STUCK_SECONDS
        return self._was_healthy and self._failed_samples >= STUCK_SAMPLES

    @property
    def fetch(self) -> FetchProgress | None:
        """How far the artifact is; None before the fetch step has told."""
        return self._fetch.progress

    @property
    def memory(self) -> MemoryReading:
        """What the model server tells of its memory."""
        return self._memory.reading

    @property
    def warm_up_total(self) -> int:
        """Requests of the warm-up."""
        warm_up = self._config.warm_up
        return sum(request.repeat for request in warm_up.requests) if warm_up else 0

    async def watch(self) -> None:
        """Watch for ever."""
        connector = aiohttp.TCPConnector(force_close=True)
        async with aiohttp.ClientSession(connector=connector, trust_env=False) as http:
            while True:
                await self._until_loaded(http)
                if await self._warm_up(http):
                    await self._while_loaded(http)
                self._lost()

    async def _until_loaded(self, http: aiohttp.ClientSession) -> None:
        while await self._ready_problem(http) is not None:
            self._follow_fetch()
            await asyncio.sleep(LOADING_PERIOD)
        self._follow_fetch()
        self.loaded_at = datetime.now(UTC)
        self.load_seconds = round(time.monotonic() - self._began, 3)
        self._say("")

    def _follow_fetch(self) -> None:
        finished = self._fetch.finished
        if self._fetch.look():
            self._revision.bump()
        if self._fetch.finished and not finished:
            self._began = time.monotonic()

    async def _warm_up(self, http: aiohttp.ClientSession) -> bool:
        """Whether it came to an end before the model server did."""
        warm_up = self._config.warm_up
        while warm_up is not None:
            self.warm_up_done = 0
            try:
                async with asyncio.timeout(warm_up.timeout_seconds):
                    problem = await self._send_warm_up(http)
            except TimeoutError:
                problem = f"not done within {warm_up.timeout_seconds} s"
            if not problem:
                break
            self._say(f"warm-up: {problem}")
            if not await self._stays_open():
                return False
            self._reload()
            warm_up = self._config.warm_up
        self.warmed_up = True
        self._sample_due = 0.0
        self._say("")
        return True

    async def _send_warm_up(self, http: aiohttp.ClientSession) -> str:
        assert self._config.warm_up is not None
        for request in self._config.warm_up.requests:
            for _ in range(request.repeat):
                problem = await self._answer_problem(http, request, Expectation(), seconds=None)
                if problem:
                    return f"{request.method} {request.path} {problem}"
                self.warm_up_done += 1
        return ""

    async def _while_loaded(self, http: aiohttp.ClientSession) -> None:
        failures = 0
        while failures < FAILURES_UNTIL_LOST:
            if time.monotonic() >= self._sample_due:
                await self._sample(http)
            if await self._memory.refresh(http):
                self._revision.bump()
            if not await self._stays_open():
                return
            self._reload()
            problem = await self._ready_problem(http)
            if problem == "refused":
                return
            failures = failures + 1 if problem else 0

    async def _stays_open(self) -> bool:
        """Wait until the next look; False as soon as nobody listens on the model server's port."""
        for _ in range(round(WATCH_PERIOD / TOUCH_PERIOD)):
            await asyncio.sleep(TOUCH_PERIOD)
            try:
                async with asyncio.timeout(TOUCH_PERIOD):
                    _, writer = await asyncio.open_connection(
                        self._settings.model_address, self._config.model_server_port
                    )
            except ConnectionRefusedError:
                return False
            except (OSError, TimeoutError):
                continue  # a full backlog is no closed port
            writer.close()
        return True

    async def _sample(self, http: aiohttp.ClientSession) -> None:
        sample = self._config.sample
        if sample is None:
            problem, period = "", WATCH_PERIOD
        else:
            problem = await self._answer_problem(http, sample.request, sample.expect, seconds=sample.timeout_seconds)
            period = min(sample.period_seconds, RECOVERY_PERIOD) if problem else sample.period_seconds
            self.last_health_check = datetime.now(UTC)
        self._sample_due = time.monotonic() + period
        healthy = not problem
        self._failed_samples = 0 if healthy else self._failed_samples + 1
        self._was_healthy = self._was_healthy or healthy
        if healthy != self.healthy:
            logger.info("sample inference: %s", problem or "good")
        changed = healthy != self.healthy
        self.healthy = healthy
        self._say(f"sample inference {problem}" if problem else "", changed=changed)

    async def _ready_problem(self, http: aiohttp.ClientSession) -> str | None:
        path = ADAPTERS[self._config.protocol].ready_path(self._config.model)
        try:
            async with http.get(f"{self._base}{path}", timeout=READY_TIMEOUT, allow_redirects=False) as response:
                return None if response.status == 200 else f"status {response.status}"
        except aiohttp.ClientConnectorError:
            return "refused"
        except (aiohttp.ClientError, TimeoutError) as error:
            return type(error).__name__

    async def _answer_problem(
        self, http: aiohttp.ClientSession, request: InferenceRequest, expect: Expectation, *, seconds: float | None
    ) -> str:
        timeout = aiohttp.ClientTimeout(total=seconds)
        # Not joined to the address: a path that begins with two slashes would lead to another one.
        url = f"{self._base}{request.path}"
        try:
            async with http.request(
                request.method, url, json=request.body, headers=request.headers, timeout=timeout, allow_redirects=False
            ) as response:
                answer = await read_at_most(response, MAX_ANSWER_BYTES)
        except TimeoutError:
            return f"was not answered within {seconds} s"
        except (aiohttp.ClientError, ValueError) as error:
            return f"failed: {type(error).__name__}: {error}"
        if len(answer) > MAX_ANSWER_BYTES:
            return f"was answered with more than {MAX_ANSWER_BYTES // 2**20} MiB"
        return problem_of(expect, response.status, answer)

    def _reload(self) -> None:
        """Take up a changed configuration; the model, its version and its server stay what they are."""
        try:
            modified = self._settings.config.stat().st_mtime
            if modified == self._modified:
                return
            self._modified = modified
            config = AgentConfig.model_validate_json(self._settings.config.read_bytes())
        except (OSError, ValueError) as error:
            logger.error("the configuration cannot be read, the old one stays: %s", error)
            return
        if config != self._config:
            logger.info("the configuration has changed")
            if config.memory_metrics != self._config.memory_metrics:
                self._memory = MemoryReader(self._settings.model_address, config.memory_metrics)
            self._config = config
            self._sample_due = 0.0

    def _lost(self) -> None:
        logger.warning("the model does not answer any more")
        self.loaded_at, self.load_seconds = None, None
        self.warmed_up, self.warm_up_done, self.healthy = False, 0, None
        self._failed_samples, self._was_healthy = 0, False
        self._began = time.monotonic()
        self._say("the model server does not answer", changed=True)

    def _say(self, message: str, *, changed: bool = True) -> None:
        if changed or message != self.message:
            self.message = message
            self._revision.bump()
