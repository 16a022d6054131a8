"""Models of the Hugging Face Hub, and of what speaks like it.

The library says what is in a repository and where; the bytes come over our own client. Its own download keeps a cache
outside the target, takes up no file that another process began, and cannot be stopped at a size.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING
from urllib.parse import unquote

from .addresses import check_endpoint
from .errors import FetchError
from .source import Found
from .transport import STALL_SECONDS, Client, explain_status

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo, RepoSibling

_URI = re.compile(r"hf://(?P<repo>[\w.-]+/[\w.-]+)(@(?P<revision>[^/@]+))?(/(?P<path>.*))?")
_CHECK_HINT = "check HF_TOKEN in the Secret that spec.artifact.secretRef names, and that its user may read the model"


class Hub:
    """One file of a model's repository, or all below a folder."""

    def __init__(self, uri: str) -> None:
        """Prepare, without a request yet.

        Args:
            uri: `hf://org/repo[@revision][/path]`; a `/` within the revision is written `%2F`.

        Raises:
            FetchError: it is not of this form.

        """
        match = _URI.fullmatch(uri)
        if not match:
            form = "it must be hf://org/repo, with @revision or /path behind it where you like"
            raise FetchError("InvalidUri", f"{uri} cannot be fetched: {form}", permanent=True)
        self._uri = uri
        self._repo = match["repo"]
        self._revision = unquote(match["revision"] or "main")
        self._path = match["path"] or ""
        self.is_folder = not self._path or self._path.endswith("/")
        self._commit = ""
        self._client = Client(uri)
        self._endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
        self._token = os.environ.get("HF_TOKEN", "")

    def files(self) -> list[Found]:
        """The files to fetch, all of one commit.

        Raises:
            FetchError: there are none, or the Hub does not tell.

        """
        info = self._info()
        self._commit = info.sha or self._revision
        siblings = [file for file in info.siblings or [] if self._is_wanted(file.rfilename)]
        if not siblings:
            raise FetchError("NotFound", f"there is no file {self._path or 'at all'} in {self._uri}", permanent=True)
        below = self._path.rpartition("/")[0]
        return [_found(file, f"{below}/" if below else "") for file in siblings]

    def read(self, file: Found, start: int) -> Iterator[bytes]:
        """A file's content from a byte on, in pieces.

        Raises:
            FetchError: it cannot be read.

        """
        from huggingface_hub import hf_hub_url

        name = f"{self._path}{file.path}" if self.is_folder else self._path
        url = hf_hub_url(self._repo, name, revision=self._commit, endpoint=self._endpoint)
        # A commit never changes its content: no tag is compared.
        return self._client.pieces_from(url, start, authorization=f"Bearer {self._token}" if self._token else "")

    def _is_wanted(self, name: str) -> bool:
        return name.startswith(self._path) if self.is_folder else name == self._path

    def _info(self) -> ModelInfo:
        check_endpoint(self._endpoint, self._uri)
        os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
        # 30 MB and 0.2 s, for those alone who use it.
        from huggingface_hub import HfApi

        # False: the library shall look for no token elsewhere.
        api = HfApi(endpoint=self._endpoint, token=self._token or False)
        try:
            return api.model_info(self._repo, revision=self._revision, files_metadata=True, timeout=STALL_SECONDS)
        except Exception as error:  # its HTTP library is its own affair, and has errors of its own
            raise self._explained(error) from error

    def _explained(self, error: Exception) -> FetchError:
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status is None:
            kind = type(error).__name__
            return FetchError("StoreUnreachable", f"{self._uri} cannot be read: {kind}: {error}", permanent=False)
        # The Hub hides what one may not see behind 401.
        if status in (401, 403):
            message = f"the Hub refuses {self._uri}, or it does not exist: {_CHECK_HINT}"
            return FetchError("AccessDenied", message, permanent=True)
        return explain_status(self._uri, status)


def _found(file: RepoSibling, below: str) -> Found:
    sha256 = file.lfs.sha256 if file.lfs else None
    return Found(file.rfilename.removeprefix(below), file.size, sha256 or file.blob_id, sha256)
