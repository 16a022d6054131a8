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
    """Changes when the file does."""


class Source(Protocol):
    """One artifact in its store. Every call may raise a FetchError."""

    def files(self) -> list[Found]:
        """The files to fetch; at least one."""
        ...

    def read(self, file: Found) -> Iterator[bytes]:
        """A file's content, in pieces; interruptions that pass are dealt with."""
        ...
