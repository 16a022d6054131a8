from __future__ import annotations

from pathlib import Path

import pytest
from modelswap.fetch.__main__ import Options, fetch

from .conftest import Put, Request, Serve, contents


@pytest.mark.requirement("MM-8")
@pytest.mark.parametrize("uri", ["s3://models/large/a", "s3://models/large/"])
def test_what_is_too_large_is_not_begun(uri: str, put: Put, tmp_path: Path) -> None:
    put("large/a", b"x" * 1001)
    result = fetch(uri, tmp_path, None, Options(max_bytes=1000))
    assert (result.reason, result.permanent) == ("TooLarge", True)
    assert "spec.artifact.maxBytes" in result.message
    assert "1001 bytes" in result.message
    assert list(tmp_path.rglob("a")) == []
    assert fetch(uri, tmp_path, None, Options(max_bytes=1001)).reason == ""


@pytest.mark.requirement("MM-8")
def test_what_does_not_tell_its_size_is_stopped_on_the_way(serve: Serve, tmp_path: Path) -> None:
    def answer(request: Request) -> None:
        request.begin(200, Transfer_Encoding="chunked")
        for _ in range(100):
            request.wfile.write(b"3e8\r\n" + b"x" * 1000 + b"\r\n")
        request.wfile.write(b"0\r\n\r\n")

    site = serve(answer)
    result = fetch(site.url("/m.bin"), tmp_path, None, Options(max_bytes=50_000))
    assert (result.reason, result.permanent) == ("TooLarge", True)
    assert contents(tmp_path) == {}
    assert len(site.seen) == 1
