"""What the model server itself tells of its memory."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from modelswap.api.v1alpha1.model_runtime import MemoryMetrics

from .answers import read_at_most

logger = logging.getLogger(__name__)

PERIOD = 15.0
TIMEOUT = aiohttp.ClientTimeout(total=2)
ANSWER_BYTES_MAX = 4 * 2**20
STEP = 0.05
"""A smaller change, as a share, is not told."""


@dataclass(frozen=True)
class MemoryReading:
    """In bytes; None where the model server does not tell."""

    memory: int | None = None
    gpu_memory: int | None = None


class MemoryReader:
    """Asks now and then."""

    def __init__(self, address: str, metrics: MemoryMetrics | None) -> None:
        self._metrics = metrics
        self._url = f"http://{address}:{metrics.port}{metrics.path}" if metrics else ""
        self._due = 0.0
        self.reading = MemoryReading()

    async def refresh(self, http: aiohttp.ClientSession) -> bool:
        """Ask again if it is time; whether there is something to tell."""
        if self._metrics is None or time.monotonic() < self._due:
            return False
        self._due = time.monotonic() + PERIOD
        try:
            async with http.get(self._url, timeout=TIMEOUT, allow_redirects=False) as response:
                response.raise_for_status()
                answer = await read_at_most(response, ANSWER_BYTES_MAX)
            reading = parse(answer[:ANSWER_BYTES_MAX].decode(errors="replace"), self._metrics)
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            logger.info("the model server does not tell its memory: %s", error)
            return False
        differs = _differs(reading.memory, self.reading.memory)
        if not differs and not _differs(reading.gpu_memory, self.reading.gpu_memory):
            return False
        self.reading = reading
        return True


def parse(text: str, metrics: MemoryMetrics) -> MemoryReading:
    """Read an answer in Prometheus' text format.

    Raises:
        ValueError: it is in no such format.

    """
    sums: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name in (metrics.memory, metrics.gpu_memory):
                sums[sample.name] = sums.get(sample.name, 0.0) + sample.value
    return MemoryReading(_bytes(sums.get(metrics.memory)), _bytes(sums.get(metrics.gpu_memory)))


def _bytes(value: float | None) -> int | None:
    return int(value) if value is not None and 0 <= value < 2**60 else None


def _differs(new: int | None, old: int | None) -> bool:
    if new is None or old is None:
        return new != old
    return abs(new - old) > STEP * old
