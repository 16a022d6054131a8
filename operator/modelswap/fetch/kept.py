"""Files that an earlier attempt has brought whole: they outlive the container in the pod's volume."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from pathlib import Path

from .source import Found


class Journal:
    """Which files are whole, and what was in them.

    A file of an earlier run is read again before it counts: after a crash of the node it may hold anything.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._known = _read(file)
        self._of_this_run: set[str] = set()

    def digest_of(self, found: Found, place: Path) -> str | None:
        """The sha256 of a file that need not be fetched again; None when it must be."""
        size, e_tag, sha256 = self._known.get(found.path, (None, None, ""))
        if not found.e_tag or (size, e_tag) != (found.size, found.e_tag):
            return None
        if found.path in self._of_this_run:
            return sha256
        if not place.is_file() or sha256_of(place) != sha256:
            return None
        self._of_this_run.add(found.path)
        return sha256

    def add(self, found: Found, sha256: str) -> None:
        """A file has come whole."""
        self._known[found.path] = (found.size, found.e_tag, sha256)
        self._of_this_run.add(found.path)
        with self._file.open("a") as lines:
            lines.write(json.dumps([found.path, found.size, found.e_tag, sha256]) + "\n")


def sha256_of(place: Path) -> str:
    """Of a file, hexadecimal."""
    with place.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read(file: Path) -> dict[str, tuple[int | None, str | None, str]]:
    known: dict[str, tuple[int | None, str | None, str]] = {}
    # None yet, or a line that a crash cut off: what could be read counts.
    with suppress(OSError, ValueError):
        for line in file.read_text().splitlines():
            path, size, e_tag, sha256 = json.loads(line)
            known[path] = (size, e_tag, sha256)
    return known
