"""The program as the fetch container runs it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from modelswap.api.agent import FetchResult

from .conftest import Request, Serve, contents

# The servers of these tests are on loopback, where nothing may be fetched from else.
PROGRAM = """
import runpy
from modelswap.fetch import addresses
addresses.is_forbidden = lambda address: False
runpy.run_module("modelswap.fetch", run_name="__main__", alter_sys=True)
"""
ENVIRONMENT = os.environ | {"PYTHONPATH": ":".join(sys.path)}


def _start(uri: str, folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PROGRAM, "--uri", uri, "--to", str(folder / "models")]
    command += ["--result", str(folder / "result")]
    return subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True)


def test_the_termination_message_tells_what_was_fetched(serve: Serve, tmp_path: Path) -> None:
    process = _start(serve(lambda request: request.reply(200, b"hello")).url("/m.bin"), tmp_path)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    result = FetchResult.model_validate_json((tmp_path / "result").read_text())
    assert result.digest.startswith("sha256:2cf24dba5fb0a30e")
    assert result.digest in output
    assert contents(tmp_path / "models") == {"m.bin": b"hello"}


@pytest.mark.parametrize("name", ["x" * 900, '"' * 900, "ö" * 450])
def test_the_termination_message_of_a_failure_is_whole(name: str, serve: Serve, tmp_path: Path) -> None:
    process = _start(serve(lambda request: request.reply(404)).url(f"/{name}"), tmp_path)
    process.communicate(timeout=30)
    assert process.returncode == 1
    assert (tmp_path / "result").stat().st_size < 4096, "Kubernetes cuts off what is longer"
    result = FetchResult.model_validate_json((tmp_path / "result").read_text())
    assert (result.reason, result.permanent) == ("NotFound", True)


def test_a_pod_that_is_deleted_need_not_wait_for_the_download(serve: Serve, tmp_path: Path) -> None:
    asked, over = threading.Event(), threading.Event()

    def answer(request: Request) -> None:
        request.begin(200, Content_Length="1000")
        asked.set()
        over.wait(timeout=30)

    process = _start(serve(answer).url("/m.bin"), tmp_path)
    assert asked.wait(timeout=20)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=5) == 128 + signal.SIGTERM
    over.set()
    process.communicate(timeout=5)
