"""Connections that break, runs that are cut off, and what stays of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
from modelswap.fetch import object_store, retry
from modelswap.fetch.__main__ import fetch

from .conftest import Request, Serve, contents

CONTENT = bytes(i % 251 for i in range(1_000_000))
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def dropping(content: bytes, after: int) -> Callable[[Request], None]:
    """A server with ranges that drops each connection after so many bytes."""

    def answer(request: Request) -> None:
        asked = request.headers.get("Range")
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
        headers = {"Content_Length": str(len(content) - start), "ETag": '"1"'}
        if asked:
            headers["Content_Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        request.begin(206 if asked else 200, **headers)
        request.wfile.write(content[start : start + after])
        if start + after < len(content):
            request.break_off()

    return answer


def test_a_store_that_drops_every_connection_is_read_to_the_end(
    serve: Serve, tls: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tls[1]))
    site = serve(dropping(CONTENT, 60_000), tls=tls[0])
    result = fetch(site.url("/m.bin", host="localhost"), tmp_path / "to", SHA256)
    assert (result.message, result.bytes) == ("", len(CONTENT))
    assert contents(tmp_path / "to") == {"m.bin": CONTENT}
    assert len(site.seen) > len(retry.PAUSE_SECONDS) + 1, "more attempts than without progress"


def test_a_store_that_gives_nothing_is_given_up(serve: Serve, tmp_path: Path) -> None:
    site = serve(dropping(CONTENT, 0))
    result = fetch(site.url("/m.bin"), tmp_path, None)
    assert (result.reason, result.permanent) == ("ShortRead", False)
    assert len(site.seen) == len(retry.PAUSE_SECONDS) + 1


def test_a_store_that_stops_giving_is_given_up(serve: Serve, tmp_path: Path) -> None:
    def answer(request: Request) -> None:
        dropping(CONTENT, 60_000 if len(request.server.seen) < 4 else 0)(request)

    site = serve(answer)
    assert fetch(site.url("/m.bin"), tmp_path, None).reason == "ShortRead"
    assert len(site.seen) == 3 + len(retry.PAUSE_SECONDS)


def _bucket(files: dict[str, bytes], broken: list[str]) -> Callable[[Request], None]:
    """A store that answers requests for the broken ones with 503."""

    def answer(request: Request) -> None:
        name = request.path.partition("?")[0].rpartition("/")[2]
        if "list-type" in request.path:
            entries = "".join(
                f"<Contents><Key>m/{name}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>"
                f"<ETag>&quot;{hashlib.md5(text, usedforsecurity=False).hexdigest()}&quot;</ETag>"
                f"<Size>{len(text)}</Size></Contents>"
                for name, text in files.items()
            )
            namespace = "http://s3.amazonaws.com/doc/2006-03-01/"
            body = f'<ListBucketResult xmlns="{namespace}"><IsTruncated>false</IsTruncated>{entries}</ListBucketResult>'
            request.reply(200, body.encode(), Content_Type="application/xml")
        elif name in broken:
            request.reply(503)
        else:
            text = files[name]
            request.reply(
                206, text, Content_Range=f"bytes 0-{len(text) - 1}/{len(text)}",
                ETag=f'"{hashlib.md5(text, usedforsecurity=False).hexdigest()}"',
                Last_Modified="Thu, 01 Jan 2026 00:00:00 GMT",
            )  # fmt: skip

    return answer


def _asked_for(seen: list[Request], name: str) -> int:
    return sum(request.path.partition("?")[0].endswith(f"/{name}") for request in seen)


def test_a_further_run_keeps_what_came_whole(serve: Serve, credentials: Callable[..., None], tmp_path: Path) -> None:
    files, broken = {"a": b"first", "b": b"second", "c": b"third"}, ["c"]
    site = serve(_bucket(files, broken))
    credentials(site.port)
    first = fetch("s3://bucket/m/", tmp_path, None)
    assert (first.reason, first.permanent) == ("StoreUnreachable", False)
    assert _asked_for(site.seen, "a") == 1, "kept over the attempts of one run"
    broken.clear()
    # A crash of the node may leave anything in a file; another may have changed in the store; a third has gone.
    (tmp_path / ".fetching/files/b").write_bytes(b"SECOND")
    (tmp_path / ".fetching/files/gone").write_bytes(b"x")
    result = fetch("s3://bucket/m/", tmp_path, None)
    assert result.message == ""
    assert contents(tmp_path) == files
    assert [_asked_for(site.seen, name) for name in ("a", "b")] == [1, 2]


def test_a_file_that_has_changed_between_two_runs_is_fetched_anew(
    serve: Serve, credentials: Callable[..., None], tmp_path: Path
) -> None:
    files, broken = {"a": b"first", "c": b"third"}, ["c"]
    site = serve(_bucket(files, broken))
    credentials(site.port)
    fetch("s3://bucket/m/", tmp_path, None)
    files["a"] = b"other"
    broken.clear()
    assert fetch("s3://bucket/m/", tmp_path, None).message == ""
    assert contents(tmp_path) == files


def test_a_broken_range_of_a_large_object_is_asked_for_again(
    serve: Serve, credentials: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_store, "RANGE_BYTES", 1000)
    text = CONTENT[:2500]
    calls: list[str] = []

    def answer(request: Request) -> None:
        headers = {"ETag": '"1"', "Last_Modified": "Thu, 01 Jan 2026 00:00:00 GMT"}
        asked = request.headers.get("Range")
        if not asked:
            request.begin(200, Content_Length=str(len(text)), **headers)
            return
        calls.append(asked)
        if len(calls) == 2:
            request.reply(500)
            return
        first, last = map(int, asked.removeprefix("bytes=").split("-"))
        request.reply(206, text[first : last + 1], Content_Range=f"bytes {first}-{last}/{len(text)}", **headers)

    credentials(serve(answer).port)
    assert fetch("s3://bucket/m.bin", tmp_path, None).message == ""
    assert contents(tmp_path) == {"m.bin": text}
    assert calls == ["bytes=0-999", "bytes=1000-1999", "bytes=1000-1999", "bytes=2000-2499"]
