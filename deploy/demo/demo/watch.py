"""Follows a route's swaps as they happen."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .kubectl import NAMESPACE, DemoError

FIRST_STATUS_SECONDS = 30


@dataclass
class RouteWatch:
    """The newest status of a route, and when each swap was first seen to have ended."""

    name: str
    status: dict[str, Any] = field(default_factory=dict)
    ended: dict[str, tuple[float, dict[str, Any]]] = field(default_factory=dict)

    def __enter__(self) -> RouteWatch:
        self._changed = threading.Condition()
        self._process = subprocess.Popen(
            ["kubectl", "--namespace", NAMESPACE, "get", "modelroute", self.name, "--watch", "--output=json"],
            stdout=subprocess.PIPE,
            text=True,
        )
        threading.Thread(target=self._read, daemon=True).start()
        with self._changed:
            # Otherwise the end of an earlier swap would be taken for that of the next one.
            if not self._changed.wait_for(lambda: self.status, timeout=FIRST_STATUS_SECONDS):
                raise DemoError(f"the route {self.name} has no status: does the operator run?")
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(timeout=10)

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            text = ""
            for line in lines:
                text += line
                if line.rstrip() == "}":
                    self._note(json.loads(text).get("status", {}))
                    text = ""

    def _note(self, status: dict[str, Any]) -> None:
        with self._changed:
            self.status = status
            swap = status.get("swap", {})
            if swap.get("endTime") and swap["id"] not in self.ended:
                self.ended[swap["id"]] = (time.time(), swap)
            self._changed.notify_all()

    def swap_to(self, version: str, act: Callable[[], None], *, seconds: float) -> tuple[float, dict[str, Any]]:
        """Do something that begins a swap; the seconds until it was seen to have ended, and its status.

        Raises:
            DemoError: it did not end in time, or did not complete.

        """
        known, began = set(self.ended), time.time()
        act()
        with self._changed:
            if not self._changed.wait_for(lambda: set(self.ended) - known, timeout=seconds):
                raise DemoError(f"the swap to {version} did not end within {seconds:.0f} s: {self.status}")
            at, swap = self.ended[next(iter(set(self.ended) - known))]
        if swap["state"] != "Completed" or swap["to"] != version:
            raise DemoError(f"the swap to {version} ended as {swap['state']}: {swap.get('message')}")
        return at - began, swap
