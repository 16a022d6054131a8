"""The demo's way with kubectl, by a program of that name that prints what it is told."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from demo.kubectl import DemoError, kubectl, run, wait_until
from demo.watch import RouteWatch

Tell = Callable[..., None]


@pytest.fixture
def tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Tell]:
    """Lets the watch print a status of the route."""
    pipe, program = tmp_path / "pipe", tmp_path / "kubectl"
    os.mkfifo(pipe)
    program.write_text(f"#!/bin/sh\nexec cat {pipe}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    # For reading too, so that it opens at once.
    with open(os.open(pipe, os.O_RDWR), "w") as writer:

        def say(**swap: Any) -> None:
            print(json.dumps({"kind": "ModelRoute", "status": {"swap": swap}}, indent=4), file=writer, flush=True)

        yield say


def ended(number: int, to: str, state: str = "Completed") -> dict[str, Any]:
    return {"id": f"s{number}", "to": to, "state": state, "endTime": "2026-01-01T00:00:00Z", "message": "because"}


def test_a_swap_takes_until_its_end_is_seen(tell: Tell) -> None:
    def act() -> None:
        tell(id="s2", to="1.1.0", state="Draining")
        threading.Timer(0.3, lambda: tell(**ended(2, "1.1.0"))).start()

    tell(**ended(1, "1.0.0"))
    with RouteWatch("iris") as watch:
        seconds, swap = watch.swap_to("1.1.0", act, seconds=10)
    assert 0.3 <= seconds < 5
    assert swap["id"] == "s2"


@pytest.mark.parametrize(("to", "state"), [("1.1.0", "Failed"), ("1.0.0", "Completed")])
def test_a_swap_that_ends_otherwise_ends_the_demo(to: str, state: str, tell: Tell) -> None:
    tell(**ended(1, "1.0.0"))
    with RouteWatch("iris") as watch, pytest.raises(DemoError, match=r"ended as .*because"):
        watch.swap_to("1.1.0", lambda: tell(**ended(2, to, state)), seconds=10)


def test_a_swap_that_does_not_end_ends_the_demo(tell: Tell) -> None:
    tell(**ended(1, "1.0.0"))
    with RouteWatch("iris") as watch, pytest.raises(DemoError, match="did not end within 0 s"):
        watch.swap_to("1.1.0", lambda: None, seconds=0.2)


def test_a_failed_command_is_told_with_its_words() -> None:
    with pytest.raises(DemoError, match="failed: no such thing"):
        run("sh", "-c", "echo no such thing >&2; exit 3")


def test_a_command_that_hangs_is_ended() -> None:
    began = time.monotonic()
    with pytest.raises(DemoError, match="took longer than 0 s"):
        run(sys.executable, "-c", "import time; time.sleep(60)", timeout=0.3)
    assert time.monotonic() - began < 10


def test_a_program_that_is_missing_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DemoError, match="kubectl is not on the PATH"):
        kubectl("get", "pods")


def test_waiting_ends_with_an_explanation() -> None:
    with pytest.raises(DemoError, match="the models: not within 0 s\nwhy"):
        wait_until("the models", lambda: False, seconds=0.1, explain=lambda: "why")
