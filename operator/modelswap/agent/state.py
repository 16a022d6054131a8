"""What must outlive a restart of the agent or of the proxy: where requests go, and what was counted."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from modelswap.api.agent import HoldOutcome, TrafficMode


class TrafficState(BaseModel):
    """The traffic that is in force."""

    model_config = ConfigDict(frozen=True)

    mode: TrafficMode = TrafficMode.LOCAL
    peers: tuple[str, ...] = ()
    upgraded_seconds: int | None = None
    upgraded_until_ms: int = 0
    """When upgraded connections are closed, since the epoch; 0 when they may stay."""
    closing: bool = False
    """The pod ends: answers close their connections."""
    hold_id: str = ""
    """Of the newest hold."""
    deadline_ms: int = 0
    """Of the running hold, since the epoch; 0 when none runs."""
    hold_outcome: HoldOutcome = HoldOutcome.RELEASED
    in_flight_at_start: int = 0

    @property
    def haproxy_mode(self) -> str:
        """The map's word."""
        if self.mode is TrafficMode.HAND_OVER:
            return "next"
        return "close" if self.closing else "local"


class Counters(BaseModel):
    """Requests that HAProxy has counted."""

    model_config = ConfigDict(frozen=True)

    requests: int = 0
    errors: int = 0

    def __add__(self, other: Counters) -> Counters:
        return Counters(requests=self.requests + other.requests, errors=self.errors + other.errors)


class SavedState(BaseModel):
    """The file's content."""

    traffic: TrafficState = TrafficState()
    process: str = ""
    """The HAProxy that was there."""
    counted: Counters = Counters()
    """By it."""
    before: Counters = Counters()
    """By those that had ended before it."""


def load(path: Path) -> SavedState:
    """What an earlier run has saved; at the first start, the defaults."""
    try:
        return SavedState.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return SavedState()


def save(path: Path, state: SavedState) -> None:
    """Save for a later run; a crash leaves the old file or the new one."""
    part = path.with_suffix(".part")
    part.write_text(state.model_dump_json())
    os.replace(part, path)
