"""Follows the fetch step, which runs beside the agent before the model server starts."""

from __future__ import annotations

import logging
import time
from pathlib import Path

from modelswap.api.agent import FetchProgress

logger = logging.getLogger(__name__)

TELL_SECONDS = 2.0
"""Progress alone is told this often at the most."""


class FetchFollower:
    """The newest progress that the fetch step has written."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._modified = 0
        self._told = 0.0
        self.progress: FetchProgress | None = None

    @property
    def finished(self) -> bool:
        """Whether the artifact is there."""
        return self.progress is not None and self.progress.finished_at is not None

    def look(self) -> bool:
        """Read the file if it has changed; whether there is something to tell."""
        try:
            modified = self._file.stat().st_mtime_ns
            if modified == self._modified:
                return False
            self._modified = modified
            self.progress = FetchProgress.model_validate_json(self._file.read_bytes())
        except FileNotFoundError:
            return False
        except (OSError, ValueError) as error:
            logger.warning("the progress of the fetch cannot be read: %s", error)
            return False
        if not self.finished and time.monotonic() < self._told + TELL_SECONDS:
            return False
        self._told = time.monotonic()
        return True
