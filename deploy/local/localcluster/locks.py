"""One at a time: two starts of the same cluster, or two builds into the same cache, would spoil each other's work."""

from __future__ import annotations

import fcntl
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from .errors import LocalClusterError
from .processes import wait_for


@contextmanager
def exclusive(path: Path, seconds: float) -> Iterator[None]:
    """Hold a lock; the kernel releases it when we end, however we end.

    Args:
        path: a file that is there for the lock only.
        seconds: how long to wait for another holder.

    Raises:
        LocalClusterError: another process held it all the time.

    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        if not _take(file):
            print(f"  waiting for another localcluster command ({path})", file=sys.stderr)
            if not wait_for(lambda: _take(file), seconds):
                raise LocalClusterError(f"another localcluster command has held {path} for {seconds:.0f} s")
        yield


def _take(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
