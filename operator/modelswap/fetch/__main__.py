"""`python3 -m modelswap.fetch --uri URI --to FOLDER [--sha256 SUM]`."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import time
from pathlib import Path

from modelswap.api.agent import FetchResult

from .artifact import Artifact
from .download import download
from .errors import FetchError

PROGRESS_SECONDS = 2.0
MESSAGE_BYTES = 1500
"""Of a failure: Kubernetes keeps 4096 bytes of a termination message, and JSON may double some."""


def main() -> int:
    """Fetch, and leave a FetchResult as the container's termination message; the exit code."""
    parser = argparse.ArgumentParser(prog="modelswap.fetch")
    parser.add_argument("--uri", required=True)
    parser.add_argument("--to", required=True, type=Path)
    parser.add_argument("--sha256")
    parser.add_argument("--result", type=Path, default=Path("/dev/termination-log"))
    arguments = parser.parse_args()
    _end_on_sigterm()
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
        return FetchResult(reason=error.reason, message=_brief(str(error)), permanent=error.permanent)
    except OSError as error:
        return FetchResult(reason="WriteFailed", message=_brief(f"the artifact cannot be written: {error}"))
    return FetchResult(digest=f"sha256:{digest}", bytes=size, seconds=round(time.monotonic() - began, 3))


def _brief(message: str) -> str:
    return message.encode()[:MESSAGE_BYTES].decode(errors="ignore")


def _end_on_sigterm() -> None:
    """A container's first process is not ended by a signal that it does not wait for.

    A handler would wait for the library's present request; this thread does not.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})

    def wait() -> None:
        signal.sigwait({signal.SIGTERM})
        os._exit(128 + signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


class _Progress:
    """Prints where the download is, every few seconds."""

    def __init__(self) -> None:
        self._next = time.monotonic() + PROGRESS_SECONDS

    def __call__(self, done: int, total: int | None) -> None:
        if time.monotonic() >= self._next:
            self._next += PROGRESS_SECONDS
            print(f"{done} of {total or 'unknown'} bytes", flush=True)


if __name__ == "__main__":
    sys.exit(main())
