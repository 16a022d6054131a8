"""An artifact, by its URI."""

from __future__ import annotations

import re

from .errors import FetchError
from .object_store import ObjectStore
from .source import Source
from .web import WebServer, without_secrets

OBJECT_STORES = ("s3", "gs", "az")
KNOWN = "s3://, gs://, az://, https:// or http://"
_URI = re.compile(r"(s3|gs|az|https|http)://[^/]+/.+")


class Artifact:
    """What a URI names: one file, or a folder when it ends in `/`."""

    def __init__(self, uri: str) -> None:
        """Look at nothing but the URI yet.

        Raises:
            FetchError: it names nothing that can be fetched.

        """
        scheme = uri.partition("://")[0]
        if not _URI.fullmatch(uri):
            raise FetchError("InvalidUri", f"{uri} cannot be fetched: it must be {KNOWN} with a path", permanent=True)
        self.is_folder = scheme in OBJECT_STORES and uri.endswith("/")
        self.shown = uri if scheme in OBJECT_STORES else without_secrets(uri)
        self.source: Source = ObjectStore(uri) if scheme in OBJECT_STORES else WebServer(uri)
