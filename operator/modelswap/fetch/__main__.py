"""`python3 -m modelswap.fetch --uri URI --to FOLDER [--sha256 SUM] …`."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from modelswap.api.agent import FetchResult

from .artifact import Artifact, shown_of
from .cache import Cache
from .download import Wish, download
from .errors import FetchError
from .limits import Allowance
from .progress import Progress
from .verify import verify

MESSAGE_BYTES = 1500
"""Of a failure: Kubernetes keeps 4096 bytes of a termination message, and JSON may double some."""

log = logging.getLogger("modelswap.fetch")


@dataclass(frozen=True)
class Options:
    """What may be asked beyond the artifact and its place."""

    keep_archive: bool = False
    max_bytes: int | None = None
    progress: Path | None = None
    verify_only: bool = False
    cache: Cache | None = None


def main() -> int:
    """Fetch, and leave a FetchResult as the container's termination message; the exit code."""
    arguments = _parser().parse_args()
    logging.basicConfig(format="%(message)s", stream=sys.stdout)
    log.setLevel(logging.INFO)
    _end_on_sigterm()
    options = Options(
        keep_archive=arguments.keep_archive,
        max_bytes=arguments.max_bytes,
        progress=arguments.progress,
        verify_only=arguments.verify_only,
        cache=_cache(arguments),
    )
    result = fetch(arguments.uri, arguments.to, arguments.sha256, options)
    log.info("%s", result.message or f"fetched {result.bytes} bytes in {result.seconds:.1f} s: {result.digest}")
    arguments.result.write_text(result.model_dump_json(by_alias=True))
    return 1 if result.reason else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="modelswap.fetch")
    parser.add_argument("--uri", required=True)
    parser.add_argument("--to", required=True, type=Path)
    parser.add_argument("--sha256")
    parser.add_argument("--keep-archive", action="store_true", help="do not unpack an archive")
    parser.add_argument("--max-bytes", type=int, help="of the artifact, and of what it unpacks to")
    parser.add_argument("--verify-only", action="store_true", help="the files are at --to already: only look at them")
    parser.add_argument("--progress", type=Path, help="file to tell the progress in")
    parser.add_argument("--cache", type=Path, help="the node's folder of artifacts fetched before")
    parser.add_argument("--cache-max-bytes", type=int, default=0)
    parser.add_argument("--cache-key", default="", help="the pod's namespace")
    parser.add_argument("--result", type=Path, default=Path("/dev/termination-log"))
    return parser


def _cache(arguments: argparse.Namespace) -> Cache | None:
    if not arguments.cache:
        return None
    try:
        return Cache(arguments.cache, arguments.cache_max_bytes, arguments.cache_key)
    except ValueError as error:
        log.warning("the node's cache is not used: %s", error)
        return None


def fetch(uri: str, target: Path, sha256: str | None, options: Options = Options()) -> FetchResult:
    """Fetch an artifact and tell how it went."""
    began = time.monotonic()
    progress = Progress(options.progress)
    try:
        digest, size = _bring(uri, target, sha256, options, progress)
    except FetchError as error:
        progress.stop()
        return FetchResult(reason=error.reason, message=_brief(str(error)), permanent=error.permanent)
    except OSError as error:
        progress.stop()
        return FetchResult(reason="WriteFailed", message=_brief(f"the artifact cannot be written: {error}"))
    progress.end()
    return FetchResult(digest=f"sha256:{digest}", bytes=size, seconds=round(time.monotonic() - began, 3))


def _bring(uri: str, target: Path, sha256: str | None, options: Options, progress: Progress) -> tuple[str, int]:
    allowance = Allowance(options.max_bytes)
    if options.verify_only:
        return verify(target, shown_of(uri), sha256, allowance, progress)
    artifact = Artifact(uri, keep_archive=options.keep_archive)
    target.mkdir(parents=True, exist_ok=True)
    return download(artifact, target, Wish(sha256, allowance, options.cache), progress)


def _brief(message: str) -> str:
    return message.encode(errors="replace")[:MESSAGE_BYTES].decode(errors="ignore")


def _end_on_sigterm() -> None:
    """A container's first process is not ended by a signal that it does not wait for.

    A handler would wait for the library's present request; this thread does not.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})

    def wait() -> None:
        signal.sigwait({signal.SIGTERM})
        os._exit(128 + signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


if __name__ == "__main__":
    sys.exit(main())
