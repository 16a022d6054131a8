"""S3, Google Cloud Storage, Azure Blob Storage, and what speaks like them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import (
    BaseError,
    InvalidPathError,
    NotFoundError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)
from obstore.store import from_url

from .errors import ChangedError, FetchError
from .providers import PROVIDERS
from .source import Found

if TYPE_CHECKING:
    # These exist for type checkers only.
    from obstore import GetOptions
    from obstore.store import ClientConfig, RetryConfig

RANGE_BYTES = 16 * 2**20
"""One request brings so much: the library's timeouts are for a whole request."""

# What passes is borne in one place for all sources: see retry.py.
_RETRY: RetryConfig = {"max_retries": 0, "retry_timeout": timedelta(0)}
# A store within the cluster is often without TLS; its requests are signed, and the checksum guards the content.
_CLIENT: ClientConfig = {"allow_http": True, "timeout": "5m", "connect_timeout": "10s"}

_STATUS = re.compile(r"status code: (4\d\d)")
_CHECK_HINT = "check the Secret that spec.artifact.secretRef names"


class ObjectStore:
    """One object of a bucket, or all below a prefix. The path is the object's key as it is, with nothing decoded."""

    def __init__(self, uri: str) -> None:
        scheme, _, rest = uri.partition("://")
        bucket, _, self._path = rest.partition("/")
        self._uri = uri
        config = PROVIDERS[scheme].configure(uri)
        try:
            # The library reads credentials and endpoints from the environment: AWS_…, GOOGLE_…, AZURE_….
            self._store = from_url(f"{scheme}://{bucket}", config=config, client_options=_CLIENT, retry_config=_RETRY)
        except (BaseError, ValueError) as error:
            message = f"{uri} cannot be fetched: {_brief(error)}: {_CHECK_HINT}"
            raise FetchError("InvalidStore", message, permanent=True) from error

    def files(self) -> list[Found]:
        """The files to fetch.

        Raises:
            FetchError: there are none, or the store does not tell.

        """
        if not self._uri.endswith("/"):
            with _explained(self._uri):
                meta = obstore.head(self._store, self._path)
            return [Found(PurePosixPath(self._path).name, meta["size"], meta["e_tag"])]
        with _explained(self._uri):
            listed = [meta for page in obstore.list(self._store, prefix=self._path) for meta in page]
        inside = [meta for meta in listed if meta["path"].startswith(self._path)]
        found = [Found(meta["path"].removeprefix(self._path), meta["size"], meta["e_tag"]) for meta in inside]
        files = _without_folders(found)
        if not files:
            raise FetchError("NotFound", f"there is nothing under {self._uri}", permanent=True)
        return files

    def read(self, file: Found, start: int) -> Iterator[bytes]:
        """A file's content from a byte on, in pieces.

        Raises:
            FetchError: it cannot be read, or has changed since it was found.

        """
        folder = self._uri.endswith("/")
        key = f"{self._path}{file.path}" if folder else self._path
        size = file.size or 0
        wanted: GetOptions = {"if_match": file.e_tag} if file.e_tag else {}
        for position in range(start, size, RANGE_BYTES):
            with _explained(f"{self._uri}{file.path}" if folder else self._uri):
                wanted["range"] = (position, min(position + RANGE_BYTES, size))
                content = bytes(obstore.get(self._store, key, options=wanted).bytes())
            yield content


def _without_folders(found: list[Found]) -> list[Found]:
    """Consoles mark a folder by an empty object of its name: that is no file."""
    folders = {str(parent) for file in found for parent in PurePosixPath(file.path).parents}
    return [file for file in found if file.size or file.path not in folders]


@contextmanager
def _explained(uri: str) -> Iterator[None]:
    """Turn the library's errors into ours."""
    try:
        yield
    except (BaseError, OSError, ValueError) as error:
        raise _explain(uri, error) from error


def _explain(uri: str, error: Exception) -> FetchError:
    # The library tells some answers to a listing by their text alone.
    status = _STATUS.search(str(error))
    code = status[1] if status else ""
    if code == "404" or isinstance(error, (NotFoundError, FileNotFoundError)):
        return FetchError("NotFound", f"there is no {uri}", permanent=True)
    denied = (PermissionDeniedError, UnauthenticatedError, PermissionError)
    if code in ("401", "403") or isinstance(error, denied):
        return FetchError("AccessDenied", f"the store refuses {uri}: {_CHECK_HINT}", permanent=True)
    if isinstance(error, PreconditionError):
        return ChangedError(uri)
    if isinstance(error, (InvalidPathError, ValueError)):
        return FetchError("UnsafePath", f"{uri} holds a name that is no path: {_brief(error)}", permanent=True)
    refused = code not in ("", "408", "429")
    return FetchError("Refused" if refused else "StoreUnreachable", f"{uri}: {_brief(error)}", permanent=refused)


def _brief(error: Exception) -> str:
    """The library's own words, without what may be a signature."""
    return re.sub(r"\?\S+", "?…", str(error).partition("\n")[0])[:300]
