from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path

import pytest
from modelswap.fetch.__main__ import Options, fetch

from .conftest import Request, Serve, contents
from .servers import wait_until

CONTENT = bytes(i % 251 for i in range(700_000))
HALF = 400_000


def test_names_and_signatures_of_an_address_go_to_the_server_as_they_are(serve: Serve, tmp_path: Path) -> None:
    site = serve(lambda request: request.reply(200, b"x"))
    result = fetch(site.url("/a/b%20c%2Bd.bin?X-Amz-Signature=se/cr%2Bet"), tmp_path, None)
    assert result.reason == ""
    assert [request.path for request in site.seen] == ["/a/b%20c%2Bd.bin?X-Amz-Signature=se/cr%2Bet"]
    assert contents(tmp_path) == {"b c+d.bin": b"x"}


def test_secrets_of_an_address_are_in_no_message(serve: Serve, tmp_path: Path) -> None:
    site = serve(lambda request: request.reply(404))
    result = fetch(site.url("/m.bin?sig=SIGNATURE", user="me:PASSWORD@"), tmp_path, None)
    assert result.reason == "NotFound"
    assert site.url("/m.bin") in result.message
    assert "SIGNATURE" not in result.message
    assert "PASSWORD" not in result.message


def test_user_and_password_are_for_the_named_server_alone(serve: Serve, tmp_path: Path) -> None:
    other = serve(lambda request: request.reply(200, b"x"))
    site = serve(lambda request: request.reply(302, Location=other.url("/m.bin", host="localhost")))
    assert fetch(site.url("/m.bin", user="me:p%40ss@"), tmp_path, None).reason == ""
    assert site.seen[0].headers["Authorization"] == f"Basic {base64.b64encode(b'me:p@ss').decode()}"
    assert "Authorization" not in other.seen[0].headers


@pytest.mark.parametrize("secure", [True, False])
def test_a_connection_that_breaks_is_taken_up_where_it_broke(
    secure: bool, serve: Serve, tls: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tls[1]))

    def answer(request: Request) -> None:
        if "Range" not in request.headers:
            request.begin(200, Content_Length=str(len(CONTENT)), ETag='"1"')
            request.wfile.write(CONTENT[:HALF])
            request.break_off()
            return
        start = int(request.headers["Range"].removeprefix("bytes=").removesuffix("-"))
        request.reply(
            206, CONTENT[start:], ETag='"1"', Content_Range=f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}"
        )

    site = serve(answer, tls=tls[0] if secure else None)
    result = fetch(site.url("/m.bin", host="localhost" if secure else "127.0.0.1"), tmp_path / "to", None)
    assert result.message == ""
    assert contents(tmp_path / "to") == {"m.bin": CONTENT}
    assert [request.headers.get("If-Range") for request in site.seen] == [None, '"1"']


@pytest.mark.parametrize("e_tag", ['"{}"', 'W/"1"', ""])
def test_halves_of_two_files_are_never_joined(e_tag: str, serve: Serve, tmp_path: Path) -> None:
    def answer(request: Request) -> None:
        count = len(request.server.seen)
        request.begin(200, Content_Length=str(len(CONTENT)), ETag=e_tag.format(count))
        request.wfile.write(CONTENT[:HALF] if count == 1 else b"x" * HALF)
        request.break_off()

    result = fetch(serve(answer).url("/m.bin"), tmp_path, None)
    assert (result.reason, result.permanent) in (("ArtifactChanged", False), ("ShortRead", False))
    assert contents(tmp_path) == {}


def test_a_server_without_ranges_that_breaks_is_read_anew(serve: Serve, tmp_path: Path) -> None:
    def answer(request: Request) -> None:
        request.begin(200, Content_Length=str(len(CONTENT)), ETag='"1"')
        if len(request.server.seen) == 1:
            request.wfile.write(CONTENT[:HALF])
            request.break_off()
        else:
            request.wfile.write(CONTENT)

    result = fetch(serve(answer).url("/m.bin"), tmp_path, hashlib.sha256(CONTENT).hexdigest())
    assert result.message == ""
    assert contents(tmp_path) == {"m.bin": CONTENT}


@pytest.mark.parametrize("broken", [False, True])
def test_a_server_may_leave_the_length_untold(broken: bool, serve: Serve, tmp_path: Path) -> None:
    def answer(request: Request) -> None:
        request.begin(200, Transfer_Encoding="chunked")
        request.wfile.write(b"5\r\nhello\r\n")
        if broken:
            request.break_off()
        else:
            request.wfile.write(b"0\r\n\r\n")

    result = fetch(serve(answer).url("/m.bin"), tmp_path, None)
    assert result.reason == ("ShortRead" if broken else "")
    assert contents(tmp_path) == ({} if broken else {"m.bin": b"hello"})


@pytest.mark.parametrize("status", [429, 503])
def test_a_server_that_is_busy_is_asked_again(status: int, serve: Serve, tmp_path: Path) -> None:
    site = serve(lambda request: request.reply(200 if len(request.server.seen) > 2 else status, b"x"))
    assert fetch(site.url("/m.bin"), tmp_path, None).reason == ""
    assert len(site.seen) == 3


def test_a_server_that_stays_busy_is_given_up_for_now(serve: Serve, tmp_path: Path) -> None:
    site = serve(lambda request: request.reply(503))
    result = fetch(site.url("/m.bin"), tmp_path, None)
    assert (result.reason, result.permanent, len(site.seen)) == ("StoreUnreachable", False, 6)


@pytest.mark.parametrize(
    ("status", "reason"), [(401, "AccessDenied"), (403, "AccessDenied"), (404, "NotFound"), (400, "Refused")]
)
def test_a_refusal_is_taken_at_once(status: int, reason: str, serve: Serve, tmp_path: Path) -> None:
    site = serve(lambda request: request.reply(status))
    result = fetch(site.url("/m.bin"), tmp_path, None)
    assert (result.reason, result.permanent, len(site.seen)) == (reason, True, 1)


@pytest.mark.parametrize(
    "uri",
    ["ftp://host/x", "s3:///x", "model.bin", "http://[::1/x", "http://127.0.0.1:port/x", "https://127.0.0.1/folder/"],
)
def test_an_address_that_cannot_be_fetched_is_told(uri: str, tmp_path: Path) -> None:
    result = fetch(uri, tmp_path, None)
    assert (result.reason, result.permanent) == ("InvalidUri", True)


def test_what_has_come_of_a_slow_file_is_told_at_once(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modelswap.fetch.progress.WRITE_SECONDS", 0.0)
    file = tmp_path / "progress.json"
    seen = []

    def answer(request: Request) -> None:
        request.begin(200, Content_Length=str(len(CONTENT)))
        request.wfile.write(CONTENT[:1000])
        wait_until(lambda: json.loads(file.read_text())["bytes"] == 1000)
        seen.append(json.loads(file.read_text()))
        request.wfile.write(CONTENT[1000:])

    site = serve(answer)
    assert fetch(site.url("/m.bin"), tmp_path / "to", None, Options(progress=file)).message == ""
    assert len(site.seen) == 1
    assert [(told["bytes"], told["totalBytes"]) for told in seen] == [(1000, len(CONTENT))]


def test_an_unknown_certificate_is_refused(serve: Serve, tls: tuple[Path, Path], tmp_path: Path) -> None:
    site = serve(lambda request: request.reply(200, b"x"), tls=tls[0])
    result = fetch(site.url("/m.bin", host="localhost"), tmp_path / "to", None)
    assert (result.reason, result.permanent) == ("InvalidCertificate", True)


def test_nothing_leads_from_https_to_http(
    serve: Serve, tls: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tls[1]))
    plain = serve(lambda request: request.reply(200, b"x"))
    site = serve(lambda request: request.reply(302, Location=plain.url("/m.bin")), tls=tls[0])
    result = fetch(site.url("/m.bin", host="localhost"), tmp_path / "to", None)
    assert (result.reason, result.permanent) == ("InsecureRedirect", True)
    assert plain.seen == []
