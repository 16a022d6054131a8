"""One file of a web server."""

from __future__ import annotations

import base64
import ssl
import time
from collections.abc import Iterator
from http.client import HTTPException, HTTPMessage, HTTPResponse, InvalidURL
from pathlib import PurePosixPath
from typing import IO
from urllib.error import HTTPError, URLError
from urllib.parse import quote, unquote, urlsplit, urlunsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from .errors import FetchError
from .source import Found

PIECE_BYTES = 2**18
STALL_SECONDS = 60.0
"""Without a byte for so long, the connection is given up."""
PAUSE_SECONDS = (0.5, 1, 2, 4, 8)
"""Before each further attempt."""
PARTIAL_CONTENT = 206
_PASSING = (408, 425, 429, 500, 502, 503, 504)
_URL_CHARACTERS = ":/?#[]@!$&'()*+,;=%"


class WebServer:
    """A file of a web server: also one that does not tell its length, or that a signed address leads to."""

    def __init__(self, uri: str) -> None:
        """Prepare, without a request yet.

        Args:
            uri: address; user and password in it are sent as basic authentication.

        Raises:
            FetchError: the address names no file.

        """
        self._shown = shown = without_secrets(uri)
        parts = urlsplit(uri)
        self._name = PurePosixPath(unquote(parts.path)).name
        if not self._name or parts.path.endswith("/"):
            message = f"{shown} names a folder, which a web server cannot list: name one file, or use s3://"
            raise FetchError("InvalidUri", message, permanent=True)
        user, _, host = parts.netloc.rpartition("@")
        address = urlunsplit((parts.scheme, host, parts.path, parts.query, ""))
        self._url = quote(address, safe=_URL_CHARACTERS)
        self._authorization = f"Basic {base64.b64encode(unquote(user).encode()).decode()}" if user else ""
        self._opener = build_opener(_Redirects(shown))

    def files(self) -> list[Found]:
        """The one file.

        Raises:
            FetchError: the server does not give it.

        """
        # A GET, as an address may be signed for that alone; its content is read next.
        self._response = self._open()
        return [Found(self._name, _length(self._response), self._response.headers.get("ETag"))]

    def read(self, file: Found) -> Iterator[bytes]:
        """The file's content, in pieces; a connection that breaks is taken up where it broke.

        Raises:
            FetchError: the server ends it early, and does not go on from there.

        """
        done = began_at = 0
        while True:
            try:
                while piece := self._response.read(PIECE_BYTES):
                    done += len(piece)
                    yield piece
                broken = file.size is not None and done < file.size
            except (OSError, HTTPException):
                broken = True
            finally:
                self._response.close()
            if not broken:
                return
            if done == began_at or not file.e_tag:
                message = f"{self._shown} broke off after {done} of {file.size or 'unknown'} bytes"
                raise FetchError("ShortRead", message, permanent=False)
            began_at = done
            self._response = self._open(start=done, e_tag=file.e_tag)
            if self._response.status != PARTIAL_CONTENT:
                raise FetchError("ArtifactChanged", f"{self._shown} changed while it was fetched", permanent=False)

    def _open(self, *, start: int = 0, e_tag: str = "") -> HTTPResponse:
        request = Request(self._url)
        if start:
            request.add_header("Range", f"bytes={start}-")
            request.add_header("If-Range", e_tag)
        if self._authorization:
            request.add_unredirected_header("Authorization", self._authorization)
        pauses = iter(PAUSE_SECONDS)
        while True:
            try:
                response: HTTPResponse = self._opener.open(request, timeout=STALL_SECONDS)
            except (OSError, HTTPException) as error:
                if isinstance(error, HTTPError):
                    error.close()
                failure = _explain(self._shown, error)
                pause = None if failure.permanent else next(pauses, None)
                if pause is None:
                    raise failure from error
            else:
                return response
            time.sleep(pause)


class _Redirects(HTTPRedirectHandler):
    """Follows to other web addresses, but never from https to http."""

    def __init__(self, shown: str) -> None:
        self._shown = shown

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> Request | None:
        if not newurl.startswith(("https:",) if req.type == "https" else ("https:", "http:")):
            raise FetchError("InsecureRedirect", f"{self._shown} leads to an address without TLS", permanent=True)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def without_secrets(uri: str) -> str:
    """A web address as logs and status may show it: it may carry a password or a signature.

    Raises:
        FetchError: it is no address.

    """
    try:
        parts = urlsplit(uri)
    except ValueError as error:
        raise FetchError("InvalidUri", f"the artifact's URI is not understood: {error}", permanent=True) from error
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "…" if parts.query else "", ""))


def _length(response: HTTPResponse) -> int | None:
    told = response.headers.get("Content-Length")
    return int(told) if told and told.isdigit() else None


def _explain(shown: str, error: Exception) -> FetchError:
    if isinstance(error, HTTPError):
        if error.code in (401, 403):
            return FetchError("AccessDenied", f"the server refuses {shown}: status {error.code}", permanent=True)
        if error.code in (404, 410):
            return FetchError("NotFound", f"there is no {shown}: status {error.code}", permanent=True)
        passing = error.code in _PASSING
        reason = "StoreUnreachable" if passing else "Refused"
        return FetchError(reason, f"{shown} cannot be read: status {error.code}", permanent=not passing)
    cause = error.reason if isinstance(error, URLError) else error
    if isinstance(cause, InvalidURL):
        return FetchError("InvalidUri", f"{shown} is not understood: {cause}", permanent=True)
    if isinstance(cause, ssl.SSLCertVerificationError):
        return FetchError("InvalidCertificate", f"{shown}: {cause.verify_message}", permanent=True)
    return FetchError("StoreUnreachable", f"{shown} cannot be read: {cause}", permanent=False)
