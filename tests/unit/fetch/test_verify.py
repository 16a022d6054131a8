from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

import pytest
from modelswap.api.agent import FetchResult
from modelswap.fetch import verify
from modelswap.fetch.__main__ import Options, fetch

BY_HAND = r"find -L . -type f -printf '%P\n' | LC_ALL=C sort | xargs -d '\n' sha256sum | sha256sum"
URI = "pvc://claim/models"


def _verify(place: Path, sha256: str | None = None, max_bytes: int | None = None) -> FetchResult:
    return fetch(URI, place, sha256, Options(verify_only=True, max_bytes=max_bytes))


@pytest.fixture
def mounted(tmp_path: Path) -> Path:
    folder = tmp_path / "mounted"
    (folder / "blobs").mkdir(parents=True)
    (folder / "blobs/1").write_bytes(b"content")
    (folder / "ö b.txt").write_bytes(b"t")
    (folder / "model.bin").symlink_to("blobs/1")
    (folder / "current").symlink_to("blobs")
    return folder


@pytest.mark.requirement("MM-8")
def test_a_folder_has_the_digest_that_a_person_gets(mounted: Path) -> None:
    by_hand = subprocess.run(["bash", "-c", BY_HAND], cwd=mounted, capture_output=True, text=True, check=True).stdout
    before = sorted(os.walk(mounted))
    result = _verify(mounted, by_hand.split()[0])
    assert (result.reason, result.bytes) == ("", 22)
    assert result.digest == f"sha256:{by_hand.split()[0]}"
    assert sorted(os.walk(mounted)) == before, "nothing is written"
    wrong = _verify(mounted, "0" * 64)
    assert (wrong.reason, wrong.permanent) == ("ChecksumMismatch", True)
    assert URI in wrong.message


def test_one_file_has_its_own_digest(mounted: Path) -> None:
    result = _verify(mounted / "model.bin", hashlib.sha256(b"content").hexdigest())
    assert (result.reason, result.bytes) == ("", 7)


def test_what_is_too_large_is_told(mounted: Path) -> None:
    assert _verify(mounted, max_bytes=22).reason == ""
    assert _verify(mounted, max_bytes=21).reason == "TooLarge"


@pytest.mark.parametrize("folder", ["missing", "empty"])
def test_what_is_not_there_is_told(folder: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert _verify(tmp_path / folder).reason == "NotFound"


@pytest.mark.requirement("MM-8")
@pytest.mark.parametrize("to", ["/etc/passwd", "../outside", "missing", "loop", "."])
def test_links_that_lead_out_or_around_are_refused(to: str, mounted: Path) -> None:
    (mounted.parent / "outside").write_text("x")
    (mounted / "loop").symlink_to(to)
    result = _verify(mounted)
    assert (result.reason, result.permanent) == ("UnsafePath", True)


def test_what_is_no_file_is_refused(mounted: Path) -> None:
    os.mkfifo(mounted / "pipe")
    assert _verify(mounted).reason == "UnsafePath"


def test_too_many_files_are_refused(mounted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify, "MAX_ENTRIES", 3)
    assert _verify(mounted).reason == "TooLarge"


@pytest.mark.parametrize(
    ("uri", "words"),
    [("pvc://models/iris/", "is not mounted"), ("image://host/models/iris:1", "register a version with oci://")],
)
def test_what_is_not_mounted_is_told(uri: str, words: str, tmp_path: Path) -> None:
    result = fetch(uri, tmp_path / "missing", None, Options(verify_only=True))
    assert (result.reason, result.permanent) == ("NotFound", True)
    assert words in result.message
