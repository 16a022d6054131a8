from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Callable
from pathlib import Path
from xml.sax.saxutils import escape

import pytest
from modelswap.fetch import object_store
from modelswap.fetch.__main__ import fetch
from modelswap.fetch.artifact import Artifact
from modelswap.fetch.errors import FetchError

from .conftest import SECRET, Put, Request, Serve, contents, unchanged

BY_HAND = r"find . -type f -printf '%P\n' | LC_ALL=C sort | xargs -d '\n' sha256sum | sha256sum"


def test_a_folder_comes_with_all_its_files_and_the_digest_that_a_person_gets(put: Put, tmp_path: Path) -> None:
    files = {"model.joblib": b"m" * 3000, "sub/a b+c.txt": b"t", "ö/100%.txt": b"p", "a%20b": b"q", "empty": b""}
    for name, content in files.items():
        put(f"whole/1.0.0/{name}", content)
    put("whole/1.0.00/other", b"of a neighbour")
    result = fetch("s3://models/whole/1.0.0/", tmp_path, None)
    assert contents(tmp_path) == files
    by_hand = subprocess.run(["bash", "-c", BY_HAND], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert result.digest == f"sha256:{by_hand.split()[0]}"
    assert (result.reason, result.bytes) == ("", sum(map(len, files.values())))


def test_one_object_comes_in_ranges(put: Put, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_store, "RANGE_BYTES", 1000)
    content = bytes(i % 251 for i in range(5_500))
    put("single/a model.bin", content)
    sha256 = hashlib.sha256(content).hexdigest()
    result = fetch("s3://models/single/a model.bin", tmp_path, sha256)
    assert contents(tmp_path) == {"a model.bin": content}
    assert result.digest == f"sha256:{sha256}"


@pytest.mark.requirement("MM-8")
def test_an_artifact_with_another_sum_is_refused_and_replaces_nothing(put: Put, tmp_path: Path) -> None:
    put("sum/model.bin", b"good")
    fetch("s3://models/sum/model.bin", tmp_path, None)
    put("sum/model.bin", b"changed")
    good = hashlib.sha256(b"good").hexdigest()
    with unchanged(tmp_path):
        result = fetch("s3://models/sum/model.bin", tmp_path, good)
    assert (result.reason, result.permanent) == ("ChecksumMismatch", True)
    assert good in result.message
    assert hashlib.sha256(b"changed").hexdigest() in result.message


def test_what_an_earlier_attempt_left_is_gone(put: Put, tmp_path: Path) -> None:
    put("clean/model.bin", b"new")
    for left in (".fetching/half.bin", "old/model.bin", "other.bin"):
        (tmp_path / left).parent.mkdir(exist_ok=True)
        (tmp_path / left).write_bytes(b"old")
    fetch("s3://models/clean/", tmp_path, None)
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")] == ["model.bin"]


@pytest.mark.parametrize("uri", ["s3://models/none", "s3://models/none/", "s3://none/x", "s3://none/x/"])
def test_what_is_not_there_is_not_asked_for_again(
    uri: str, store_process: int, credentials: Callable[..., None], tmp_path: Path
) -> None:
    credentials(store_process)
    result = fetch(uri, tmp_path, None)
    assert (result.reason, result.permanent) == ("NotFound", True)
    assert uri in result.message


@pytest.mark.parametrize("uri", ["s3://models/secret/x", "s3://models/secret/"])
def test_a_wrong_secret_is_told_and_not_shown(
    uri: str, put: Put, store_process: int, credentials: Callable[..., None], tmp_path: Path
) -> None:
    put("secret/x", b"x")
    credentials(store_process, secret=f"not-{SECRET}")
    result = fetch(uri, tmp_path, None)
    assert (result.reason, result.permanent) == ("AccessDenied", True)
    assert "spec.artifact.secretRef" in result.message
    assert SECRET not in result.message


def test_an_object_that_changes_midway_is_not_mixed(put: Put) -> None:
    put("changing/model.bin", b"first")
    source = Artifact("s3://models/changing/model.bin").source
    [file] = source.files()
    put("changing/model.bin", b"other")
    with pytest.raises(FetchError, match="changed while it was fetched"):
        list(source.read(file, 0))


def test_a_store_that_is_not_there_may_come_back(tmp_path: Path, credentials: Callable[..., None]) -> None:
    credentials(1)
    result = fetch("s3://models/x", tmp_path, None)
    assert (result.reason, result.permanent) == ("StoreUnreachable", False)


def _bucket(*keys: str) -> Callable[[Request], None]:
    """A store that holds these keys, whatever they are: real ones refuse some."""

    def answer(request: Request) -> None:
        if "list-type" not in request.path:
            request.reply(
                206, b"file!", Content_Range="bytes 0-4/5", ETag='"x"', Last_Modified="Thu, 01 Jan 2026 00:00:00 GMT"
            )
            return
        entries = "".join(
            f"<Contents><Key>{escape(key)}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>"
            f'<ETag>"x"</ETag><Size>{0 if key.endswith("/") else 5}</Size></Contents>'
            for key in keys
        )
        namespace = "http://s3.amazonaws.com/doc/2006-03-01/"
        listing = f'<ListBucketResult xmlns="{namespace}"><IsTruncated>false</IsTruncated>{entries}</ListBucketResult>'
        request.reply(200, listing.encode(), Content_Type="application/xml")

    return answer


def test_markers_of_folders_are_no_files(serve: Serve, credentials: Callable[..., None], tmp_path: Path) -> None:
    site = serve(_bucket("m/", "m/sub/", "m/sub/model.bin"))
    credentials(site.port)
    result = fetch("s3://bucket/m/", tmp_path, None)
    assert result.message == ""
    assert contents(tmp_path) == {"sub/model.bin": b"file!"}


@pytest.mark.requirement("MM-8")
@pytest.mark.parametrize("key", ["m/../../etc/cron.d/x", "m//etc/cron.d/x", "m/."])
def test_an_object_whose_name_leads_out_is_refused(
    key: str, serve: Serve, credentials: Callable[..., None], tmp_path: Path
) -> None:
    credentials(serve(_bucket("m/model.bin", key)).port)
    result = fetch("s3://bucket/m/", tmp_path / "in", None)
    assert (result.reason, result.permanent) == ("UnsafePath", True)
    assert contents(tmp_path) == {}


def test_an_account_that_is_missing_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_USE_EMULATOR"):
        monkeypatch.delenv(name, raising=False)
    result = fetch("az://container/model.bin", tmp_path, None)
    assert (result.reason, result.permanent) == ("InvalidStore", True)
    assert "Account must be specified" in result.message


def test_a_full_disk_is_told(put: Put, tmp_path: Path) -> None:
    put("full/model.bin", b"x")
    (tmp_path / "target").mkdir()
    full = tmp_path / "target" / ".fetching"
    full.symlink_to("/dev/full")
    result = fetch("s3://models/full/", tmp_path / "target", None)
    assert (result.reason, result.permanent) == ("WriteFailed", False)
