"""Writes what an archive holds, and nothing outside its folder."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections import deque
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path, PurePosixPath

from .archive import Entry, Kind, broken_archives, entries, unsafe
from .limits import Budget
from .manifest import check_path

WHITEOUT = ".wh."
OPAQUE = ".wh..wh..opq"
MAX_HOPS = 40
"""Of links that lead to links, as the kernel counts."""

_BAD_NAMES = (errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL, errno.ELOOP, errno.EMLINK)


class Tree:
    """A folder that archives are unpacked to.

    Nothing is ever written through a link: every folder on the way is looked at first. Where the links lead is checked
    when all is there, as it may depend on later entries.
    """

    def __init__(self, root: Path, shown: str, budget: Budget) -> None:
        self.root = root
        self._shown = shown
        self._budget = budget
        self._written: set[PurePosixPath] = set()
        """Of the present layer, with all folders above."""
        self._links: list[PurePosixPath] = []

    def unpack(self, archive: Path) -> None:
        """An archive: no entry may replace another.

        Raises:
            FetchError: it is broken, unsafe or too large.

        """
        with self._opened(archive) as found:
            for entry in found:
                self._add(entry)

    def unpack_layer(self, layer: Path) -> None:
        """A layer of an image: its entries replace and remove those of the layers below.

        Raises:
            FetchError: it is broken, unsafe or too large.

        """
        self._written.clear()
        with self._opened(layer) as found:
            for entry in found:
                path = check_path(entry.path)
                if path.name.startswith(WHITEOUT):
                    self._budget.take_entry()
                    self._white_out(path)
                else:
                    self._clear_lower(path, entry.kind)
                    self._add(_within_image(entry, path))

    def place(self, path: str, size: int) -> Path:
        """Where a file that is no archive's is to be moved.

        Raises:
            FetchError: something is there already, the path is unsafe, or it is too large.

        """
        self._budget.take_entry()
        self._budget.take(size)
        with self._bad_names():
            return self._free_place(check_path(path))

    def check_links(self) -> None:
        """After everything is there: no link may lead out.

        Raises:
            FetchError: one does.

        """
        for link in self._links:
            with self._bad_names():
                if not stays_inside(self.root, link):
                    raise unsafe(self._shown, f"its link {str(link)!r} leads out of it")

    @contextmanager
    def _opened(self, archive: Path) -> Iterator[Iterator[Entry]]:
        found = closing(entries(archive, self._shown, self._budget))
        with broken_archives(self._shown), self._bad_names(), found as opened:
            yield opened

    @contextmanager
    def _bad_names(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno not in _BAD_NAMES:
                raise
            raise unsafe(self._shown, f"it holds a name that no file can have ({error.strerror})") from error

    def _add(self, entry: Entry) -> None:
        self._budget.take_entry()
        path = check_path(entry.path)
        if entry.kind is Kind.FOLDER:
            self._make_folders(path)
            self._written.update((path, *path.parents))
            return
        place = self._free_place(path)
        if entry.kind is Kind.FILE:
            self._write(place, entry)
        elif entry.kind is Kind.SYMLINK:
            os.symlink(_checked(entry.link, self._shown), place)
            self._links.append(path)
        else:
            os.link(self._linked(entry), place, follow_symlinks=False)

    def _write(self, place: Path, entry: Entry) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        # No other right is taken over: setuid least of all.
        with os.fdopen(os.open(place, flags, 0o755 if entry.executable else 0o644), "wb") as sink:
            for piece in entry.content:
                self._budget.take(len(piece))
                sink.write(piece)

    def _linked(self, entry: Entry) -> Path:
        path = check_path(entry.link)
        self._parent(path, make=False)
        place = self.root / path
        if not stat.S_ISREG(_mode(place)):
            raise unsafe(self._shown, f"its link {entry.path!r} leads to {entry.link!r}, which is no file of it")
        return place

    def _free_place(self, path: PurePosixPath) -> Path:
        self._parent(path, make=True)
        place = self.root / path
        if not path.parts or _mode(place):
            raise unsafe(self._shown, f"it holds {str(path)!r} twice")
        self._written.update((path, *path.parents))
        return place

    def _parent(self, path: PurePosixPath, *, make: bool) -> None:
        if make:
            self._make_folders(path.parent)
        else:
            self._check_folders(path.parent)

    def _make_folders(self, path: PurePosixPath) -> None:
        self._check_folders(path)
        place = self.root
        for part in path.parts:
            place /= part
            if not _mode(place):
                self._budget.take_entry()
                place.mkdir(0o755)

    def _check_folders(self, path: PurePosixPath) -> None:
        place = self.root
        for part in path.parts:
            place /= part
            mode = _mode(place)
            if not mode:
                return
            if not stat.S_ISDIR(mode):
                kind = "link" if stat.S_ISLNK(mode) else "file"
                raise unsafe(self._shown, f"an entry leads through {str(path)!r}, which holds a {kind}")

    def _white_out(self, path: PurePosixPath) -> None:
        self._check_folders(path.parent)
        folder = self.root / path.parent
        if path.name == OPAQUE:
            names = os.listdir(folder) if folder.is_dir() else []
        else:
            names = [path.name.removeprefix(WHITEOUT)]
        for name in names:
            if name in ("", ".", ".."):
                raise unsafe(self._shown, f"its entry {str(path)!r} removes nothing that can be there")
            self._remove_lower(path.parent / name)

    def _remove_lower(self, path: PurePosixPath) -> None:
        """What lower layers have there; of this layer nothing."""
        place = self.root / path
        is_folder = stat.S_ISDIR(_mode(place))
        if path in self._written:
            for name in os.listdir(place) if is_folder else ():
                self._remove_lower(path / name)
        elif is_folder:
            shutil.rmtree(place)
        else:
            place.unlink(missing_ok=True)

    def _clear_lower(self, path: PurePosixPath, kind: Kind) -> None:
        """Make way for an entry of this layer."""
        self._check_folders(path.parent)
        mode = _mode(self.root / path) if path.parts else 0
        if mode and not (kind is Kind.FOLDER and stat.S_ISDIR(mode)):
            self._remove_lower(path)


def stays_inside(root: Path, link: PurePosixPath) -> bool:
    """Whether what a link names is within the root, and every step on the way too."""
    pending = deque(link.parts)
    at: list[str] = []
    hops = 0
    while pending:
        part = pending.popleft()
        if part == "..":
            if not at:
                return False
            at.pop()
        elif part not in ("", "."):
            at.append(part)
            place = root.joinpath(*at)
            if place.is_symlink():
                target, hops = os.readlink(place), hops + 1
                if target.startswith("/") or hops > MAX_HOPS:
                    return False
                at.pop()
                pending.extendleft(reversed(target.split("/")))
    return True


def _within_image(entry: Entry, path: PurePosixPath) -> Entry:
    """An image's absolute links mean its own root."""
    if entry.kind is not Kind.SYMLINK or not entry.link.startswith("/"):
        return entry
    inside = os.path.normpath(entry.link).lstrip("/")
    return Entry(entry.path, entry.kind, link="../" * (len(path.parts) - 1) + (inside or "."))


def _checked(link: str, shown: str) -> str:
    if not link or link.startswith("/") or "\0" in link:
        raise unsafe(shown, f"it holds a link to {link!r}, which leads out of it")
    return link


def _mode(place: Path) -> int:
    try:
        return os.lstat(place).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return 0
