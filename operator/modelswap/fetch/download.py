"""Brings an artifact to a folder, verified on the way."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .artifact import Artifact
from .cache import Cache
from .errors import ChangedError, FetchError
from .kept import Journal
from .limits import MAX_ENTRIES, Allowance, too_many_entries
from .manifest import check_digest, check_path
from .part import Part
from .retry import Patience
from .source import Found

Tell = Callable[[int, int | None], None]
"""Called with the bytes that are there and the bytes in all, where these are known."""

STAGING = ".fetching"


@dataclass(frozen=True)
class Wish:
    """What is asked of a download."""

    sha256: str | None
    allowance: Allowance
    cache: Cache | None


@dataclass(frozen=True)
class Fetched:
    """The files of an artifact, as they came."""

    folder: Path
    digests: dict[str, str]
    """Relative path → sha256, hexadecimal."""
    size: int


def download(artifact: Artifact, target: Path, wish: Wish, tell: Tell) -> tuple[str, int]:
    """Fetch everything; the digest (hexadecimal) and the bytes.

    Nothing stands in the target's place before it is verified.

    Raises:
        FetchError: it cannot be fetched, or is not what the spec says.

    """
    staging = target / STAGING
    tree = staging / "tree"
    shutil.rmtree(tree, ignore_errors=True)
    tree.mkdir(parents=True)
    cached = _from_cache(artifact, staging, wish, tell)
    fetched = cached or _from_source(artifact, staging, wish, tell)
    digests = artifact.form.digests(fetched.folder, fetched.digests)
    if wish.sha256:
        check_digest(artifact.shown, digests, wish.sha256)
    if wish.cache and wish.sha256 and not cached:
        wish.cache.put(wish.sha256, fetched.folder, fetched.size)
    artifact.form.install(fetched.folder, tree, wish.allowance)
    _move_in(tree, target)
    return digests[0], fetched.size


def _from_cache(artifact: Artifact, staging: Path, wish: Wish, tell: Tell) -> Fetched | None:
    if not wish.cache or not wish.sha256:
        return None
    folder = staging / "cached"
    copied = wish.cache.copy(wish.sha256, folder, tell)
    if copied is None:
        return None
    digests, size = copied
    wish.allowance.check(size)
    try:
        check_digest(artifact.shown, artifact.form.digests(folder, digests), wish.sha256)
    except (FetchError, OSError, ValueError):
        wish.cache.drop(wish.sha256)
        shutil.rmtree(folder, ignore_errors=True)
        return None
    return Fetched(folder, digests, size)


def _from_source(artifact: Artifact, staging: Path, wish: Wish, tell: Tell) -> Fetched:
    attempt = _Attempt(artifact, staging, wish.allowance, tell)
    while True:
        try:
            return attempt.run()
        except FetchError as error:
            attempt.patience.bear(error, attempt.done)


class _Attempt:
    """All files of a source, each one whole; may be run again after a failure."""

    def __init__(self, artifact: Artifact, staging: Path, allowance: Allowance, tell: Tell) -> None:
        self._artifact = artifact
        self._folder = staging / "files"
        self._folder.mkdir(exist_ok=True)
        self._journal = Journal(staging / "journal")
        self._allowance = allowance
        self._tell = tell
        self._total: int | None = None
        self.patience = Patience()
        self.done = 0

    def run(self) -> Fetched:
        """Find and bring."""
        files = self._artifact.source.files()
        self._check(files)
        self._remove_others(files)
        self.done = 0
        digests = {}
        for file in files:
            place = self._folder / check_path(file.path)
            digests[file.path] = self._journal.digest_of(file, place) or self._bring(file, place)
            self.done += place.stat().st_size
            self._tell(self.done, self._total)
        return Fetched(self._folder, digests, self.done)

    def _check(self, files: list[Found]) -> None:
        if len(files) > MAX_ENTRIES:
            raise too_many_entries()
        sizes = [file.size for file in files if file.size is not None]
        self._total = sum(sizes) if len(sizes) == len(files) else None
        self._allowance.check(sum(sizes))
        here = sum(path.stat().st_size for path in self._folder.rglob("*") if path.is_file())
        free = shutil.disk_usage(self._folder).free
        if sum(sizes) > free + here:
            message = f"the artifact has {sum(sizes)} bytes, but the node has {free} bytes free for it"
            raise FetchError("NoSpace", message, permanent=False)

    def _remove_others(self, files: list[Found]) -> None:
        """An earlier run may have found other files."""
        wanted = {self._folder / check_path(file.path) for file in files}
        for path in sorted(self._folder.rglob("*"), reverse=True):
            if path.is_file() and path not in wanted:
                path.unlink()
            elif path.is_dir() and not any(path.iterdir()):
                path.rmdir()

    def _bring(self, file: Found, place: Path) -> str:
        with Part(place) as part:
            while True:
                try:
                    self._read_on(file, part)
                except ChangedError:
                    raise
                except FetchError as error:
                    reached = self.done + part.size
                    if not file.e_tag:
                        part.restart()
                    self.patience.bear(error, reached)
                else:
                    break
        self._journal.add(file, part.sha256)
        return part.sha256

    def _read_on(self, file: Found, part: Part) -> None:
        for piece in self._artifact.source.read(file, part.size):
            part.add(piece)
            self._allowance.check(self.done + part.size)
            self._tell(self.done + part.size, self._total)
        part.check(file, self._artifact.shown)


def _move_in(tree: Path, target: Path) -> None:
    staging = tree.parent
    if os.path.lexists(tree / STAGING):
        raise FetchError("UnsafePath", f"the artifact holds {STAGING}, a name of our own: rename it", permanent=True)
    for old in target.iterdir():
        if old != staging:
            shutil.rmtree(old) if old.is_dir() and not old.is_symlink() else old.unlink()
    for new in tree.iterdir():
        new.rename(target / new.name)
    shutil.rmtree(staging)
