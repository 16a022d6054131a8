"""The Hugging Face Hub, as its library asks it: a server on loopback that speaks the Hub's API."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from modelswap.fetch.__main__ import fetch
from modelswap.fetch.manifest import digest_of_folder

from .conftest import Request, Serve, Site, contents

COMMIT = "8f2a6b3c1d0e9f8a7b6c5d4e3f2a1b0c9d8e7f6a"
TOKEN = "hf_a_token_of_the_hub"  # noqa: S105 - of a test
FILES = {
    "config.json": b'{"architectures": ["Iris"]}',
    "model.safetensors": b"weights " * 50_000,
    "onnx/model.onnx": b"graph" * 1000,
    "onnx/fp16/model.onnx": b"half" * 1000,
}
LARGE = {"model.safetensors"}


class Hub:
    """One model's repository; a large file is redirected to another host, as the real one does."""

    def __init__(self, store: Site, *, private: bool = False) -> None:
        self._store = store
        self._private = private

    def __call__(self, request: Request) -> None:
        path = urlsplit(request.path).path
        if self._private and request.headers.get("Authorization") != f"Bearer {TOKEN}":
            request.reply(401, b'{"error": "Invalid username or password."}', X_Error_Message="Invalid username")
        elif path in ("/api/models/org/iris/revision/main", "/api/models/org/iris/revision/v1.0"):
            request.reply(200, json.dumps(self._info()).encode(), Content_Type="application/json")
        elif path.startswith(f"/org/iris/resolve/{COMMIT}/"):
            self._resolve(request, path.removeprefix(f"/org/iris/resolve/{COMMIT}/"))
        else:
            request.reply(404, b'{"error": "not found"}', X_Error_Code="RepoNotFound")

    def _resolve(self, request: Request, name: str) -> None:
        if name in LARGE:
            request.begin(302, Location=self._store.url(f"/{name}?signature=of-the-store"), Content_Length="0")
        else:
            request.reply(200, FILES[name])

    def _info(self) -> dict[str, Any]:
        return {"id": "org/iris", "sha": COMMIT, "siblings": [_sibling(name) for name in FILES], "tags": []}


def _sibling(name: str) -> dict[str, Any]:
    content = FILES[name]
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
    about: dict[str, Any] = {"rfilename": name, "size": len(content), "blobId": blob}
    if name in LARGE:
        sha256 = hashlib.sha256(content).hexdigest()
        about["lfs"] = {"size": len(content), "sha256": sha256, "pointerSize": 130}
    return about


@pytest.fixture
def store(serve: Serve) -> Site:
    """Where large files are; the token is none of its business."""

    def answer(request: Request) -> None:
        assert "Authorization" not in request.headers
        content = FILES[urlsplit(request.path).path.lstrip("/")]
        asked = request.headers.get("Range")
        begin = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        about = {"Content_Range": f"bytes {begin}-{len(content) - 1}/{len(content)}"} if asked else {}
        request.begin(206 if asked else 200, Content_Length=str(len(content) - begin), **about)
        request.wfile.write(content[begin : begin + len(content) // 2 + 1])
        if len(content) - begin > len(content) // 2 + 1:
            request.break_off()

    return serve(answer)


@pytest.fixture
def hub(serve: Serve, store: Site, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Site]:
    def start(**options: Any) -> Site:
        site = serve(Hub(store, **options))
        monkeypatch.setenv("HF_ENDPOINT", site.url(""))
        return site

    return start


def _digest(files: dict[str, bytes]) -> str:
    return digest_of_folder({name: hashlib.sha256(text).hexdigest() for name, text in files.items()})


def test_a_model_is_fetched_of_one_commit_and_a_broken_file_read_on(
    hub: Callable[..., Site], store: Site, tmp_path: Path
) -> None:
    hub()
    result = fetch("hf://org/iris@v1.0", tmp_path, _digest(FILES))
    assert result.message == ""
    assert contents(tmp_path) == FILES
    half = len(FILES["model.safetensors"]) // 2 + 1
    assert [request.headers.get("Range") for request in store.seen] == [None, f"bytes={half}-"]


@pytest.mark.parametrize(
    ("path", "files"),
    [
        ("/onnx/", {"model.onnx": FILES["onnx/model.onnx"], "fp16/model.onnx": FILES["onnx/fp16/model.onnx"]}),
        ("/onnx/model.onnx", {"model.onnx": FILES["onnx/model.onnx"]}),
        ("/config.json", {"config.json": FILES["config.json"]}),
    ],
)
def test_a_part_of_it_may_be_named(
    path: str, files: dict[str, bytes], hub: Callable[..., Site], tmp_path: Path
) -> None:
    hub()
    assert fetch(f"hf://org/iris{path}", tmp_path, None).message == ""
    assert contents(tmp_path) == files


def test_the_token_of_the_secret_is_sent_and_never_shown(
    hub: Callable[..., Site], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    hub(private=True)
    refused = fetch("hf://org/iris", tmp_path, None)
    assert (refused.reason, refused.permanent) == ("AccessDenied", True)
    assert "HF_TOKEN in the Secret" in refused.message
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert fetch("hf://org/iris", tmp_path, None).message == ""
    assert contents(tmp_path) == FILES
    out = capfd.readouterr()
    assert TOKEN not in out.out + out.err


@pytest.mark.parametrize("uri", ["hf://org/other", "hf://org/iris@gone", "hf://org/iris/missing.bin"])
def test_what_is_not_there_is_told(uri: str, hub: Callable[..., Site], tmp_path: Path) -> None:
    hub()
    result = fetch(uri, tmp_path, None)
    assert (result.reason, result.permanent) == ("NotFound", True)
    assert uri in result.message or "missing.bin" in result.message


def test_a_hub_that_does_not_answer_may_do_so_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    result = fetch("hf://org/iris", tmp_path, None)
    assert (result.reason, result.permanent) == ("StoreUnreachable", False)


def test_another_content_than_the_hub_vouches_for_is_not_used(
    hub: Callable[..., Site], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub()
    right = _sibling

    def wrong(name: str) -> dict[str, Any]:
        about = right(name)
        if "lfs" in about:
            about["lfs"]["sha256"] = "0" * 64
        return about

    monkeypatch.setattr("tests.unit.fetch.test_hub._sibling", wrong)
    result = fetch("hf://org/iris", tmp_path, None)
    assert result.reason == "DigestMismatch"
    assert contents(tmp_path) == {}


@pytest.mark.parametrize("uri", ["hf://iris", "hf://org/iris@", "hf://org//x"])
def test_a_reference_that_is_none_is_told(uri: str, tmp_path: Path) -> None:
    result = fetch(uri, tmp_path, None)
    assert (result.reason, result.permanent) == ("InvalidUri", True)
