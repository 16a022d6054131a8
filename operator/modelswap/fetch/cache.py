"""Artifacts that pods of this node have fetched before.

`FOLDER/NAMESPACE/SHA256/` holds an artifact's files as they were fetched, so that the sum of the spec vouches for them
again each time. Namespaces are kept apart, as an artifact may need credentials. An entry appears and disappears by
renaming; whoever reads one that goes just fetches. Trouble with the cache is told in the log and is never a failure.
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .kept import sha256_of

LOCK_SECONDS = 10.0
CHUNK_BYTES = 64 * 2**20

_NEW, _GONE = ".new-", ".gone-"
_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")

log = logging.getLogger(__name__)

Tell = Callable[[int, int | None], None]


@dataclass(frozen=True)
class _Entry:
    place: Path
    size: int
    used_at: float


class _Reserved:
    """A folder for a new entry, whose lock tells others that its maker lives."""

    def __init__(self, place: Path) -> None:
        place.mkdir()
        self.place = place
        self._handle = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(self._handle, fcntl.LOCK_EX)

    def release(self) -> None:
        """It has become an entry, or never will."""
        shutil.rmtree(self.place, ignore_errors=True)
        os.close(self._handle)


class Cache:
    """A folder of the node, shared by all pods on it."""

    def __init__(self, folder: Path, max_bytes: int, namespace: str) -> None:
        """Look at nothing yet.

        Args:
            folder: of the node.
            max_bytes: of all entries together.
            namespace: of the pod.

        Raises:
            ValueError: that is no namespace.

        """
        if not _NAMESPACE.fullmatch(namespace):
            raise ValueError(f"{namespace!r} is no namespace")
        self._folder = folder
        self._max_bytes = max_bytes
        self._own = folder / namespace

    def copy(self, sha256: str, to: Path, tell: Tell) -> tuple[dict[str, str], int] | None:
        """Copy an entry out: digests of what has arrived, by relative path, and the bytes; None when there is none."""
        entry = self._own / sha256
        shutil.rmtree(to, ignore_errors=True)
        try:
            files = _files(entry)
            if not files:
                if entry.exists():
                    self.drop(sha256)
                return None
            _touch(entry)
            return _copy_all(files, entry, to, tell)
        except OSError as error:
            log.warning("the node's cache cannot be read: %s", error)
            shutil.rmtree(to, ignore_errors=True)
            return None

    def drop(self, sha256: str) -> None:
        """Remove an entry that is not what its name says."""
        log.warning("the node's cache holds another artifact than %s under its name: removed", sha256)
        with _tolerated("cannot be mended"), self._locked():
            _remove(self._own / sha256)

    def put(self, sha256: str, files: Path, size: int) -> None:
        """Keep an artifact, at the cost of those that were not used for the longest time."""
        with _tolerated("cannot be filled"):
            self._own.mkdir(parents=True, exist_ok=True)
            if new := self._reserved(sha256, size):
                try:
                    _copy_all(_files(files), files, new.place, lambda *_: None)
                    new.place.rename(self._own / sha256)
                finally:
                    new.release()

    def _reserved(self, sha256: str, size: int) -> _Reserved | None:
        """Room for an entry, and a folder to make it in; None when it is there or does not fit."""
        with self._locked():
            self._sweep()
            if (self._own / sha256).exists() or any(self._own.glob(f"{_NEW}{sha256}-*")) or not self._make_room(size):
                return None
            return _Reserved(self._own / f"{_NEW}{sha256}-{size}-{uuid.uuid4().hex}")

    def _sweep(self) -> None:
        """What pods have left that died over it."""
        for place in self._folder.glob("*/.*"):
            if place.name.startswith(_GONE) or (place.name.startswith(_NEW) and not _is_held(place)):
                shutil.rmtree(place, ignore_errors=True)

    def _make_room(self, size: int) -> bool:
        """Remove what is in the way, when that helps."""
        if size > self._max_bytes:
            log.info("the artifact is larger than the node's cache: not kept there")
            return False
        entries = sorted(self._entries(), key=lambda entry: entry.used_at)
        taken = sum(entry.size for entry in entries) + self._promised()
        while taken + size > self._max_bytes:
            if not entries:
                log.info("others are filling the node's cache: the artifact is not kept there")
                return False
            oldest = entries.pop(0)
            _remove(oldest.place)
            taken -= oldest.size
        return True

    def _entries(self) -> Iterator[_Entry]:
        for place in self._folder.glob("*/*"):
            if not place.name.startswith("."):
                yield _Entry(place, sum(file.stat().st_size for file in _files(place)), place.stat().st_mtime)

    def _promised(self) -> int:
        """Bytes of entries that are on their way."""
        return sum(int(place.name.rsplit("-", 2)[1]) for place in self._folder.glob(f"*/{_NEW}*"))

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One at a time changes what is there; copying needs no lock."""
        with (self._folder / ".lock").open("a") as lock:
            give_up = time.monotonic() + LOCK_SECONDS
            while not _try_lock(lock.fileno()):
                if time.monotonic() > give_up:
                    raise TimeoutError("another pod holds its lock")
                time.sleep(0.05)
            yield


@contextmanager
def _tolerated(what: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        log.warning("the node's cache %s: %s", what, error)


def _try_lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_held(new: Path) -> bool:
    """Whether the pod that makes this entry is alive."""
    handle = os.open(new, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return not _try_lock(handle)
    finally:
        os.close(handle)


def _remove(entry: Path) -> None:
    """At once for everyone."""
    gone = entry.with_name(f"{_GONE}{uuid.uuid4().hex}")
    entry.rename(gone)
    shutil.rmtree(gone)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def _touch(entry: Path) -> None:
    """Used now; a cache that is read-only serves all the same."""
    try:
        os.utime(entry)
    except OSError as error:
        log.info("the node's cache is read-only: %s", error)


def _copy_all(files: list[Path], base: Path, to: Path, tell: Tell) -> tuple[dict[str, str], int]:
    digests, done = {}, 0
    total = sum(file.stat().st_size for file in files)
    for file in files:
        path = file.relative_to(base)
        place = to / path
        place.parent.mkdir(parents=True, exist_ok=True)
        for size in _copy(file, place):
            done += size
            tell(done, total)
        # Of the copy: nobody changes that any more.
        digests[str(path)] = sha256_of(place)
    return digests, done


def _copy(file: Path, place: Path) -> Iterator[int]:
    """Within the kernel, where the file system can: without moving a byte on some."""
    with file.open("rb") as source, place.open("wb") as sink:
        try:
            while size := os.copy_file_range(source.fileno(), sink.fileno(), CHUNK_BYTES):
                yield size
        except OSError:
            # Not between these two.
            sink.seek(0, os.SEEK_END)
            source.seek(sink.tell())
            while piece := source.read(2**20):
                sink.write(piece)
                yield len(piece)
