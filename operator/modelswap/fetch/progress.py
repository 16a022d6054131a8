"""Tells how far the fetch step is: in its log, and in a small file for the agent."""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from modelswap.api.agent import FetchProgress

LOG_SECONDS = 2.0
WRITE_SECONDS = 1.0

log = logging.getLogger(__name__)


class Progress:
    """Called with the bytes that are there, as often as one likes."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._now = FetchProgress(started_at=datetime.now(UTC), attempt=_earlier_attempts(file) + 1)
        self._log_at = time.monotonic() + LOG_SECONDS
        self._write_at = 0.0
        self(0, None)

    def __call__(self, done: int, total: int | None) -> None:
        """Tell of it, when it is time again."""
        self._now = self._now.model_copy(update={"bytes": done, "total_bytes": total})
        now = time.monotonic()
        if now >= self._log_at:
            self._log_at = now + LOG_SECONDS
            log.info("%d of %s bytes", done, "unknown" if total is None else total)
        if now >= self._write_at:
            self._write_at = now + WRITE_SECONDS
            self._write()

    def end(self) -> None:
        """The artifact is in its place."""
        self._now = self._now.model_copy(update={"finished_at": datetime.now(UTC)})
        self._write()

    def stop(self) -> None:
        """The run has failed: keep its last figures."""
        self._write()

    def _write(self) -> None:
        if not self._file:
            return
        part = self._file.with_name(f".{self._file.name}.part")
        try:
            part.write_text(self._now.model_dump_json(by_alias=True, exclude_none=True))
            part.replace(self._file)
        except OSError as error:
            log.warning("the progress cannot be written: %s", error)
            self._file = None


def _earlier_attempts(file: Path | None) -> int:
    """Of this pod: its volumes, and so the file, outlive a container."""
    if not file:
        return 0
    try:
        return FetchProgress.model_validate_json(file.read_bytes()).attempt
    except (OSError, ValidationError):
        return 0
