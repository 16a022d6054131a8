"""What `helm test` finds out."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from localcluster.apiserver import free_port
from modelswap import check as checks


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "PATIENCE_SECONDS", 1.0)


@pytest.fixture
async def operator() -> AsyncIterator[dict[str, str | int]]:
    """An operator's address, and what it answers."""
    port = free_port()
    answers: dict[str, str | int] = {"url": f"http://127.0.0.1:{port}", "live": 200, "leader": "1.0"}

    async def live(_: web.Request) -> web.Response:
        return web.Response(status=int(answers["live"]), text="an object has waited 200 s")

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(text=f"# TYPE modelswap_leader gauge\nmodelswap_leader {answers['leader']}\n")

    app = web.Application()
    app.router.add_get("/livez", live)
    app.router.add_get("/metrics", metrics)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    yield answers
    await runner.cleanup()


async def test_an_operator_that_leads_is_well(operator: dict[str, str | int]) -> None:
    assert await checks.check(str(operator["url"])) == 0


@pytest.mark.parametrize(
    ("key", "value", "told"), [("leader", "0.0", "does not lead"), ("live", 503, "an object has waited 200 s")]
)
async def test_one_that_does_not_lead_or_is_stuck_is_not(
    operator: dict[str, str | int], key: str, value: str | int, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    operator[key] = value
    assert await checks.check(str(operator["url"])) == 1
    assert told in capsys.readouterr().out


async def test_and_nobody_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    assert await checks.check(f"http://127.0.0.1:{free_port()}") == 1
    assert "does not answer" in capsys.readouterr().out
