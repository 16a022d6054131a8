"""Artifacts and images of an OCI registry: a small client of the distribution specification.

The `oras` package was weighed and left: it compares no digest, takes up no broken download, unpacks no image, and keeps
what it downloads in folders that are not ours.
"""

from __future__ import annotations

import hashlib
import ipaddress
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from .errors import FetchError
from .oci_auth import Credentials, Token
from .oci_manifest import INDEX_TYPES, MANIFEST_TYPES, choose, parse_manifest
from .source import Found
from .transport import Client, UnauthorizedError, without_secrets

INDEX_FILE = "index.json"
MANIFEST_FILE = "manifest.json"
MAX_MANIFEST_BYTES = 4 * 2**20
"""What registries take."""

_REPOSITORY = r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*"
_REFERENCE = re.compile(
    r"oci://(?P<host>[A-Za-z0-9.-]+(:[0-9]+)?|\[[0-9a-f:]+\](:[0-9]+)?)"
    rf"/(?P<repository>{_REPOSITORY})(:(?P<tag>\w[\w.-]{{0,127}}))?(@sha256:(?P<digest>[0-9a-f]{{64}}))?",
    re.ASCII,
)

_Answer = TypeVar("_Answer")


@dataclass(frozen=True)
class Reference:
    """Where an artifact is."""

    host: str
    repository: str
    reference: str
    """A tag, or `sha256:…`."""

    @classmethod
    def parse(cls, uri: str) -> Reference:
        """Of `oci://host[:port]/repository[:tag][@sha256:…]`.

        Raises:
            FetchError: it is not of this form.

        """
        match = _REFERENCE.fullmatch(uri)
        if not match:
            form = "it must be oci://host[:port]/repository[:tag] or …@sha256:digest, in lower case"
            raise FetchError("InvalidUri", f"{without_secrets(uri)} cannot be fetched: {form}", permanent=True)
        host, repository = match["host"], match["repository"]
        digest = match["digest"]
        return cls(host, repository, f"sha256:{digest}" if digest else match["tag"] or "latest")


class OciRegistry:
    """One artifact or image. Its files are its manifests and blobs; oci_layers.py makes the model's of them."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._at = Reference.parse(uri)
        self._client = Client(uri)
        plain = os.environ.get("OCI_PLAIN_HTTP", "").lower() == "true"
        self._scheme = "http" if plain or _is_loopback(self._at.host) else "https"
        self._url = f"{self._scheme}://{self._at.host}/v2/{self._at.repository}"
        self._token = Token(self._client, Credentials.from_environment(self._at.host), self._scheme, uri)
        self._documents: dict[str, bytes] = {}

    def files(self) -> list[Found]:
        """The manifest, before it the index that leads to it, and the blobs that the model needs.

        Raises:
            FetchError: there are none, or the registry does not give them.

        """
        document = self._manifest(self._at.reference)
        self._documents = {MANIFEST_FILE: document}
        if chosen := choose(document, self._uri):
            self._documents = {INDEX_FILE: document, MANIFEST_FILE: self._manifest(chosen)}
        manifest = parse_manifest(self._documents[MANIFEST_FILE], self._uri)
        found = [
            Found(name, len(text), (digest := hashlib.sha256(text).hexdigest()), digest)
            for name, text in self._documents.items()
        ]
        blobs = {layer.sha256: layer for layer in manifest.layers}
        return found + [Found(f"blobs/{sha}", layer.size, sha, sha) for sha, layer in blobs.items()]

    def read(self, file: Found, start: int) -> Iterator[bytes]:
        """A document or blob from a byte on, in pieces.

        Raises:
            FetchError: it cannot be read.

        """
        if document := self._documents.get(file.path):
            yield document[start:]
            return
        url = f"{self._url}/blobs/sha256:{file.sha256}"
        answer = self._authorized(lambda token: _begun(self._client.pieces_from(url, start, authorization=token)))
        yield from answer

    def _manifest(self, reference: str) -> bytes:
        accept = {"Accept": ", ".join((*MANIFEST_TYPES, *INDEX_TYPES))}
        url = f"{self._url}/manifests/{reference}"
        response = self._authorized(lambda token: self._client.get(url, authorization=token, headers=accept))
        document = b""
        for piece in self._client.pieces(response):
            document += piece
            if len(document) > MAX_MANIFEST_BYTES:
                raise FetchError("InvalidManifest", f"the manifest of {self._uri} is too long", permanent=True)
        found = f"sha256:{hashlib.sha256(document).hexdigest()}"
        if reference.startswith("sha256:") and reference != found:
            message = f"the registry gave a manifest of digest {found} for {self._at.repository}@{reference}"
            raise FetchError("DigestMismatch", message, permanent=False)
        return document

    def _authorized(self, ask: Callable[[str], _Answer]) -> _Answer:
        """Ask with the present token; once more with a new one, as it may have run out."""
        try:
            return ask(self._token.authorization)
        except UnauthorizedError as error:
            self._token.renew(error.challenges, f"repository:{self._at.repository}:pull")
        try:
            return ask(self._token.authorization)
        except UnauthorizedError as error:
            raise self._token.refused() from error


def _begun(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Make the request now: a generator would make it later, out of reach of `_authorized`."""
    first = next(pieces, b"")

    def all_of_them() -> Iterator[bytes]:
        yield first
        yield from pieces

    return all_of_them()


def _is_loopback(host: str) -> bool:
    name = host.partition("]")[0].lstrip("[") if host.startswith("[") else host.partition(":")[0]
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
