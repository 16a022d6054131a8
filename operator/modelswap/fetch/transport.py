"""HTTP as every web source uses it: over httpcore2, which the Hub's library brings along."""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Mapping
from contextlib import suppress
from urllib.parse import quote, urljoin, urlsplit, urlunsplit
from urllib.request import getproxies, proxy_bypass

import httpcore2

from .addresses import GuardedBackend, check_host
from .errors import ChangedError, FetchError

STALL_SECONDS = 60.0
"""Without a byte for so long, the connection is given up."""
MAX_REDIRECTS = 10
PARTIAL_CONTENT = 206
UNAUTHORIZED = 401
_REDIRECTS = (301, 302, 303, 307, 308)
_PASSING = (408, 425, 429, 500, 502, 503, 504)
_URL_CHARACTERS = ":/?#[]@!$&'()*+,;=%"
_TIMEOUT = {"timeout": dict.fromkeys(("connect", "read", "write", "pool"), STALL_SECONDS)}
_BROKEN = (OSError, ValueError, httpcore2.NetworkError, httpcore2.ProtocolError, httpcore2.TimeoutException)
"""What a connection may end with."""
_UNANSWERED = (*_BROKEN, httpcore2.UnsupportedProtocol, httpcore2.ProxyError)
"""What there may be instead of an answer."""


class UnauthorizedError(FetchError):
    """Status 401, with what the server asks for."""

    def __init__(self, message: str, challenges: list[str]) -> None:
        super().__init__("AccessDenied", message, permanent=True)
        self.challenges = challenges


class Answer:
    """A server's answer, whose content has not been read."""

    def __init__(self, response: httpcore2.Response) -> None:
        self._response = response
        self.status = response.status

    def header(self, name: str) -> str:
        """Its value; empty when there is none."""
        return next(iter(self.headers(name)), "")

    def headers(self, name: str) -> list[str]:
        """All values of a header."""
        wanted = name.lower().encode()
        return [value.decode("latin-1") for key, value in self._response.headers if key.lower() == wanted]

    @property
    def length(self) -> int | None:
        """The length that the server tells."""
        told = self.header("Content-Length")
        return int(told) if told.isdigit() else None

    def content(self) -> Iterator[bytes]:
        """Piece by piece, as they come."""
        stream = self._response.iter_stream()
        assert isinstance(stream, Iterator)
        yield from stream

    def close(self) -> None:
        """Read no more."""
        self._response.close()


class Client:
    """Asks servers, and puts their refusals into plain words."""

    def __init__(self, shown: str) -> None:
        """Prepare, without a request yet.

        Args:
            shown: what messages call that which is read.

        """
        self._shown = shown
        self._pools: dict[str, httpcore2.ConnectionPool] = {}

    def get(self, url: str, *, authorization: str = "", headers: Mapping[str, str] | None = None) -> Answer:
        """The answer to one request.

        Args:
            url: address, with what it must not hold quoted or not.
            authorization: sent to this server alone, and not to where it may lead.
            headers: further ones.

        Raises:
            FetchError: there is no answer, or a refusal.

        """
        url = quote(url, safe=_URL_CHARACTERS)
        for _ in range(MAX_REDIRECTS):
            answer = self._ask(url, {**(headers or {}), **({"Authorization": authorization} if authorization else {})})
            if answer.status not in _REDIRECTS or not (location := answer.header("Location")):
                return self._accepted(answer)
            answer.close()
            following = self._following(url, location)
            # Moved within the server, such as a renamed repository; no other server is shown it.
            if _origin(following) != _origin(url):
                authorization = ""
            url = following
        raise FetchError("Refused", f"{self._shown} leads from address to address without end", permanent=True)

    def _ask(self, url: str, headers: Mapping[str, str]) -> Answer:
        try:
            address = httpcore2.URL(url)
            check_host(address.host.decode(), self._shown)
            fixed = {"Host": _origin(url)[1], "User-Agent": "modelswap", "Accept": "*/*", "Accept-Encoding": "identity"}
            all_headers = [(key.encode(), value.encode("latin-1")) for key, value in (fixed | dict(headers)).items()]
            request = httpcore2.Request("GET", address, headers=all_headers, extensions=_TIMEOUT)
            return Answer(self._pool(url).handle_request(request))
        except _UNANSWERED as error:
            raise explain(self._shown, error) from error

    def _pool(self, url: str) -> httpcore2.ConnectionPool:
        """Of the proxy that the environment names for this address, or of none."""
        parts = urlsplit(url)
        proxy = "" if proxy_bypass(parts.hostname or "") else getproxies().get(parts.scheme, "")
        if proxy not in self._pools:
            context = ssl.create_default_context()
            self._pools[proxy] = (
                httpcore2.HTTPProxy(proxy, ssl_context=context, max_keepalive_connections=0)
                if proxy
                else httpcore2.ConnectionPool(
                    ssl_context=context,
                    network_backend=GuardedBackend(),
                    # Nobody would close one that waits for another request.
                    max_keepalive_connections=0,
                )
            )
        return self._pools[proxy]

    def _accepted(self, answer: Answer) -> Answer:
        if 200 <= answer.status < 300:
            return answer
        challenges = answer.headers("WWW-Authenticate")
        answer.close()
        if answer.status == UNAUTHORIZED:
            raise UnauthorizedError(f"the server refuses {self._shown}: status {answer.status}", challenges)
        raise explain_status(self._shown, answer.status)

    def _following(self, url: str, location: str) -> str:
        """Where a redirect leads: to other web addresses, but never from https to http."""
        following = urljoin(url, quote(location, safe=_URL_CHARACTERS))
        if not following.startswith(("https:",) if url.startswith("https:") else ("https:", "http:")):
            raise FetchError("InsecureRedirect", f"{self._shown} leads to an address without TLS", permanent=True)
        return following

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

    def _to_skip(self, response: Answer, start: int, e_tag: str) -> int:
        """A server that knows no ranges sends what we have once more."""
        if response.status == PARTIAL_CONTENT:
            if response.header("Content-Range").startswith(f"bytes {start}-"):
                return 0
            response.close()
            raise FetchError("ShortRead", f"{self._shown} gave another part than asked for", permanent=False)
        if e_tag and response.header("ETag") != e_tag:
            response.close()
            raise ChangedError(self._shown)
        return start

    def pieces(self, response: Answer, *, skip: int = 0) -> Iterator[bytes]:
        """An answer's content.

        Raises:
            FetchError: the connection broke.

        """
        try:
            for piece in response.content():
                if len(piece) > skip:
                    yield piece[skip:]
                skip = max(0, skip - len(piece))
        except _BROKEN as error:
            message = f"the connection broke while {self._shown} was read: {error}"
            raise FetchError("ShortRead", message, permanent=False) from error
        finally:
            with suppress(*_BROKEN):
                response.close()


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc.rpartition("@")[2]


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


def explain(shown: str, error: Exception) -> FetchError:
    """A failure in our words."""
    causes = [error, error.__cause__, error.__context__, *error.args]
    for cause in causes:
        if isinstance(cause, FetchError):
            return cause
        if isinstance(cause, ssl.SSLCertVerificationError):
            return FetchError("InvalidCertificate", f"{shown}: {cause.verify_message}", permanent=True)
    if isinstance(error, (ValueError, httpcore2.UnsupportedProtocol, httpcore2.LocalProtocolError)):
        return FetchError("InvalidUri", f"{shown} is not understood: {error}", permanent=True)
    return FetchError("StoreUnreachable", f"{shown} cannot be read: {str(error) or repr(error)}", permanent=False)


def explain_status(shown: str, status: int) -> FetchError:
    """A status that is no success."""
    if status in (401, 403):
        return FetchError("AccessDenied", f"the server refuses {shown}: status {status}", permanent=True)
    if status in (404, 410):
        return FetchError("NotFound", f"there is no {shown}: status {status}", permanent=True)
    passing = status in _PASSING
    reason = "StoreUnreachable" if passing else "Refused"
    return FetchError(reason, f"{shown} cannot be read: status {status}", permanent=not passing)
