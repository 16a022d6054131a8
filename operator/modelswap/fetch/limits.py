"""How large an artifact may be."""

from __future__ import annotations

from dataclasses import dataclass

from .errors import FetchError

MAX_ENTRIES = 100_000
"""Of an archive or a folder."""
DEFAULT_EXPANSION = 100
"""An archive may unpack to so many times its size, where no other bound was given."""
DEFAULT_EXPANSION_BYTES = 2**30
"""And always to so much."""


@dataclass
class Allowance:
    """What an artifact may still take up."""

    max_bytes: int | None
    """As spec.artifact.maxBytes says."""

    def check(self, size: int) -> None:
        """Compare the size of what is fetched.

        Raises:
            FetchError: it is more than allowed.

        """
        if self.max_bytes is not None and size > self.max_bytes:
            raise too_large(f"the artifact has {size} bytes, more", self.max_bytes)

    def unpacked(self, packed: int) -> Budget:
        """What an archive of this size may become."""
        if self.max_bytes is not None:
            return Budget(self.max_bytes)
        return Budget(max(DEFAULT_EXPANSION * packed, DEFAULT_EXPANSION_BYTES))


class Budget:
    """Counts what is unpacked."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._bytes = 0
        self._entries = 0

    def take(self, size: int) -> None:
        """Count bytes.

        Raises:
            FetchError: there are too many.

        """
        self._bytes += size
        if self._bytes > self.max_bytes:
            raise too_large("the artifact, unpacked, has more", self.max_bytes)

    def take_entry(self) -> None:
        """Count a file, folder or link.

        Raises:
            FetchError: there are too many.

        """
        self._entries += 1
        if self._entries > MAX_ENTRIES:
            raise too_many_entries()


def too_large(what: str, max_bytes: int) -> FetchError:
    """More bytes than allowed."""
    hint = "if it shall be that large, register a version with a higher spec.artifact.maxBytes"
    return FetchError("TooLarge", f"{what} than the {max_bytes} bytes that are allowed: {hint}", permanent=True)


def too_many_entries() -> FetchError:
    """More files than allowed."""
    message = f"the artifact has more than {MAX_ENTRIES} files and folders: pack the model into fewer"
    return FetchError("TooLarge", message, permanent=True)
