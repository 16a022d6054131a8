"""A file while it comes."""

from __future__ import annotations

import hashlib
from pathlib import Path

from .errors import FetchError
from .source import Found


class Part:
    """Written and summed up at once."""

    def __init__(self, place: Path) -> None:
        place.parent.mkdir(parents=True, exist_ok=True)
        self._sink = place.open("wb")
        self.restart()

    def __enter__(self) -> Part:
        return self

    def __exit__(self, *_: object) -> None:
        self._sink.close()

    def restart(self) -> None:
        """From the first byte."""
        self._sink.seek(0)
        self._sink.truncate()
        self._hasher = hashlib.sha256()
        self.size = 0

    def add(self, piece: bytes) -> None:
        """Further bytes."""
        self._sink.write(piece)
        self._hasher.update(piece)
        self.size += len(piece)

    @property
    def sha256(self) -> str:
        """Of what is there, hexadecimal."""
        return self._hasher.hexdigest()

    def check(self, found: Found, shown: str) -> None:
        """After its end: compare with what the source has said.

        Raises:
            FetchError: it is shorter; or it is another, and begins anew.

        """
        if found.size is not None and self.size < found.size:
            message = f"{shown} broke off after {self.size} of {found.size} bytes"
            raise FetchError("ShortRead", message, permanent=False)
        longer = found.size is not None and self.size > found.size
        if longer or (found.sha256 and self.sha256 != found.sha256):
            self.restart()
            message = f"the content of {found.path} of {shown} is not what the store says of it"
            raise FetchError("DigestMismatch", message, permanent=False)
