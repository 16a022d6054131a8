"""One file of a web server."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit, urlunsplit

from .errors import FetchError
from .source import Found
from .transport import Answer, Client, without_secrets


class WebServer:
    """A file of a web server: also one that does not tell its length, or that a signed address leads to."""

    def __init__(self, uri: str) -> None:
        """Prepare, without a request yet.

        Args:
            uri: address; user and password in it are sent as basic authentication.

        Raises:
            FetchError: the address names no file.

        """
        shown = without_secrets(uri)
        parts = urlsplit(uri)
        self._name = PurePosixPath(unquote(parts.path)).name
        if not self._name or parts.path.endswith("/"):
            message = f"{shown} names a folder, which a web server cannot list: name one file, or use s3://"
            raise FetchError("InvalidUri", message, permanent=True)
        user, _, host = parts.netloc.rpartition("@")
        self._url = urlunsplit((parts.scheme, host, parts.path, parts.query, ""))
        self._authorization = f"Basic {base64.b64encode(unquote(user).encode()).decode()}" if user else ""
        self._client = Client(shown)
        self._answer: Answer | None = None

    def files(self) -> list[Found]:
        """The one file.

        Raises:
            FetchError: the server does not give it.

        """
        # A GET, as an address may be signed for that alone; its content is read next.
        if self._answer:
            self._answer.close()
        self._answer = self._client.get(self._url, authorization=self._authorization)
        e_tag = self._answer.header("ETag")
        # A weak tag does not promise the same bytes.
        return [Found(self._name, self._answer.length, None if e_tag.startswith("W/") else e_tag or None)]

    def read(self, file: Found, start: int) -> Iterator[bytes]:
        """The file's content from a byte on, in pieces.

        Raises:
            FetchError: it cannot be read, or has changed.

        """
        answer, self._answer = self._answer, None
        if answer and not start:
            return self._client.pieces(answer)
        if answer:
            answer.close()
        return self._client.pieces_from(self._url, start, e_tag=file.e_tag or "", authorization=self._authorization)
