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


@dataclass(frozen=True)
class Process:
    """A process, told from a later one with the same pid by the time it started."""

    pid: int
    started: str

    @classmethod
    def of(cls, pid: int) -> Process | None:
        """The process that has this pid now."""
        try:
            # The command's name stands in brackets and may hold anything; the start time is the 22nd field.
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return None
        return None if fields[0] == "Z" else cls(pid, fields[19])

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
        self.path.write_text(f"{process.pid} {process.started}\n")


def start(command: Sequence[str], *, log: Path, pid_file: PidFile, env: Mapping[str, str]) -> None:
    """Start a part that outlives us."""
    log.parent.mkdir(parents=True, exist_ok=True)
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
    """End a part: kindly, then by force."""
    process = pid_file.read()
    if process is not None:
        os.kill(process.pid, signal.SIGTERM)
        if not wait_for(lambda: not process.alive, grace):
            os.kill(process.pid, signal.SIGKILL)
            wait_for(lambda: not process.alive, 5)
    pid_file.path.unlink(missing_ok=True)


def wait_for(condition: Callable[[], bool], seconds: float, *, interval: float = 0.1) -> bool:
    """Look until the condition holds; whether it did in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(interval)
    return True
