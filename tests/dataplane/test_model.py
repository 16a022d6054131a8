"""The agent and its model: fetch, load, warm-up, sample inference, memory, and a model server that hangs."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime

import aiohttp
import pytest
from modelswap.api.agent import FetchProgress

from .conftest import MakePod, Pod


async def status_of(url: str) -> int:
    async with aiohttp.ClientSession() as http, http.get(url) as response:
        return response.status


async def until_status(url: str, wanted: int, seconds: float) -> float:
    """Seconds until an address answers so."""
    began = time.monotonic()
    while await status_of(url) != wanted:
        assert time.monotonic() < began + seconds, f"{url} did not answer {wanted} within {seconds} s"
        await asyncio.sleep(0.2)
    return time.monotonic() - began


def tell_progress(pod: Pod, progress: FetchProgress) -> None:
    file = pod.fetch_progress
    part = file.with_suffix(".part")
    part.write_text(progress.model_dump_json(by_alias=True))
    part.rename(file)


@pytest.mark.requirement("VM-1")
async def test_the_fetch_is_followed_and_takes_no_part_in_the_load_time(make_pod: MakePod) -> None:
    pod = await make_pod("1.0.0", serve=False)
    began = datetime.now(UTC)
    tell_progress(pod, FetchProgress(bytes=5, total_bytes=10, started_at=began))
    report = await pod.until(lambda r: r.fetch is not None)
    assert report.fetch is not None
    assert (report.fetch.bytes, report.fetch.total_bytes) == (5, 10)
    assert not report.loaded
    await asyncio.sleep(2)  # the time that the fetch takes
    tell_progress(pod, FetchProgress(bytes=10, total_bytes=10, started_at=began, finished_at=datetime.now(UTC)))
    await pod.until(lambda r: r.fetch is not None and r.fetch.finished_at is not None)
    await pod.model.start()
    report = await pod.until(lambda r: r.loaded)
    assert report.load_seconds is not None
    assert report.load_seconds < 2


@pytest.mark.requirement("VM-4")
async def test_a_model_server_that_is_restarted_is_warmed_up_again_before_it_takes_traffic(make_pod: MakePod) -> None:
    warm_up = {"requests": [{"path": "/v2/models/iris/infer", "body": {}, "repeat": 5}]}
    pod = await make_pod("1.0.0", warm_up=warm_up)
    await pod.until(lambda r: r.warmed_up and r.healthy is True)
    assert pod.model.served == 5
    await pod.model.stop()
    await pod.until(lambda r: not r.loaded)
    assert await status_of(f"{pod.ops}/ready") == 503
    await pod.model.start()
    await pod.until(lambda r: r.warmed_up and r.healthy is True)
    assert pod.model.served == 10


@pytest.mark.requirement("MM-5")
async def test_a_model_server_that_hangs_leaves_the_endpoints_and_is_to_be_restarted(make_pod: MakePod) -> None:
    pod = await make_pod("1.0.0")
    await pod.until(lambda r: r.healthy is True)
    assert await status_of(f"{pod.ops}/model/live") == 200
    pod.model.hangs = True
    await pod.until(lambda r: not r.loaded)
    assert await status_of(f"{pod.ops}/ready") == 503
    await until_status(f"{pod.ops}/model/live", 503, seconds=30)
    pod.model.hangs = False
    await until_status(f"{pod.ops}/model/live", 200, seconds=15)
    await until_status(f"{pod.ops}/ready", 200, seconds=15)


@pytest.mark.requirement("MM-5")
async def test_a_healthy_model_that_answers_badly_is_to_be_restarted_and_one_that_never_did_well_is_not(
    make_pod: MakePod,
) -> None:
    sample = {"request": {"path": "/v2/models/iris/infer", "body": {}}, "periodSeconds": 1}
    was_good = await make_pod("1.0.0", sample=sample)
    never_good = await make_pod("1.1.0", sample=sample, serve=False)
    never_good.model.infer_status = 500
    await never_good.model.start()
    await was_good.until(lambda r: r.healthy is True)
    await never_good.until(lambda r: r.healthy is False)
    was_good.model.infer_status = 500
    await until_status(f"{was_good.ops}/model/live", 503, seconds=15)
    assert await status_of(f"{never_good.ops}/model/live") == 200
    report = await never_good.report()
    assert "answered 500 instead of 200" in report.message


@pytest.mark.requirement("VM-6")
async def test_memory_is_read_from_the_model_server(make_pod: MakePod) -> None:
    pod = await make_pod("1.0.0", memory_metrics=True)
    report = await pod.until(lambda r: r.memory_bytes is not None)
    assert report.memory_bytes == 123_000_000
    assert report.gpu_memory_bytes == 3_000_000


@pytest.mark.requirement("VM-4")
@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({"path": "//169.254.169.254/latest/meta-data"}, "answered 404"),
        ({"path": "/@127.0.0.1:1/x", "method": "GET"}, "answered 404"),
        ({"path": "/v2/models/iris/infer", "headers": {"a b": "x"}}, "answered 400"),
        ({"path": "/v2/models/iris/infer", "headers": {"X-A": "x\r\nHost: y"}}, "failed: "),
        ({"path": "/v2/models/iris/large", "method": "GET"}, "more than 16 MiB"),
    ],
)
async def test_a_request_that_cannot_be_sent_is_told_and_goes_to_the_model_alone(
    request_: dict[str, object], words: str, make_pod: MakePod
) -> None:
    pod = await make_pod("1.0.0", warm_up={"requests": [request_]})
    report = await pod.until(lambda r: words in r.message)
    assert report.message.startswith("warm-up: ")
    assert not report.warmed_up
    # And it is right again once the spec is.
    pod.warm_up = {"requests": [{"path": "/v2/models/iris/infer", "body": {}}]}
    pod.configure()
    await pod.until(lambda r: r.warmed_up and r.healthy is True)


@pytest.mark.requirement("VM-4")
async def test_a_model_server_that_ends_over_its_warm_up_is_not_loaded(make_pod: MakePod) -> None:
    pod = await make_pod("1.0.0", warm_up={"requests": [{"path": "/nowhere", "body": {}}]})
    await pod.until(lambda r: r.loaded and "warm-up" in r.message)
    await pod.model.stop()
    await pod.until(lambda r: not r.loaded)
