"""The agent and HAProxy of serving pods, under clients whose requests must not be lost."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import pytest
from modelswap.api.agent import IDENTITY_PATH, VERSION_HEADER, Hold, HoldOutcome, TrafficMode, TrafficRequest
from modelswap.certificates import issue, new_authority

from .conftest import MakePod, Pod, client_context

INFER = "/v2/models/iris/infer"
NO_RETRY = aiohttp.ClientTimeout(total=20)


@dataclass
class Clients:
    """Keep-alive clients that post one request after the other."""

    answers: list[tuple[float, float, str]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def start(self, url: str, *, count: int, seconds: float) -> None:
        self.tasks += [asyncio.create_task(self._run(url, seconds)) for _ in range(count)]

    async def _run(self, url: str, seconds: float) -> None:
        async with aiohttp.ClientSession(timeout=NO_RETRY) as http:
            while True:
                sent = time.monotonic()
                try:
                    async with http.post(f"{url}{INFER}?seconds={seconds}") as response:
                        version = (await response.json())["version"]
                        assert response.headers[VERSION_HEADER] == f"iris-{version}"
                except (aiohttp.ClientError, TimeoutError, KeyError) as error:
                    self.failures.append(repr(error))
                    continue
                self.answers.append((sent, time.monotonic(), version))

    async def stop(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def until(self, version: str, count: int) -> None:
        async with asyncio.timeout(20):
            while sum(a[2] == version for a in self.answers) < count:
                await asyncio.sleep(0.02)


async def until_answered(url: str, version: str) -> None:
    """By a proxy that may just be starting."""
    async with asyncio.timeout(15):
        while True:
            try:
                assert await post(url) == version
                return
            except aiohttp.ClientConnectionError:
                await asyncio.sleep(0.02)


def hold(hold_id: str, seconds: float) -> TrafficRequest:
    return TrafficRequest(hold=Hold(id=hold_id, seconds=seconds))


def hand_over(pod: Pod) -> TrafficRequest:
    return TrafficRequest(mode=TrafficMode.HAND_OVER, peers=(pod.handover,))


async def post(url: str, seconds: float = 0) -> str:
    async with aiohttp.ClientSession(timeout=NO_RETRY) as http, http.post(f"{url}{INFER}?seconds={seconds}") as answer:
        assert answer.status == 200, await answer.text()
        return str((await answer.json())["version"])


@pytest.mark.requirement("HS-10")
async def test_a_cut_over_under_load_is_strict_and_loses_nothing(make_pod: MakePod) -> None:
    old, new = await make_pod("1.0.0"), await make_pod("1.1.0")
    await asyncio.gather(old.until_ready(), new.until_ready())
    clients = Clients()
    clients.start(old.route, count=12, seconds=0.03)
    clients.start(old.route, count=2, seconds=0.4)
    await clients.until("1.0.0", 60)
    await old.direct(hold("swap", 5))
    drained = await old.until(lambda r: r.in_flight == 0)
    assert drained.hold is not None
    assert drained.hold.in_flight_at_start > 0
    await old.direct(hand_over(new))
    await clients.until("1.1.0", 200)
    await clients.stop()
    assert clients.failures == []
    last_old = max(arrived for _, arrived, version in clients.answers if version == "1.0.0")
    first_new = min(arrived for _, arrived, version in clients.answers if version == "1.1.0")
    assert last_old <= first_new
    report = await old.report()
    assert report.hold is not None
    assert report.hold.outcome is HoldOutcome.RELEASED
    assert report.hold.held_requests >= 12
    assert 0 < report.hold.longest_hold_seconds < 5


@pytest.mark.requirement("HS-5")
async def test_a_hold_releases_by_itself_and_is_not_revived(make_pod: MakePod) -> None:
    pod = await make_pod("1.0.0")
    await pod.until_ready()
    await pod.direct(hold("one", 0.5))
    began = time.monotonic()
    assert await post(pod.route) == "1.0.0"
    assert time.monotonic() - began > 0.3
    report = await pod.until(lambda r: r.hold is not None and r.hold.outcome is HoldOutcome.EXPIRED)
    assert report.in_flight == 0
    await pod.direct(hold("one", 30))
    assert await asyncio.wait_for(post(pod.route), 5) == "1.0.0"


@pytest.mark.requirement("HS-10")
async def test_a_hold_ends_even_when_the_control_program_is_dead(make_pod: MakePod) -> None:
    pod = await make_pod("1.0.0")
    await pod.until_ready()
    await pod.direct(hold("one", 1))
    pod.kill_agent()
    assert await asyncio.wait_for(post(pod.route), 5) == "1.0.0"


async def test_asking_for_the_same_hold_again_does_not_extend_it(make_pod: MakePod) -> None:
    pod = await make_pod("1.0.0")
    await pod.until_ready()
    await pod.direct(hold("one", 0.6))
    request = asyncio.create_task(post(pod.route))
    for _ in range(3):
        await pod.direct(hold("one", 60))
    assert await asyncio.wait_for(request, 5) == "1.0.0"


@pytest.mark.parametrize("parts", [("agent",), ("proxy",), ("agent", "proxy")])
async def test_what_is_killed_comes_back_as_it_was(make_pod: MakePod, parts: tuple[str, ...]) -> None:
    old, new = await make_pod("1.0.0"), await make_pod("1.1.0")
    await asyncio.gather(old.until_ready(), new.until_ready())
    await post(old.route)
    await old.direct(hand_over(new))
    assert await post(old.route) == "1.1.0"
    before = await old.report()
    for part in parts:
        old.kill_agent() if part == "agent" else old.kill_proxy()
    old.start()
    report = await old.until_ready()
    assert report.mode is TrafficMode.HAND_OVER
    assert report.peers == (new.handover,)
    assert report.request_count == before.request_count
    await until_answered(old.route, "1.1.0")
    await old.direct(TrafficRequest())
    assert await post(old.route) == "1.0.0"
    assert (await old.report()).request_count == before.request_count + 1


async def test_requests_go_on_while_the_agent_is_away(make_pod: MakePod) -> None:
    pod = await make_pod("1.0.0")
    await pod.until_ready()
    clients = Clients()
    clients.start(pod.route, count=8, seconds=0.01)
    await clients.until("1.0.0", 50)
    for _ in range(3):
        pod.kill_agent()
        await clients.until("1.0.0", 50)
        pod.start()
        await pod.until_ready()
    await clients.stop()
    assert clients.failures == []
    counted = (await pod.report()).request_count
    assert len(clients.answers) <= counted <= len(clients.answers) + 8, "those that were broken off at the end"


async def test_a_model_server_is_not_stopped_because_the_agent_is_away(make_pod: MakePod) -> None:
    pod = await make_pod("1.0.0")
    await pod.until_ready()
    pod.kill_agent()
    async with aiohttp.ClientSession() as http:

        async def status(path: str) -> int:
            async with http.get(f"{pod.ops}{path}") as answer:
                return answer.status

        async with asyncio.timeout(10):
            while await status("/live") == 200:
                await asyncio.sleep(0.02)
        assert [await status(path) for path in ("/proxy", "/model/live", "/ready", "/model")] == [200, 200, 503, 503]


async def test_a_hold_outlives_the_proxy_and_ends_by_its_time(make_pod: MakePod) -> None:
    pod = await make_pod("1.0.0")
    await pod.until_ready()
    await pod.direct(hold("one", 4))
    pod.kill_proxy()
    pod.start()
    began = time.monotonic()
    await until_answered(pod.route, "1.0.0")
    assert 2 < time.monotonic() - began < 6


async def test_handing_over_and_taking_back_again_and_again_loses_nothing(make_pod: MakePod) -> None:
    old, new = await make_pod("1.0.0"), await make_pod("1.1.0")
    await asyncio.gather(old.until_ready(), new.until_ready())
    clients = Clients()
    clients.start(old.route, count=16, seconds=0)
    await clients.until("1.0.0", 50)
    for _ in range(60):
        await old.direct(hand_over(new))
        await old.direct(TrafficRequest())
    await clients.stop()
    assert clients.failures == []
    assert {version for _, _, version in clients.answers} == {"1.0.0", "1.1.0"}


async def test_the_direct_port_is_neither_held_nor_handed_over(make_pod: MakePod) -> None:
    old, new = await make_pod("1.0.0"), await make_pod("1.1.0")
    await asyncio.gather(old.until_ready(), new.until_ready())
    await old.direct(TrafficRequest(mode=TrafficMode.HAND_OVER, peers=(new.handover,), hold=Hold(id="a", seconds=30)))
    assert await post(old.direct_url) == "1.0.0"
    await old.direct(hand_over(new))
    async with aiohttp.ClientSession() as http, http.get(f"{old.route}{IDENTITY_PATH}") as answer:
        assert (await answer.json())["modelVersion"] == "iris-1.1.0"
    async with aiohttp.ClientSession() as http, http.get(f"{old.direct_url}{IDENTITY_PATH}") as answer:
        assert (await answer.json())["modelVersion"] == "iris-1.0.0"


async def test_two_agents_never_hand_a_request_back_and_forth(make_pod: MakePod) -> None:
    one, two = await make_pod("1.0.0"), await make_pod("1.1.0")
    await asyncio.gather(one.until_ready(), two.until_ready())
    await one.direct(hand_over(two))
    await two.direct(hand_over(one))
    assert await post(one.route) == "1.1.0"
    assert await post(two.route) == "1.0.0"


async def test_only_the_operator_may_control_an_agent(make_pod: MakePod, tmp_path: Path) -> None:
    pod = await make_pod("1.0.0")
    await pod.until_ready()
    now = datetime.now(UTC)
    other = issue(pod.authority, "someone.else", client=True, now=now)
    stranger = issue(new_authority(now), "operator.modelswap.internal", client=True, now=now)
    for leaf, refusal in ((None, aiohttp.ClientError), (stranger, aiohttp.ClientError), (other, None)):
        context = client_context(pod.authority, leaf, tmp_path)
        context.check_hostname = False
        async with aiohttp.ClientSession() as http:
            if refusal is not None:
                with pytest.raises(refusal):
                    await http.get(f"{pod.control}/report", ssl=context)
                continue
            async with http.get(f"{pod.control}/report", ssl=context) as answer:
                assert answer.status == 403
                assert "operator.modelswap.internal" in (await answer.json())["detail"]


@pytest.mark.requirement("VM-4")
async def test_a_pod_is_ready_only_when_warmed_up(make_pod: MakePod) -> None:
    warm_up = {"requests": [{"path": f"{INFER}?seconds=0.05", "body": {}, "repeat": 10}]}
    pod = await make_pod("1.0.0", warm_up=warm_up)
    warming = await pod.until(lambda r: r.loaded)
    assert warming.warm_up_total == 10
    ready = await pod.until_ready()
    assert ready.warm_up_done == 10
    assert pod.model.served >= 10


@pytest.mark.requirement("MM-5")
async def test_a_bad_sample_makes_a_pod_unready_until_it_is_good_again(make_pod: MakePod) -> None:
    schema = {"properties": {"version": {"const": "1.0.0"}}}
    sample = {"request": {"path": INFER, "body": {}}, "expect": {"jsonSchema": schema}, "periodSeconds": 1}
    pod = await make_pod("1.0.0", sample=sample)
    await pod.until_ready()
    pod.model.version = "broken"
    sick = await pod.until(lambda r: r.healthy is False)
    assert "does not fit spec.sample.expect.jsonSchema" in sick.message
    async with aiohttp.ClientSession() as http, http.get(f"{pod.ops}/ready") as answer:
        assert answer.status == 503
        assert "sample inference" in await answer.text()
    pod.model.version = "1.0.0"
    await pod.until_ready()


async def test_a_pod_that_ends_lets_its_requests_end(make_pod: MakePod) -> None:
    pod = await make_pod("1.0.0")
    await pod.until_ready()
    slow = asyncio.create_task(post(pod.route, seconds=5))
    await pod.until(lambda _: pod.model.served > 0)
    draining = pod.drain()
    report = await pod.until(lambda r: r.terminating)
    assert report.in_flight == 1
    assert await slow == "1.0.0"
    assert await asyncio.to_thread(draining.wait, 15) == 0
    for process in (pod.process, pod.proxy):
        assert process is not None
        process.terminate()
        assert await asyncio.to_thread(process.wait, 10) == 0


async def test_a_proxy_that_is_told_to_end_lets_requests_end(make_pod: MakePod) -> None:
    pod = await make_pod("1.0.0")
    await pod.until_ready()
    slow = asyncio.create_task(post(pod.route, seconds=2))
    await pod.until(lambda _: pod.model.served > 0)
    assert pod.proxy is not None
    pod.proxy.terminate()
    assert await slow == "1.0.0"
    assert await asyncio.to_thread(pod.proxy.wait, 10) == 0


async def test_requests_are_counted_and_survive_a_restart(make_pod: MakePod) -> None:
    pod = await make_pod("1.0.0")
    await pod.until_ready()
    for _ in range(5):
        await post(pod.route)
    assert (await pod.report()).request_count == 5
    assert pod.process is not None
    pod.process.terminate()
    await asyncio.to_thread(pod.process.wait, 10)
    pod.start()
    await pod.until_ready()
    await post(pod.direct_url)
    assert (await pod.report()).request_count == 6
