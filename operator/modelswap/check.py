"""Whether an installed operator works, seen from another pod: what `helm test` runs."""

from __future__ import annotations

import asyncio

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

PATIENCE_SECONDS = 60.0
"""For a lead that has just been lost to be taken."""
TIMEOUT = aiohttp.ClientTimeout(total=3)
TICK_SECONDS = 0.5


async def check(url: str) -> int:
    """Look for an operator that leads, behind the address of its metrics; the exit code."""
    problem = "nobody was asked"
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while problem := await _problem(url):
                await asyncio.sleep(TICK_SECONDS)
    except TimeoutError:
        print(f"after {PATIENCE_SECONDS:.0f} s: {problem}")
        return 1
    print(f"an operator leads behind {url}, and is well")
    return 0


async def _problem(url: str) -> str:
    """What is wrong with the operator that answers, or nothing: each connection may reach another one."""
    try:
        async with aiohttp.ClientSession(timeout=TIMEOUT) as http:
            async with http.get(f"{url}/livez") as response:
                if response.status != 200:
                    return f"the operator is not well: {await response.text()}"
            async with http.get(f"{url}/metrics") as response:
                return "" if _leads(await response.text()) else "the operator that answered does not lead"
    except (aiohttp.ClientError, TimeoutError) as error:
        return f"{url} does not answer: {error!r}"


def _leads(metrics: str) -> bool:
    families = text_string_to_metric_families(metrics)
    return any(s.name == "modelswap_leader" and s.value == 1 for family in families for s in family.samples)
