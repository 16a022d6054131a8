"""Programs that are run to their end."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from .errors import LocalClusterError

TAIL_BYTES = 64 * 1024


def run(
    command: Sequence[object],
    *,
    log: Path | None = None,
    stdin: str | None = None,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float = 120,
) -> str:
    """Run a program; its output goes to the log, or is returned.

    Raises:
        LocalClusterError: it failed, or took longer than `timeout` seconds.

    """
    words = [str(word) for word in command]
    title = " ".join(words[:6])
    try:
        if log is not None:
            log.parent.mkdir(parents=True, exist_ok=True)
            with log.open("a") as sink:
                done = subprocess.run(
                    words, stdout=sink, stderr=sink, input=stdin, text=True, cwd=cwd, env=env, timeout=timeout
                )
        else:
            done = subprocess.run(words, capture_output=True, input=stdin, text=True, cwd=cwd, env=env, timeout=timeout)
    except subprocess.TimeoutExpired as error:
        raise LocalClusterError(f"`{title}` did not end within {timeout:.0f} s{_where(log)}") from error
    except FileNotFoundError as error:
        raise LocalClusterError(f"`{words[0]}` is not installed") from error
    if done.returncode:
        detail = tail(log) if log else (done.stderr or done.stdout or "")[-2000:]
        raise LocalClusterError(f"`{title}` ended with code {done.returncode}{_where(log)}\n{detail}")
    return "" if log else done.stdout


def _where(log: Path | None) -> str:
    return f"; its log is {log}" if log else ""


def tail(log: Path, lines: int = 15) -> str:
    """The last lines of a log."""
    try:
        with log.open("rb") as source:
            source.seek(max(0, source.seek(0, os.SEEK_END) - TAIL_BYTES))
            text = source.read().decode(errors="replace")
    except OSError:
        return ""
    return "\n".join("    " + line for line in text.splitlines()[-lines:])
