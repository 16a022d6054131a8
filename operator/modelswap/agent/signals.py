"""Tells those who wait that something has changed."""

from __future__ import annotations

import asyncio
import secrets


class Revision:
    """A number that grows with every change, unique over restarts."""

    def __init__(self) -> None:
        self._instance = secrets.token_hex(4)
        self._number = 0
        self._changed = asyncio.Event()

    def __str__(self) -> str:
        return f"{self._instance}.{self._number}"

    def bump(self) -> None:
        """Something has changed."""
        self._number += 1
        self._changed.set()
        self._changed = asyncio.Event()

    async def other_than(self, known: str, seconds: float) -> None:
        """Wait until the revision is not the known one, or the time is over."""
        if str(self) != known:
            return
        try:
            await asyncio.wait_for(self._changed.wait(), seconds)
        except TimeoutError:
            return
