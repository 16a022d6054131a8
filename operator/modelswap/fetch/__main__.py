"""`python3 -m modelswap.fetch --uri URI --to FOLDER [--sha256 SUM]`."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from modelswap.api.agent import FetchResult

from .download import download
from .errors import FetchError
from .store import Artifact

PROGRESS_SECONDS = 2.0


def main() -> int:
    """Fetch, and leave a FetchResult as the container's termination message; the exit code."""
    parser = argparse.ArgumentParser(prog="modelswap.fetch")
    parser.add_argument("--uri", required=True)
    parser.add_argument("--to", required=True, type=Path)
    parser.add_argument("--sha256")
    parser.add_argument("--result", type=Path, default=Path("/dev/termination-log"))
    arguments = parser.parse_args()
    result = fetch(arguments.uri, arguments.to, arguments.sha256)
    print(result.message or f"fetched {result.bytes} bytes in {result.seconds:.1f} s: {result.digest}", flush=True)
    arguments.result.write_text(result.model_dump_json(by_alias=True))
    return 1 if result.reason else 0


def fetch(uri: str, target: Path, sha256: str | None) -> FetchResult:
    """Fetch an artifact and tell how it went."""
    began = time.monotonic()
    target.mkdir(parents=True, exist_ok=True)
    try:
        digest, size = download(Artifact(uri), target, sha256=sha256, progress=_Progress())
    except FetchError as error:
        return FetchResult(reason=error.reason, message=str(error)[:2000], permanent=error.permanent)
    return FetchResult(digest=f"sha256:{digest}", bytes=size, seconds=round(time.monotonic() - began, 3))


class _Progress:
    """Prints where the download is, every few seconds."""

    def __init__(self) -> None:
        self._next = time.monotonic() + PROGRESS_SECONDS

    def __call__(self, done: int, total: int) -> None:
        if time.monotonic() >= self._next:
            self._next += PROGRESS_SECONDS
            print(f"{done} of {total} bytes", flush=True)


if __name__ == "__main__":
    sys.exit(main())
