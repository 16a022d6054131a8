"""Object stores and web servers, by URI."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import (
    BaseError,
    InvalidPathError,
    NotFoundError,
    NotSupportedError,
    PermissionDeniedError,
    UnauthenticatedError,
)
from obstore.store import from_url

from .errors import FetchError

if TYPE_CHECKING:
    # These exist for type checkers only.
    from obstore.store import ClientConfig, RetryConfig

CHUNK_BYTES = 8 * 2**20
_RETRY: RetryConfig = {"max_retries": 5, "retry_timeout": timedelta(minutes=3)}
_CLIENT: ClientConfig = {"allow_http": True, "timeout": "10m", "connect_timeout": "10s"}
"""`http://` is refused by the resource's own rules, unless a checksum guards it."""


@dataclass(frozen=True)
class Found:
    """One file of an artifact."""

    path: str
    """Relative to the artifact."""
    size: int


class Artifact:
    """One artifact in its store."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.is_folder = uri.endswith("/")
        root, _, self._name = uri.rpartition("/")
        with _explained(uri):
            # The library reads credentials and endpoints from the environment: AWS_…, GOOGLE_…, AZURE_….
            self._store = from_url(root, client_options=_CLIENT, retry_config=_RETRY)

    def files(self) -> list[Found]:
        """The files to fetch.

        Raises:
            FetchError: there are none, or the store does not tell.

        """
        if not self.is_folder:
            with _explained(self.uri):
                return [Found(self._name, int(obstore.head(self._store, self._name)["size"]))]
        with _explained(self.uri):
            found = [Found(str(o["path"]), int(o["size"])) for page in obstore.list(self._store) for o in page]
        if not found:
            raise FetchError("NotFound", f"there is nothing under {self.uri}", permanent=True)
        return found

    def read(self, file: Found) -> Iterator[bytes]:
        """A file's content, in pieces.

        Raises:
            FetchError: it cannot be read.

        """
        with _explained(f"{self.uri}{file.path if self.is_folder else ''}"):
            for piece in obstore.get(self._store, file.path).stream(min_chunk_size=CHUNK_BYTES):
                yield bytes(piece)


class _explained:  # noqa: N801 - reads as a statement
    """Turns the library's errors into ours."""

    def __init__(self, uri: str) -> None:
        self._uri = uri

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: object) -> None:
        if isinstance(error, (BaseError, ValueError, OSError)) and not isinstance(error, FetchError):
            raise _explain(self._uri, error) from error


def _explain(uri: str, error: BaseException) -> FetchError:
    brief = str(error).splitlines()[0][:300] if str(error) else type(error).__name__
    if isinstance(error, (NotFoundError, FileNotFoundError)):
        return FetchError("NotFound", f"there is no {uri}", permanent=True)
    # A refused listing comes as a general error of the library.
    refused = re.search(r"\b40[13] (Forbidden|Unauthorized)", str(error))
    if refused or isinstance(error, (PermissionDeniedError, UnauthenticatedError, PermissionError)):
        hint = "check the Secret that spec.artifact.secretRef names"
        return FetchError("AccessDenied", f"the store refuses {uri}: {hint}", permanent=True)
    if isinstance(error, NotSupportedError):
        return FetchError("NotSupported", f"{uri} cannot be listed: name one file instead", permanent=True)
    if isinstance(error, (InvalidPathError, ValueError)):
        return FetchError("InvalidUri", f"{uri} is not understood: {brief}", permanent=True)
    return FetchError("StoreUnreachable", f"{uri} cannot be read: {brief}", permanent=False)
