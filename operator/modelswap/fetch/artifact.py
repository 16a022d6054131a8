"""An artifact, by its URI."""

from __future__ import annotations

import re

from .errors import FetchError
from .forms import Folder, Form, OneFile
from .hub import Hub
from .object_store import ObjectStore
from .oci import OciRegistry
from .oci_layers import Layers
from .source import Source
from .transport import without_secrets
from .web import WebServer

OBJECT_STORES = ("s3", "gs", "az")
KNOWN = "s3://, gs://, az://, https:// or http:// with a path, oci://host/repository or hf://org/repo"
_URI = re.compile(r"(s3|gs|az|https|http|oci|hf)://[^/]+/.+")


class Artifact:
    """What a URI names: one file, a folder when it ends in `/`, or an artifact of a registry."""

    def __init__(self, uri: str, *, keep_archive: bool = False) -> None:
        """Look at nothing but the URI yet.

        Raises:
            FetchError: it names nothing that can be fetched.

        """
        self.shown = shown_of(uri)
        if not _URI.fullmatch(uri):
            raise FetchError("InvalidUri", f"{self.shown} cannot be fetched: it must be {KNOWN}", permanent=True)
        scheme = uri.partition("://")[0]
        one_file = OneFile(self.shown, keep_archive)
        self.source: Source
        self.form: Form
        if scheme == "oci":
            self.source, self.form = OciRegistry(uri), Layers(self.shown)
        elif scheme == "hf":
            self.source = hub = Hub(uri)
            self.form = Folder() if hub.is_folder else one_file
        elif scheme in OBJECT_STORES:
            self.source, self.form = ObjectStore(uri), Folder() if uri.endswith("/") else one_file
        else:
            self.source, self.form = WebServer(uri), one_file


def shown_of(uri: str) -> str:
    """A URI as logs and messages may show it.

    Raises:
        FetchError: it is no address.

    """
    return uri if uri.partition("://")[0] in OBJECT_STORES else without_secrets(uri)
