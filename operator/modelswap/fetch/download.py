"""Brings an artifact to a folder, verified on the way."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

from .artifact import Artifact
from .errors import FetchError
from .manifest import check_digest, check_path, digest_of_folder
from .source import Found, Source

Progress = Callable[[int, int | None], None]
"""Called with the bytes that are there and the bytes in all, where these are known."""


def download(artifact: Artifact, target: Path, *, sha256: str | None, progress: Progress) -> tuple[str, int]:
    """Fetch everything; the digest (hexadecimal) and the bytes.

    What a broken attempt has left is removed first; nothing stands in the target's place before it is verified.

    Raises:
        FetchError: it cannot be fetched, or is not what the spec says.

    """
    staging = target / ".fetching"
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    files = artifact.source.files()
    sizes = [file.size for file in files if file.size is not None]
    total = sum(sizes) if len(sizes) == len(files) else None
    _check_space(target, sum(sizes))
    done = 0
    digests: dict[str, str] = {}
    for file in files:
        place = staging / check_path(file.path)
        place.parent.mkdir(parents=True, exist_ok=True)
        digests[file.path], size = _copy(artifact.source, file, place, partial(_add, progress, done, total))
        done += size
    digest = digest_of_folder(digests) if artifact.is_folder else next(iter(digests.values()))
    if sha256:
        check_digest(artifact.shown, digest, sha256)
    _move_in(staging, target)
    return digest, done


def _add(progress: Progress, before: int, total: int | None, size: int) -> None:
    progress(before + size, total)


def _copy(source: Source, file: Found, place: Path, progress: Callable[[int], None]) -> tuple[str, int]:
    hasher, size = hashlib.sha256(), 0
    with place.open("wb") as sink:
        for piece in source.read(file):
            sink.write(piece)
            hasher.update(piece)
            size += len(piece)
            progress(size)
    return hasher.hexdigest(), size


def _check_space(target: Path, needed: int) -> None:
    free = shutil.disk_usage(target).free
    if needed > free:
        raise FetchError(
            "NoSpace", f"the artifact has {needed} bytes, but the node has {free} bytes free for it", permanent=False
        )


def _move_in(staging: Path, target: Path) -> None:
    for old in target.iterdir():
        if old != staging:
            shutil.rmtree(old) if old.is_dir() else old.unlink()
    for new in staging.iterdir():
        new.rename(target / new.name)
    staging.rmdir()
