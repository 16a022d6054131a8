"""HTTP as every web source uses it."""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Mapping
from http.client import HTTPException, HTTPMessage, HTTPResponse, InvalidURL
from typing import IO
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlsplit, urlunsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from .errors import ChangedError, FetchError

PIECE_BYTES = 2**18
STALL_SECONDS = 60.0
"""Without a byte for so long, the connection is given up."""
PARTIAL_CONTENT = 206
UNAUTHORIZED = 401
_PASSING = (408, 425, 429, 500, 502, 503, 504)
_URL_CHARACTERS = ":/?#[]@!$&'()*+,;=%"


class UnauthorizedError(FetchError):
    """Status 401, with what the server asks for."""

    def __init__(self, message: str, challenges: list[str]) -> None:
        super().__init__("AccessDenied", message, permanent=True)
        self.challenges = challenges


class Client:
    """Asks servers, and puts their refusals into plain words."""

    def __init__(self, shown: str) -> None:
        """Prepare, without a request yet.

        Args:
            shown: what messages call that which is read.

        """
        self._shown = shown
        self._opener = build_opener(_Redirects(shown))

    def get(self, url: str, *, authorization: str = "", headers: Mapping[str, str] | None = None) -> HTTPResponse:
        """The answer to one request.

        Args:
            url: address, with what it must not hold quoted or not.
            authorization: sent to this server alone, and not to where it may lead.
            headers: further ones.

        Raises:
            FetchError: there is no answer, or a refusal.

        """
        try:
            request = Request(quote(url, safe=_URL_CHARACTERS), headers=dict(headers or {}))
            if authorization:
                request.add_unredirected_header("Authorization", authorization)
            response: HTTPResponse = self._opener.open(request, timeout=STALL_SECONDS)
        except (OSError, HTTPException, ValueError) as error:
            if isinstance(error, HTTPError):
                error.close()
            raise explain(self._shown, error) from error
        return response

    def pieces_from(self, url: str, start: int, *, e_tag: str = "", authorization: str = "") -> Iterator[bytes]:
        """What an address holds from a byte on.

        Args:
            url: address.
            start: the first byte.
            e_tag: of the file that the bytes before belong to; empty when the address never changes its content.
            authorization: as for `get`.

        Raises:
            FetchError: it cannot be read, or has changed.

        """
        headers = {"Range": f"bytes={start}-"} if start else {}
        if start and e_tag:
            headers["If-Range"] = e_tag
        response = self.get(url, authorization=authorization, headers=headers)
        yield from self.pieces(response, skip=self._to_skip(response, start, e_tag))

    def _to_skip(self, response: HTTPResponse, start: int, e_tag: str) -> int:
        """A server that knows no ranges sends what we have once more."""
        if response.status == PARTIAL_CONTENT:
            if (response.headers.get("Content-Range") or "").startswith(f"bytes {start}-"):
                return 0
            response.close()
            raise FetchError("ShortRead", f"{self._shown} gave another part than asked for", permanent=False)
        if e_tag and response.headers.get("ETag") != e_tag:
            response.close()
            raise ChangedError(self._shown)
        return start

    def pieces(self, response: HTTPResponse, *, skip: int = 0) -> Iterator[bytes]:
        """An answer's content; after an early end, it just ends.

        Raises:
            FetchError: the connection broke.

        """
        with response:
            while piece := self._piece(response):
                if len(piece) > skip:
                    yield piece[skip:]
                skip = max(0, skip - len(piece))

    def _piece(self, response: HTTPResponse) -> bytes:
        try:
            # What has come: `read` would wait for a whole piece.
            return response.read1(PIECE_BYTES)
        except (OSError, HTTPException) as error:
            message = f"the connection broke while {self._shown} was read: {error}"
            raise FetchError("ShortRead", message, permanent=False) from error


class _Redirects(HTTPRedirectHandler):
    """Follows to other web addresses, but never from https to http."""

    def __init__(self, shown: str) -> None:
        self._shown = shown

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> Request | None:
        if not newurl.startswith(("https:",) if req.type == "https" else ("https:", "http:")):
            fp.close()
            raise FetchError("InsecureRedirect", f"{self._shown} leads to an address without TLS", permanent=True)
        request = super().redirect_request(req, fp, code, msg, headers, newurl)
        authorization = req.unredirected_hdrs.get("Authorization")
        if request and authorization and (request.type, request.host) == (req.type, req.host):
            # Moved within the server, such as a renamed repository.
            request.add_unredirected_header("Authorization", authorization)
        return request


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


def length_of(response: HTTPResponse) -> int | None:
    """The length that a server tells."""
    told = response.headers.get("Content-Length")
    return int(told) if told and told.isdigit() else None


def explain(shown: str, error: Exception) -> FetchError:
    """A failure in our words."""
    if isinstance(error, HTTPError):
        return _explain_status(shown, error)
    cause = error.reason if isinstance(error, URLError) else error
    if isinstance(cause, (InvalidURL, UnicodeError)):
        return FetchError("InvalidUri", f"{shown} is not understood: {cause}", permanent=True)
    if isinstance(cause, ssl.SSLCertVerificationError):
        return FetchError("InvalidCertificate", f"{shown}: {cause.verify_message}", permanent=True)
    return FetchError("StoreUnreachable", f"{shown} cannot be read: {cause}", permanent=False)


def _explain_status(shown: str, error: HTTPError) -> FetchError:
    if error.code == UNAUTHORIZED:
        message = f"the server refuses {shown}: status {error.code}"
        return UnauthorizedError(message, error.headers.get_all("WWW-Authenticate") or [])
    return explain_status(shown, error.code)


def explain_status(shown: str, status: int) -> FetchError:
    """A status that is no success."""
    if status in (401, 403):
        return FetchError("AccessDenied", f"the server refuses {shown}: status {status}", permanent=True)
    if status in (404, 410):
        return FetchError("NotFound", f"there is no {shown}: status {status}", permanent=True)
    passing = status in _PASSING
    reason = "StoreUnreachable" if passing else "Refused"
    return FetchError(reason, f"{shown} cannot be read: status {status}", permanent=not passing)
