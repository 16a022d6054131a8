"""Runs the clients in the cluster and follows what they print."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Callable
from typing import Any

from .kubectl import NAMESPACE, DemoError, apply, get, kubectl, wait_until

SHOW = Callable[[dict[str, Any]], None]


class Load:
    """One run of the clients."""

    def __init__(self, name: str, *, host: str, seconds: int, image: str, answers: dict[str, int], show: SHOW) -> None:
        self._name = name
        self._values = {
            "NAME": name,
            "HOST": host,
            "SECONDS": str(seconds),
            "OPERATOR_IMAGE": image,
            "ANSWERS": json.dumps(answers),
        }
        self._seconds = seconds
        self._show = show
        self._answering = threading.Event()
        self.summary: dict[str, Any] = {}

    def __enter__(self) -> Load:
        kubectl("delete", "job", self._name, "--ignore-not-found", "--wait=true")
        apply("load", **self._values)
        wait_until("the clients start", self._started, seconds=60, explain=lambda: kubectl("describe", "pods"))
        self._process = subprocess.Popen(
            ["kubectl", "--namespace", NAMESPACE, "logs", "--follow", f"job/{self._name}"],
            stdout=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        if not self._answering.wait(timeout=30):
            raise DemoError("the clients get no answers")
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(timeout=10)

    def _started(self) -> bool:
        status = get("job", self._name).get("status", {})
        return bool(status.get("ready") or status.get("succeeded"))

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                self._take(line)

    def _take(self, line: str) -> None:
        try:
            message = json.loads(line)
        except ValueError:
            return  # a warning of Python's
        if "summary" in message:
            self.summary = message["summary"]
            return
        if message["versions"]:
            self._answering.set()
        self._show(message)

    def finish(self) -> dict[str, Any]:
        """Wait until the clients are done; what they counted.

        Raises:
            DemoError: they were not done in time.

        """
        self._reader.join(timeout=self._seconds + 90)
        if not self.summary:
            raise DemoError(f"the clients printed no summary:\n{kubectl('logs', f'job/{self._name}', '--tail=20')}")
        return self.summary
