"""The live view: one screen on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import sys
import time
from typing import Any

from .watch import RouteWatch

BAR = 40
LINE_SECONDS = 3.0
_UP = "\033[{}A\033[J"


class LiveView:
    """Shows a run's counts and the route's swap."""

    def __init__(self, title: str, watch: RouteWatch | None) -> None:
        self._title = title
        self._watch = watch
        self._lines = 0
        self._last: dict[str, Any] = {}
        self._printed = 0.0

    def show(self, message: dict[str, Any]) -> None:
        """Take a progress message of the clients."""
        rate = self._rate(message)
        if sys.stdout.isatty():
            self._draw(message, rate)
        elif time.monotonic() - self._printed >= LINE_SECONDS:
            self._printed = time.monotonic()
            versions = " ".join(f"{version}:{count}" for version, count in sorted(message["versions"].items()))
            print(f"    {rate:4.0f} requests/s  failed {message['failed']}  {versions}  {self._swap()}", flush=True)
        self._last = message

    def _rate(self, message: dict[str, Any]) -> float:
        if not self._last:
            return 0.0
        seconds = message["time"] - self._last["time"]
        return float((message["sent"] - self._last["sent"]) / seconds) if seconds > 0 else 0.0

    def _swap(self) -> str:
        if self._watch is None:
            return ""
        swap = self._watch.status.get("swap", {})
        if not swap.get("id"):
            return ""
        return f"{swap['kind']} {swap.get('from') or 'nothing'} → {swap['to']}: {swap['state']}"

    def _draw(self, message: dict[str, Any], rate: float) -> None:
        before = self._last.get("versions", {})
        new = {version: count - before.get(version, 0) for version, count in message["versions"].items()}
        most = max([*new.values(), 1])
        lines = [
            f"  {self._title}",
            f"    {rate:4.0f} requests/s   sent {message['sent']:,}   failed {message['failed']}",
        ]
        lines += [
            f"    {version:<8} {'█' * (BAR * count // most):<{BAR}} {message['versions'][version]:,}"
            for version, count in sorted(new.items())
        ]
        lines.append(f"    {self._swap()}")
        if self._lines:
            sys.stdout.write(_UP.format(self._lines))
        print("\n".join(lines), flush=True)
        self._lines = len(lines)
