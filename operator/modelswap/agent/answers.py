"""Reads what the model server answers, within bounds."""

from __future__ import annotations

import aiohttp


async def read_at_most(response: aiohttp.ClientResponse, limit: int) -> bytes:
    """An answer's body, or its first `limit` bytes and one more when there are more."""
    answer = bytearray()
    while len(answer) <= limit and (piece := await response.content.read(limit + 1 - len(answer))):
        answer += piece
    return bytes(answer)
