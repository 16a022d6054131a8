"""What tests ask of server processes."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Callable


def wait_until_listening(process: subprocess.Popen[bytes], port: int, seconds: float = 15) -> None:
    """Until a process that was started listens on loopback."""
    deadline = time.monotonic() + seconds
    while not _listens(port):
        assert process.poll() is None, f"{process.args!r} has ended"
        assert time.monotonic() < deadline, f"{process.args!r} does not listen"
        time.sleep(0.05)


def wait_until(condition: Callable[[], bool], seconds: float = 10) -> None:
    """Until a condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.02)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
