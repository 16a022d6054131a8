"""How long failures that may pass are borne."""

from __future__ import annotations

import logging
import time

from .errors import FetchError

PAUSE_SECONDS = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Before each further attempt that follows one without progress."""

log = logging.getLogger(__name__)


class Patience:
    """Lasts as long as there is progress, and a few attempts without.

    A store that drops every connection is read to the end; one that gives nothing is given up.
    """

    def __init__(self) -> None:
        self._furthest = 0
        self._pauses = iter(PAUSE_SECONDS)

    def bear(self, error: FetchError, reached: int) -> None:
        """Wait before the next attempt.

        Args:
            error: how the attempt ended.
            reached: bytes that it got to, of the whole artifact.

        Raises:
            FetchError: that one, when another attempt is of no use.

        """
        if error.permanent:
            raise error
        if reached > self._furthest:
            self._furthest = reached
            self._pauses = iter(PAUSE_SECONDS)
        pause = next(self._pauses, None)
        if pause is None:
            raise error
        log.info("%s: trying again in %s s", error, pause)
        time.sleep(pause)
