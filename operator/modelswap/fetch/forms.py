"""How the fetched files of an artifact become what the model server finds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from .archive import is_archive
from .limits import Allowance
from .manifest import digest_of_folder
from .unpack import Tree


class Form(Protocol):
    """What a kind of artifact makes of its files as fetched."""

    def digests(self, fetched: Path, files: Mapping[str, str]) -> tuple[str, ...]:
        """Digests (hexadecimal) that the artifact is known by, its own one first.

        Args:
            fetched: the folder with the files.
            files: their relative path → sha256.

        Raises:
            FetchError: the files do not belong together.

        """
        ...

    def install(self, fetched: Path, tree: Path, allowance: Allowance) -> None:
        """Move or unpack them.

        Raises:
            FetchError: they cannot be unpacked, or must not.

        """
        ...


class Folder:
    """Files as they are."""

    def digests(self, fetched: Path, files: Mapping[str, str]) -> tuple[str, ...]:
        """Of the folder's manifest."""
        return (digest_of_folder(files),)

    def install(self, fetched: Path, tree: Path, allowance: Allowance) -> None:
        """Nothing but a move."""
        for child in fetched.iterdir():
            child.rename(tree / child.name)


@dataclass(frozen=True)
class OneFile:
    """One file; an archive is unpacked."""

    shown: str
    keep_archive: bool

    def digests(self, fetched: Path, files: Mapping[str, str]) -> tuple[str, ...]:
        """Of the file as it was fetched."""
        [digest] = files.values()
        return (digest,)

    def install(self, fetched: Path, tree: Path, allowance: Allowance) -> None:
        """Unpack it, or move it."""
        [file] = fetched.iterdir()
        if self.keep_archive or not is_archive(file.name):
            file.rename(tree / file.name)
            return
        unpacked = Tree(tree, self.shown, allowance.unpacked(file.stat().st_size))
        unpacked.unpack(file)
        unpacked.check_links()
        file.unlink()
