"""The operator's side of the agents, with real ones."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from modelswap.api.agent import TrafficRequest
from modelswap.engine.agents import Agent, AgentClient, AgentMonitor
from modelswap.errors import AgentError

from .conftest import SERVER_NAME, MakePod, Pod

UID = "uid-of-the-pod"


@dataclass(frozen=True)
class LoopbackAgent(Agent):
    """One whose control port is another than in a pod."""

    control: str = ""

    @property
    def url(self) -> str:
        """Of its control port."""
        return self.control


def agent_of(pod: Pod) -> LoopbackAgent:
    return LoopbackAgent(
        pod_uid=UID,
        ip="127.0.0.1",
        server_name=SERVER_NAME,
        namespace="ns",
        model="iris",
        model_version=f"iris-{pod.model.version}",
        control=pod.control,
    )


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(15):
        while not condition():
            await asyncio.sleep(0.02)


@pytest.mark.requirement("HS-1")
async def test_an_agent_that_does_not_do_as_told_is_out_of_touch_until_it_is_heard_again(make_pod: MakePod) -> None:
    pod = await make_pod("1.0.0")
    await pod.until_ready()
    heard: list[Agent] = []
    monitor = AgentMonitor(AgentClient(pod.authority, before_write=lambda: None), heard.append)
    monitor.follow(agent_of(pod))
    await until(lambda: monitor.report_of(UID) is not None)
    pod.kill_agent()
    heard.clear()
    with pytest.raises(AgentError):
        await monitor.direct(UID, TrafficRequest())
    assert monitor.report_of(UID) is None, "nobody waits for what it may do"
    assert heard, "its route is looked at again"
    pod.start()
    await until(lambda: monitor.report_of(UID) is not None)
    await monitor.direct(UID, TrafficRequest())
    await monitor.close()
