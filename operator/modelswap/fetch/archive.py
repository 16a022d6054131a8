"""Reads archives, which may be hostile: bounded memory, forward only, no word of theirs believed.

Python's extraction is not used, with its filter (tarfile.data_filter) or without: Debian 12's Python has no filter, and
unpack.py writes every entry itself.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path
from typing import IO, cast

from .errors import FetchError
from .limits import Budget, too_large

TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
SUFFIXES = (*TAR_SUFFIXES, ".zip")

PIECE_BYTES = 2**18
MAX_READ = 16 * 2**20
"""In one piece: names and other headers are read whole, and a small archive can claim that they are huge."""
MAX_OVERHEAD = 256 * 2**20
"""Of headers and padding in all."""
MAX_LINK = 4096
XZ_MEMORY = 256 * 2**20

_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
_GZIP, _BZIP2, _XZ, _ZSTD = b"\x1f\x8b", b"BZh", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd"


class Kind(Enum):
    """What an entry is."""

    FILE = auto()
    FOLDER = auto()
    SYMLINK = auto()
    HARD_LINK = auto()


@dataclass(frozen=True)
class Entry:
    """One entry of an archive. Its content must be read before the next entry is asked for."""

    path: str
    kind: Kind
    link: str = ""
    """Where a link leads; of a hard link, a path of the archive."""
    executable: bool = False
    content: Iterator[bytes] = field(default_factory=lambda: iter(()))


def is_archive(name: str) -> bool:
    """Whether a file is unpacked, going by its name."""
    return name.lower().endswith(SUFFIXES)


def entries(archive: Path, shown: str, budget: Budget) -> Generator[Entry]:
    """Everything in an archive, in its order. To be used within `broken_archives`.

    Raises:
        FetchError: it holds what no artifact needs.

    """
    with archive.open("rb") as file:
        magic = file.read(6)
        file.seek(0)
        if magic.startswith(_ZIP):
            yield from _of_zip(file, shown)
        else:
            yield from _of_tar(_decompressed(file, magic, shown), shown, budget)


@contextmanager
def broken_archives(shown: str) -> Iterator[None]:
    """Turn what the standard library raises on a broken archive into our error."""
    try:
        yield
    except OSError as error:
        if error.errno is not None:
            raise
        raise broken(shown, str(error)) from error
    except (
        tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, ValueError, LookupError,
        OverflowError, RuntimeError,
    ) as error:  # fmt: skip
        raise broken(shown, str(error) or type(error).__name__) from error


def broken(shown: str, why: str) -> FetchError:
    """An archive that cannot be read."""
    return FetchError("BrokenArchive", f"{shown} cannot be unpacked: {why[:200]}: pack it anew", permanent=True)


def unsafe(shown: str, why: str) -> FetchError:
    """An archive that is not unpacked."""
    message = f"{shown} is not unpacked: {why}: pack the model's files alone"
    return FetchError("UnsafeArchive", message, permanent=True)


def _decompressed(file: IO[bytes], magic: bytes, shown: str) -> IO[bytes]:
    if magic.startswith(_GZIP):
        return cast("IO[bytes]", gzip.GzipFile(fileobj=file))
    if magic.startswith(_BZIP2):
        return bz2.open(file)
    if magic.startswith(_XZ):
        return cast("IO[bytes]", io.BufferedReader(_Xz(file), PIECE_BYTES))
    if magic.startswith(_ZSTD):
        raise broken(shown, "it is packed with zstd, which is not supported, use gzip")
    return file


class _Xz(io.RawIOBase):
    """The standard library's reader takes as much memory as an archive asks for."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._decompressor = lzma.LZMADecompressor(memlimit=XZ_MEMORY)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override] # RawIOBase's own is wider
        while not self._decompressor.eof:
            packed = self._file.read(PIECE_BYTES) if self._decompressor.needs_input else b""
            if self._decompressor.needs_input and not packed:
                raise EOFError("it ends early")
            piece = self._decompressor.decompress(packed, len(buffer))
            if piece:
                buffer[: len(piece)] = piece
                return len(piece)
        if self._decompressor.unused_data.strip(b"\0"):
            raise lzma.LZMAError("there is more behind its end")
        return 0


class _Forward:
    """What tarfile reads from: never back (broken headers have sent it in circles), and never much at once."""

    def __init__(self, file: IO[bytes], budget: Budget) -> None:
        self._file = file
        self._position = 0
        self._budget = budget

    def tell(self) -> int:
        return self._position

    def read(self, size: int) -> bytes:
        if not 0 <= size <= MAX_READ:
            raise tarfile.ReadError(f"a header of {size} bytes")
        content = self._file.read(size)
        self._position += len(content)
        if self._position > self._budget.max_bytes + MAX_OVERHEAD:
            raise too_large("the artifact, unpacked, has more", self._budget.max_bytes)
        return content

    def seek(self, position: int) -> None:
        if position < self._position:
            raise tarfile.ReadError("it leads backwards")
        while self._position < position:
            if not self.read(min(PIECE_BYTES, position - self._position)):
                raise tarfile.ReadError("it ends early")

    def content(self, size: int) -> Iterator[bytes]:
        while size > 0:
            piece = self.read(min(PIECE_BYTES, size))
            if not piece:
                raise tarfile.ReadError("it ends early")
            size -= len(piece)
            yield piece


def _of_tar(file: IO[bytes], shown: str, budget: Budget) -> Iterator[Entry]:
    stream = _Forward(file, budget)
    with tarfile.TarFile(fileobj=cast("IO[bytes]", stream), mode="r") as archive:
        while member := archive.next():
            archive.members = []  # type: ignore[attr-defined] # it would keep every one
            yield _tar_entry(member, stream, shown)


def _tar_entry(member: tarfile.TarInfo, stream: _Forward, shown: str) -> Entry:
    if member.isdir():
        return Entry(member.name, Kind.FOLDER)
    if member.issym():
        return Entry(member.name, Kind.SYMLINK, link=member.linkname)
    if member.islnk():
        return Entry(member.name, Kind.HARD_LINK, link=member.linkname)
    if not member.isreg() or member.issparse():
        kind = "sparse (made by tar -S)" if member.issparse() else "a device, a pipe or of an unknown kind"
        raise unsafe(shown, f"its entry {member.name!r} is {kind}")
    executable = bool(member.mode & stat.S_IXUSR)
    return Entry(member.name, Kind.FILE, executable=executable, content=stream.content(member.size))


class _Bounded(io.BufferedReader):
    """What zipfile reads from: its list of entries is read in one piece."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and 0 <= size <= MAX_READ:
            return super().read(size)
        content = super().read(MAX_READ + 1)
        if len(content) > MAX_READ:
            raise zipfile.BadZipFile("its list of entries is too long")
        return content


def _of_zip(file: IO[bytes], shown: str) -> Iterator[Entry]:
    with _Bounded(cast("io.RawIOBase", file)) as bounded, zipfile.ZipFile(bounded) as archive:
        for info in archive.infolist():
            yield _zip_entry(archive, info, shown)


def _zip_entry(archive: zipfile.ZipFile, info: zipfile.ZipInfo, shown: str) -> Entry:
    mode = info.external_attr >> 16
    if info.flag_bits & 1:
        raise unsafe(shown, f"its entry {info.filename!r} is encrypted")
    if info.is_dir():
        return Entry(info.filename, Kind.FOLDER)
    if stat.S_ISLNK(mode):
        with archive.open(info) as content:
            return Entry(info.filename, Kind.SYMLINK, link=content.read(MAX_LINK).decode())
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        raise unsafe(shown, f"its entry {info.filename!r} is no file, folder or link")
    executable = bool(mode & stat.S_IXUSR)
    return Entry(info.filename, Kind.FILE, executable=executable, content=_zip_content(archive, info))


def _zip_content(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Iterator[bytes]:
    with archive.open(info) as content:
        while piece := content.read(PIECE_BYTES):
            yield piece
