"""Where the files of an artifact come from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Found:
    """One file of an artifact."""

    path: str
    """Relative to the artifact."""
    size: int | None
    """In bytes; None when the source does not tell."""
    e_tag: str | None = None
    """Changes when the file does; without one, a file that broke off begins anew."""
    sha256: str | None = None
    """Hexadecimal, where the source vouches for it."""


class Source(Protocol):
    """One artifact in its store. Every call may raise a FetchError, and may be made again after one."""

    def files(self) -> list[Found]:
        """The files to fetch; at least one."""
        ...

    def read(self, file: Found, start: int) -> Iterator[bytes]:
        """A file's content from a byte on, in pieces. It may end early."""
        ...
