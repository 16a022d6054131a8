"""Parts that run on: started in sessions of their own, ended by pid."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .commands import tail
from .errors import LocalClusterError

LOG_BYTES = 50_000_000
"""A longer log is put aside when its part starts."""


@dataclass(frozen=True)
class Process:
    """A process, told from a later one with the same pid by the time it started and by the machine's boot."""

    pid: int
    started: str

    @classmethod
    def of(cls, pid: int) -> Process | None:
        """The process that has this pid now."""
        try:
            # The command's name stands in brackets and may hold anything; the start time is the 22nd field.
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        except OSError:
            return None
        return None if fields[0] == "Z" else cls(pid, f"{boot}/{fields[19]}")

    @property
    def alive(self) -> bool:
        """Whether this very process still runs."""
        return Process.of(self.pid) == self


@dataclass(frozen=True)
class PidFile:
    """Where a part's process is written down."""

    path: Path

    def read(self) -> Process | None:
        """The process, if it still runs."""
        try:
            pid, started = self.path.read_text().split()
            process = Process(int(pid), started)
        except (OSError, ValueError):
            return None
        return process if process.alive else None

    def write(self, process: Process) -> None:
        """Write a process down."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        part = self.path.with_suffix(".part")
        part.write_text(f"{process.pid} {process.started}\n")
        part.rename(self.path)


def start(command: Sequence[str], *, log: Path, pid_file: PidFile, env: Mapping[str, str]) -> None:
    """Start a part that outlives us.

    Raises:
        LocalClusterError: it ended at once.

    """
    log.parent.mkdir(parents=True, exist_ok=True)
    if log.exists() and log.stat().st_size > LOG_BYTES:
        log.rename(log.with_suffix(".log.1"))
    with log.open("ab") as sink:
        child = subprocess.Popen(
            list(command), stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, start_new_session=True, env=dict(env)
        )
    child.returncode = 0  # nobody waits for it here: it outlives us
    process = Process.of(child.pid)
    if process is None:
        raise LocalClusterError(f"{command[0]} ended at once; its log is {log}\n{tail(log)}")
    pid_file.write(process)


def stop(pid_file: PidFile, *, grace: float = 15) -> None:
    """End a part: kindly, and by force after `grace` seconds.

    Raises:
        LocalClusterError: it withstood both.

    """
    process = pid_file.read()
    if process is not None:
        send(process.pid, signal.SIGTERM)
        if not wait_for(lambda: not process.alive, grace):
            send(process.pid, signal.SIGKILL)
            if not wait_for(lambda: not process.alive, 5):
                raise LocalClusterError(f"process {process.pid} ({pid_file.path.stem}) cannot be ended")
    pid_file.path.unlink(missing_ok=True)


def find(command: Sequence[str]) -> Process | None:
    """The process that runs a command, found by its words; the program itself may be in any folder."""
    wanted = [Path(command[0]).name, *command[1:]]
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and _words(entry) == wanted:
            return Process.of(int(entry.name))
    return None


def runs(process: Process, command: Sequence[str]) -> bool:
    """Whether a process was started by this very command; the program itself may be in any folder."""
    return _words(Path(f"/proc/{process.pid}")) == [Path(command[0]).name, *command[1:]]


def _words(process: Path) -> list[str]:
    try:
        words = (process / "cmdline").read_bytes().decode(errors="replace").rstrip("\0").split("\0")
    except OSError:
        return []
    return [Path(words[0]).name, *words[1:]]


def send(pid: int, number: signal.Signals) -> None:
    """Send a signal to a process that may be gone by now."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def wait_for(condition: Callable[[], bool], seconds: float, *, interval: float = 0.1) -> bool:
    """Look until the condition holds; whether it did in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(interval)
    return True
