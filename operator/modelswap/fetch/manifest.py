"""Digests of files and of folders: pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

from .errors import FetchError


def digest_of_folder(files: Mapping[str, str]) -> str:
    r"""Digest of a folder's manifest.

    Args:
        files: relative path → sha256, hexadecimal.

    The manifest has a line `<sha256>  <relative path>` a file, sorted by path as bytes: what `sha256sum` prints for
    `find . -type f -printf '%P\n' | LC_ALL=C sort`.

    """
    ordered = sorted(files.items(), key=lambda item: item[0].encode())
    return hashlib.sha256("".join(f"{sha}  {path}\n" for path, sha in ordered).encode()).hexdigest()


def check_path(path: str) -> PurePosixPath:
    """A path that stays within the folder that it is fetched to.

    Raises:
        FetchError: it is absolute, or climbs out.

    """
    pure = PurePosixPath(path)
    if not path or pure.is_absolute() or ".." in pure.parts or "\0" in path:
        raise FetchError(
            "UnsafePath", f"the artifact holds a file named {path!r}, which leads out of it", permanent=True
        )
    return pure


def check_digest(uri: str, found: Sequence[str], wanted: str) -> None:
    """Compare with what the spec says.

    Args:
        uri: as messages show it.
        found: digests that the artifact is known by, its own one first.
        wanted: the spec's.

    Raises:
        FetchError: it is none of them.

    """
    if wanted not in found:
        raise FetchError(
            "ChecksumMismatch",
            f"the sha256 of {uri} is {found[0]}, but spec.artifact.sha256 says {wanted}: the artifact has changed, or "
            "the sum is wrong. Register a version with the right one",
            permanent=True,
        )
