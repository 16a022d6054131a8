"""Files that are mounted already, of a claim or an image: looked at, never touched."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from .download import Tell
from .errors import FetchError
from .kept import sha256_of
from .limits import MAX_ENTRIES, Allowance, too_many_entries
from .manifest import check_digest, digest_of_folder

LOST_AND_FOUND = "lost+found"
"""The file system's own, at its top; only root may read it."""


def verify(place: Path, shown: str, sha256: str | None, allowance: Allowance, tell: Tell) -> tuple[str, int]:
    """The digest (hexadecimal) and the bytes of a file, or of a folder with what its links within it lead to.

    Raises:
        FetchError: it is not there, or not what the spec says.

    """
    if not place.exists():
        raise FetchError("NotFound", f"{shown} is not mounted at {place}{_hint(shown)}", permanent=True)
    files = [place] if place.is_file() else sorted(_files(place, shown))
    sizes = sum(file.stat().st_size for file in files)
    allowance.check(sizes)
    digests, done = {}, 0
    for file in files:
        digests[str(file.relative_to(place))] = sha256_of(file)
        done += file.stat().st_size
        tell(done, sizes)
    if not files:
        raise FetchError("NotFound", f"there is no file in {shown}", permanent=True)
    digest = digests["."] if place.is_file() else digest_of_folder(digests)
    if sha256:
        check_digest(shown, (digest,), sha256)
    return digest, done


def _hint(shown: str) -> str:
    # An API server without them drops the volume in silence.
    without = "the cluster has no image volumes (feature gate ImageVolume): register a version with oci:// instead"
    return f": {without}" if shown.startswith("image://") else ""


def _files(root: Path, shown: str) -> Iterator[Path]:
    """As `find -L . -type f` sees them."""
    top = root.resolve()
    count = 0
    for folder, names, files in os.walk(root, followlinks=True, onerror=_unreadable):
        if Path(folder) == root and LOST_AND_FOUND in names:
            names.remove(LOST_AND_FOUND)
        for name in (*names, *files):
            count += 1
            if count > MAX_ENTRIES:
                raise too_many_entries()
            _check_inside(Path(folder, name), top, shown)
        yield from (Path(folder, name) for name in files)


def _check_inside(path: Path, top: Path, shown: str) -> None:
    if not path.is_symlink():
        if not (path.is_file() or path.is_dir()):
            raise _unsafe(shown, f"{str(path)!r} is no file, folder or link")
        return
    try:
        real = path.resolve(strict=True)
    except (OSError, RuntimeError) as error:
        raise _unsafe(shown, f"the link {str(path)!r} leads nowhere") from error
    if not real.is_relative_to(top):
        raise _unsafe(shown, f"the link {str(path)!r} leads out of it")
    if path.parent.resolve().is_relative_to(real):
        raise _unsafe(shown, f"the link {str(path)!r} leads to a folder that it is in")


def _unsafe(shown: str, why: str) -> FetchError:
    return FetchError("UnsafePath", f"{shown} is not served: {why}: remove it", permanent=True)


def _unreadable(error: OSError) -> None:
    raise FetchError("AccessDenied", f"{error.filename} cannot be read: {error.strerror}", permanent=True) from error
