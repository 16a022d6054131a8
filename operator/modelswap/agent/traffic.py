"""Directs HAProxy: hold, release, hand over; and watches what is in flight."""

from __future__ import annotations

import asyncio
import logging
import time
from datetime import UTC, datetime
from pathlib import Path

from modelswap.api.agent import MAX_PEERS, HoldOutcome, HoldReport, TrafficMode, TrafficRequest

from . import state as states
from .haproxy import Haproxy, HaproxyError, Held, Traffic
from .haproxy_config import lua, render, state_map
from .settings import AgentSettings
from .signals import Revision
from .state import Counters, SavedState, TrafficState

logger = logging.getLogger(__name__)

HOLDING_TICK = 0.005
BUSY_TICK = 0.02
IDLE_TICK = 1.0


class TrafficDirector:
    """The data plane of one pod."""

    def __init__(
        self, settings: AgentSettings, revision: Revision, *, model_version: str, model_port: int, grpc_port: int | None
    ) -> None:
        self._settings = settings
        self._revision = revision
        self._model_version = model_version
        self._model_port = model_port
        self._grpc_port = grpc_port
        self._file = settings.run / "state.json"
        self._saved = states.load(self._file)
        self._state = self._saved.traffic.model_copy(update={"closing": False})
        self._followed = ""
        self._haproxy = Haproxy(settings.admin_socket)
        self._lock = asyncio.Lock()
        self._shut = False
        self._wake = asyncio.Event()
        self.traffic = Traffic()
        self.held = Held()
        self.last_request_at: datetime | None = None

    @property
    def state(self) -> TrafficState:
        """What is in force."""
        return self._state

    @property
    def counters(self) -> Counters:
        """Requests since the pod began."""
        return self._saved.before + self._saved.counted

    @property
    def in_flight(self) -> int:
        """Requests of the route that have not been answered; while holding, those on their way to a peer too."""
        passing = self.traffic.handing_over if self._holding() else 0
        return self.traffic.in_flight + passing

    @property
    def drained(self) -> bool:
        """Whether no request is at the model."""
        return not (self.traffic.in_flight or self.traffic.direct_in_flight or self.traffic.handing_over)

    async def start(self) -> None:
        """Let the proxy come up as it was before a restart, or take up the one that is there.

        Raises:
            HaproxyError: it is not there in time.

        """
        _write(self._settings.run / "hold.lua", lua())
        self._configure()
        await self._haproxy.attach()
        await self.refresh()
        await self._follow()

    def finish(self) -> None:
        """Keep what was counted."""
        self._save()

    async def direct(self, request: TrafficRequest) -> None:
        """Bring a request into force; one that is in force already changes nothing.

        Raises:
            HaproxyError: HAProxy did not do as told.

        """
        async with self._lock:
            if request.hold is not None and request.hold.id != self._state.hold_id:
                await self._hold(request.hold.id, request.hold.seconds)
            if (request.mode, request.peers) != (self._state.mode, self._state.peers):
                await self._switch(request.mode, request.peers)
            self._limit_upgraded(request)
            if request.hold is None and self._state.hold_outcome is HoldOutcome.HOLDING:
                await self._release()
            await self.refresh()

    async def close_connections(self) -> None:
        """From now on answers of the own model end their client's connection: the pod goes."""
        async with self._lock:
            self._set(closing=True)
            await self._haproxy.change(self._map("mode", self._state.haproxy_mode))

    async def shut(self) -> None:
        """Take no new connections of the route; clients of open HTTP/2 connections are told to leave (GOAWAY)."""
        if not self._shut:
            self._shut = True
            await self._haproxy.command("shutdown frontend route")

    async def _hold(self, hold_id: str, seconds: float) -> None:
        deadline = int((time.time() + seconds) * 1000)
        await self._haproxy.change(self._map("id", hold_id), self._map("hold", str(deadline)))
        self._set(hold_id=hold_id, deadline_ms=deadline, hold_outcome=HoldOutcome.HOLDING)
        await self.refresh()
        self._set(in_flight_at_start=self.in_flight)

    def _limit_upgraded(self, request: TrafficRequest) -> None:
        seconds = request.upgraded_seconds if request.mode is TrafficMode.HAND_OVER else None
        if seconds != self._state.upgraded_seconds:
            until = 0 if seconds is None else int((time.time() + seconds) * 1000)
            self._set(upgraded_seconds=seconds, upgraded_until_ms=until)

    async def _switch(self, mode: TrafficMode, peers: tuple[str, ...]) -> None:
        before = self._state.peers
        if peers:
            await self._haproxy.change(*_join(peers, self._pools))
        self._set(mode=mode, peers=peers)
        await self._haproxy.change(self._map("mode", self._state.haproxy_mode))
        # Peers leave after the mode has: until then requests still go to them.
        if leaving := _leave(len(peers), len(before), self._pools):
            await self._haproxy.change(*leaving)

    @property
    def _pools(self) -> tuple[str, ...]:
        return ("next", "next-grpc") if self._grpc_port else ("next",)

    async def _release(self) -> None:
        await self._haproxy.change(self._map("hold", "0"))
        expired = time.time() * 1000 >= self._state.deadline_ms
        self._set(deadline_ms=0, hold_outcome=HoldOutcome.EXPIRED if expired else HoldOutcome.RELEASED)

    def _map(self, key: str, value: str) -> str:
        return f"set map {self._settings.state_map} {key} {value}"

    def _set(self, **changes: object) -> None:
        self._state = self._state.model_copy(update=changes)
        self._save()
        self._configure()
        self._revision.bump()
        self._wake.set()

    def _save(self) -> None:
        self._saved = self._saved.model_copy(update={"traffic": self._state})
        states.save(self._file, self._saved)

    def _configure(self) -> None:
        """What a proxy that starts now begins with."""
        config = render(
            self._settings,
            self._state,
            model_version=self._model_version,
            model_port=self._model_port,
            grpc_port=self._grpc_port,
        )
        _write(self._settings.state_map, state_map(self._state))
        _write(self._settings.run / "haproxy.cfg", config)

    def _count(self, process: str, counted: Counters) -> None:
        saved = self._saved
        before = saved.before if process == saved.process else saved.before + saved.counted
        self._saved = SavedState(traffic=saved.traffic, process=process, counted=counted, before=before)

    async def _follow(self) -> None:
        """Bring what is in force into a proxy that is new to us.

        It may have started while something changed, or an earlier run of ours has told it otherwise.
        """
        # Not beside a change: what it has just told the proxy is not yet in force here.
        async with self._lock:
            process = self.held.process
            if process != self._followed:
                await self._bring_into_force()
                self._followed = process

    async def _bring_into_force(self) -> None:
        state = self._state
        if state.peers:
            await self._haproxy.change(*_join(state.peers, self._pools))
        hold = state.deadline_ms if self._holding() else 0
        await self._haproxy.change(
            self._map("id", state.hold_id or "-"),
            self._map("hold", str(hold)),
            self._map("mode", state.haproxy_mode),
        )
        await self._haproxy.change(*_leave(len(state.peers), MAX_PEERS, self._pools))

    def _holding(self) -> bool:
        return self._state.hold_outcome is HoldOutcome.HOLDING

    async def refresh(self) -> None:
        """Read HAProxy's counters now."""
        before, was_busy = self.traffic, bool(self.in_flight)
        errors = self.counters.errors
        self.traffic, self.held = await self._haproxy.counts()
        faults = self.traffic.errors + self.held.grpc_errors
        self._count(self.held.process, Counters(requests=self.traffic.requests, errors=faults))
        if self.traffic.requests != before.requests:
            self.last_request_at = datetime.now(UTC)
        if self._holding() and time.time() * 1000 >= self._state.deadline_ms:
            self._set(deadline_ms=0, hold_outcome=HoldOutcome.EXPIRED)
        if self.counters.errors != errors:
            self._revision.bump()  # a route that watches a new version counts them
        if self.traffic.upgraded and 0 < self._state.upgraded_until_ms <= time.time() * 1000:
            await self._haproxy.change("shutdown sessions server upgraded/model")
        if bool(self.in_flight) != was_busy and (self._holding() or self._state.mode is TrafficMode.HAND_OVER):
            self._revision.bump()

    async def watch(self) -> None:
        """Keep the counters fresh: often while somebody waits for a drain, else hardly ever."""
        saved = self.counters
        while True:
            try:
                await self.refresh()
                await self._follow()
            except HaproxyError as error:
                logger.warning("%s", error)
            if self.counters != saved and not self._holding():
                saved = self.counters
                self._save()
            self._wake.clear()
            try:
                await asyncio.wait_for(self._wake.wait(), self._tick())
            except TimeoutError:
                continue

    def _tick(self) -> float:
        if self._holding():
            return HOLDING_TICK
        leaving = self._state.mode is TrafficMode.HAND_OVER or self._state.closing
        return BUSY_TICK if leaving and not self.drained else IDLE_TICK

    def hold_report(self) -> HoldReport | None:
        """The newest hold."""
        state = self._state
        if not state.hold_id:
            return None
        held = self.held if self.held.id == state.hold_id else Held()
        return HoldReport(
            id=state.hold_id,
            outcome=state.hold_outcome,
            in_flight_at_start=state.in_flight_at_start,
            held_requests=held.total,
            longest_hold_seconds=held.longest_seconds,
        )


def _write(path: Path, text: str) -> None:
    """Whole, or not at all: the proxy may start at any time."""
    part = path.with_suffix(".part")
    part.write_text(text)
    part.replace(path)


def _join(peers: tuple[str, ...], pools: tuple[str, ...]) -> list[str]:
    """Commands that let peers take requests."""
    commands = []
    for index, peer in enumerate(peers):
        address, _, port = peer.rpartition(":")
        for pool in pools:
            server = f"set server {pool}/s{index}"
            commands += [f"{server} addr {address} port {port}", f"{server} state ready"]
    return commands


def _leave(first: int, end: int, pools: tuple[str, ...]) -> list[str]:
    """Commands that let the peers of these slots take no more requests."""
    return [f"set server {pool}/s{index} state maint" for index in range(first, end) for pool in pools]
