"""Google Cloud Storage and Azure Blob Storage, as their library asks them: a server that speaks their APIs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from modelswap.fetch.__main__ import fetch
from modelswap.fetch.manifest import digest_of_folder

from .conftest import Request, Serve, Site, contents

FILES = {"model.bin": b"weights " * 5000, "conf/settings.json": b"{}"}
DATE = "Thu, 01 Jan 2026 00:00:00 GMT"
ACCOUNT = "devstoreaccount1"
"""Of Azure's emulator, whose key everybody knows."""

Start = Callable[[], Site]


def e_tag(content: bytes) -> str:
    return f'"{hashlib.sha256(content).hexdigest()[:16]}"'


def _give(request: Request, content: bytes, **more: str) -> None:
    """An object, or the range of it that is asked for."""
    asked = request.headers.get("Range") or request.headers.get("x-ms-range")
    about = {"ETag": e_tag(content), "Last_Modified": DATE, **more}
    if request.command == "HEAD":
        request.begin(200, Content_Length=str(len(content)), **about)
        return
    assert asked
    first, last = (int(part) for part in asked.removeprefix("bytes=").split("-"))
    piece = content[first : last + 1]
    request.reply(206, piece, Content_Range=f"bytes {first}-{first + len(piece) - 1}/{len(content)}", **about)


def google(request: Request) -> None:
    """Its XML API: `/bucket/key`, and a listing as of S3."""
    parts = urlsplit(request.path)
    key = unquote(parts.path).removeprefix("/models/")
    if "list-type" in parts.query:
        assert parse_qs(parts.query)["prefix"] == ["iris/"]
        entries = "".join(
            f"<Contents><Key>iris/{name}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>"
            f"<ETag>{e_tag(text).replace(chr(34), '&quot;')}</ETag><Size>{len(text)}</Size></Contents>"
            for name, text in FILES.items()
        )
        body = f"<ListBucketResult><IsTruncated>false</IsTruncated>{entries}</ListBucketResult>"
        request.reply(200, body.encode(), Content_Type="application/xml")
    elif (content := FILES.get(key.removeprefix("iris/"))) is None:
        request.reply(404)
    else:
        _give(request, content)


def azure(request: Request) -> None:
    """Its Blob service: `/account/container/name`, and a listing of its own."""
    assert request.headers["Authorization"].startswith(f"SharedKey {ACCOUNT}:")
    parts = urlsplit(request.path)
    key = unquote(parts.path).removeprefix(f"/{ACCOUNT}/models").lstrip("/")
    if "comp=list" in parts.query:
        assert parse_qs(parts.query)["prefix"] == ["iris/"]
        entries = "".join(
            f"<Blob><Name>iris/{name}</Name><Properties><Last-Modified>{DATE}</Last-Modified>"
            f"<Content-Length>{len(text)}</Content-Length><Content-Type>application/octet-stream</Content-Type>"
            f"<Etag>{e_tag(text).strip(chr(34))}</Etag></Properties></Blob>"
            for name, text in FILES.items()
        )
        body = f"<EnumerationResults><Blobs>{entries}</Blobs><NextMarker/></EnumerationResults>"
        request.reply(200, body.encode(), Content_Type="application/xml")
    elif (content := FILES.get(key.removeprefix("iris/"))) is None:
        request.reply(404)
    else:
        _give(request, content, x_ms_blob_type="BlockBlob")


@pytest.fixture(params=["gs", "az"])
def scheme(request: pytest.FixtureRequest, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "gs":
        site = serve(google)
        key = {"gcs_base_url": site.url(""), "disable_oauth": True, "client_email": "", "private_key": ""}
        monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT_KEY", json.dumps(key | {"private_key_id": ""}))
    else:
        site = serve(azure)
        monkeypatch.setenv("AZURE_STORAGE_USE_EMULATOR", "true")
        monkeypatch.setenv("AZURITE_BLOB_STORAGE_URL", site.url(""))
    return str(request.param)


def test_a_folder_comes_whole_with_its_digest(scheme: str, tmp_path: Path) -> None:
    digest = digest_of_folder({name: hashlib.sha256(text).hexdigest() for name, text in FILES.items()})
    result = fetch(f"{scheme}://models/iris/", tmp_path, digest)
    assert (result.message, result.digest) == ("", f"sha256:{digest}")
    assert contents(tmp_path) == FILES


def test_one_object_comes_whole(scheme: str, tmp_path: Path) -> None:
    result = fetch(f"{scheme}://models/iris/model.bin", tmp_path, hashlib.sha256(FILES["model.bin"]).hexdigest())
    assert result.message == ""
    assert contents(tmp_path) == {"model.bin": FILES["model.bin"]}


def test_what_is_not_there_is_told(scheme: str, tmp_path: Path) -> None:
    result = fetch(f"{scheme}://models/iris/missing.bin", tmp_path, None)
    assert (result.reason, result.permanent) == ("NotFound", True)
    assert f"{scheme}://models/iris/missing.bin" in result.message
