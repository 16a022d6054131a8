from __future__ import annotations

import io
import os
import stat
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from modelswap.fetch import limits
from modelswap.fetch.__main__ import Options, fetch
from modelswap.fetch.errors import FetchError
from modelswap.fetch.limits import Budget
from modelswap.fetch.unpack import Tree

from .conftest import Put, Serve, contents

MODES = {".tar": "w", ".tar.gz": "w:gz", ".tgz": "w:gz", ".tar.bz2": "w:bz2", ".tar.xz": "w:xz"}


def tar(*members: tuple[tarfile.TarInfo, bytes], mode: str = "w") -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode, format=tarfile.PAX_FORMAT) as archive:  # type: ignore[call-overload]
        for member, content in members:
            archive.addfile(member, io.BytesIO(content))
    return file.getvalue()


def member(name: str, content: bytes = b"", **more: Any) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for key, value in more.items():
        setattr(info, key, value)
    return info, content


def link(name: str, to: str, kind: bytes = tarfile.SYMTYPE) -> tuple[tarfile.TarInfo, bytes]:
    return member(name, type=kind, linkname=to)


def zipped(*files: tuple[str, bytes], mode: int = 0o100644) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files:
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, content)
    return file.getvalue()


def unpacked(content: bytes, folder: Path, max_bytes: int = 10**6) -> None:
    archive = folder.with_name("archive")
    archive.write_bytes(content)
    folder.mkdir(exist_ok=True)
    tree = Tree(folder, "the archive", Budget(max_bytes))
    tree.unpack(archive)
    tree.check_links()


@pytest.mark.parametrize("suffix", [*MODES, ".zip", ".TGZ"])
def test_an_archive_is_unpacked_and_its_sum_is_that_of_the_archive(suffix: str, put: Put, tmp_path: Path) -> None:
    files = {"model/a.bin": b"a" * 300_000, "b c/ö.txt": b"b", "empty": b""}
    if suffix == ".zip":
        content = zipped(*files.items())
    else:
        content = tar(*(member(name, text) for name, text in files.items()), mode=MODES[suffix.lower()])
    put(f"archives/model{suffix}", content)
    uri = f"s3://models/archives/model{suffix}"
    kept = fetch(uri, tmp_path / "kept", None, Options(keep_archive=True))
    assert contents(tmp_path / "kept") == {f"model{suffix}": content}
    result = fetch(uri, tmp_path / "unpacked", kept.digest.removeprefix("sha256:"))
    assert result.message == ""
    assert contents(tmp_path / "unpacked") == files
    assert (result.digest, result.bytes) == (kept.digest, len(content))


def test_archives_within_a_folder_stay_as_they_are(put: Put, tmp_path: Path) -> None:
    put("several/model.zip", zipped(("a", b"a")))
    assert fetch("s3://models/several/", tmp_path, None).message == ""
    assert list(contents(tmp_path)) == ["model.zip"]


@pytest.mark.requirement("MM-8")
def test_links_within_stay_and_no_right_is_taken_over(tmp_path: Path) -> None:
    unpacked(
        tar(
            member("v1/weights", b"w", mode=0o6755),
            link("current", "v1"),
            link("v1/up", "../v1/weights"),
            link("same", "v1/weights", tarfile.LNKTYPE),
            link("dangling", "later"),
        ),
        tmp_path / "to",
    )
    assert (tmp_path / "to/current/up").read_bytes() == b"w"
    assert (tmp_path / "to/same").stat().st_ino == (tmp_path / "to/v1/weights").stat().st_ino
    assert stat.S_IMODE((tmp_path / "to/v1/weights").stat().st_mode) & 0o7000 == 0


UNSAFE = {
    "absolute": [member("/etc/x", b"x")],
    "climbing": [member("a/../../x", b"x")],
    "link out": [link("x", "../outside")],
    "absolute link": [link("x", "/etc/passwd")],
    "link out, by way of another": [member("a/b/c/d"), link("a/b/c/up", "../.."), link("x", "a/b/c/up/../../..")],
    "link out and in again": [link("x", "../to/y"), member("y", b"y")],
    "through a link": [link("x", "."), member("x/y", b"y")],
    "over a link": [link("x", "y"), member("x", b"x")],
    "hard link out": [link("x", "../outside", tarfile.LNKTYPE)],
    "hard link to a link": [link("x", "y"), link("z", "x", tarfile.LNKTYPE)],
    "hard link through a link": [link("x", "."), member("y"), link("z", "x/y", tarfile.LNKTYPE)],
    "twice": [member("x", b"1"), member("./x", b"2")],
    "file as folder": [member("x", b"1"), member("x/y", b"2")],
    "fifo": [member("x", type=tarfile.FIFOTYPE)],
    "device": [member("x", type=tarfile.CHRTYPE, devmajor=1, devminor=3)],
    "long name": [member("x" * 300, b"x")],
    "the root itself": [link(".", "x")],
}


@pytest.mark.requirement("MM-8")
@pytest.mark.parametrize("name", UNSAFE)
def test_what_leads_out_is_refused(name: str, put: Put, tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("before")
    put("unsafe/model.tar", tar(*UNSAFE[name]))
    result = fetch("s3://models/unsafe/model.tar", tmp_path / "to", None)
    assert result.reason in ("UnsafeArchive", "UnsafePath")
    assert result.permanent
    assert contents(tmp_path / "to") == {}
    assert (tmp_path / "outside").read_text() == "before"


@pytest.mark.requirement("MM-8")
@pytest.mark.parametrize(
    "content",
    [
        zipped(("../x", b"x")),
        zipped(("/etc/x", b"x")),
        zipped(("x", b"../../outside"), mode=stat.S_IFLNK | 0o777),
        zipped(("x", b""), mode=stat.S_IFIFO | 0o644),
    ],
)
def test_zip_files_too(content: bytes, tmp_path: Path) -> None:
    with pytest.raises(FetchError) as caught:
        unpacked(content, tmp_path / "to")
    assert caught.value.reason in ("UnsafeArchive", "UnsafePath")


@pytest.mark.requirement("MM-8")
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_zip_file_that_holds_a_name_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="twice"):
        unpacked(zipped(("x", b"1"), ("x", b"2")), tmp_path / "to")


@pytest.mark.requirement("MM-8")
@pytest.mark.parametrize("pack", [lambda c: tar(member("bomb", c), mode="w:gz"), lambda c: zipped(("bomb", c))])
def test_a_bomb_is_stopped(pack: Callable[[bytes], bytes], put: Put, tmp_path: Path) -> None:
    packed = pack(bytes(5_000_000))
    assert len(packed) < 10_000
    name = "bomb.zip" if packed.startswith(b"PK") else "bomb.tgz"
    put(f"bombs/{name}", packed)
    result = fetch(f"s3://models/bombs/{name}", tmp_path, None, Options(max_bytes=1_000_000))
    assert (result.reason, result.permanent) == ("TooLarge", True)
    assert "spec.artifact.maxBytes" in result.message
    assert contents(tmp_path) == {}


def test_without_a_bound_an_archive_may_grow_only_so_much(
    put: Put, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "DEFAULT_EXPANSION_BYTES", 10**6)
    put("bombs/default.tgz", tar(member("bomb", bytes(5_000_000)), mode="w:gz"))
    assert fetch("s3://models/bombs/default.tgz", tmp_path, None).reason == "TooLarge"


@pytest.mark.parametrize("content", [tar(*(member(f"{i}") for i in range(60))), tar(member("/".join("a" * 60)))])
def test_too_many_entries_are_refused(content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_ENTRIES", 50)
    with pytest.raises(FetchError, match="more than 50 files"):
        unpacked(content, tmp_path / "to")


def _header_of(size: int) -> bytes:
    info = tarfile.TarInfo("pax")
    info.type, info.size = tarfile.XHDTYPE, size
    return info.tobuf(tarfile.USTAR_FORMAT) + bytes(1024)


GOOD = tar(member("a", b"a" * 2000), mode="w:gz")


BROKEN = {
    "nothing": b"",
    "no archive": b"no archive",
    "gzip cut off": GOOD[:-30],
    "a header larger than the archive": _header_of(2**30),
    "zip cut off": zipped(("a", b"a" * 2000))[:-40],
    "xz cut off": tar(member("a", b"a" * 2000), mode="w:xz")[:70],
    "an unknown compression": b"\x28\xb5\x2f\xfd" + bytes(100),
    "zip with a wrong byte": zipped(("a", b"a" * 2000)).replace(b"KL\x1c", b"KL\x1d"),
}


@pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)
def test_a_broken_archive_is_told(content: bytes, tmp_path: Path) -> None:
    with pytest.raises(FetchError) as caught:
        unpacked(content, tmp_path / "to")
    assert (caught.value.reason, caught.value.permanent) == ("BrokenArchive", True)


def test_an_archive_over_http_is_unpacked(serve: Serve, tmp_path: Path) -> None:
    site = serve(lambda request: request.reply(200, GOOD))
    assert fetch(site.url("/model.tgz?sig=x"), tmp_path, None).message == ""
    assert contents(tmp_path) == {"a": b"a" * 2000}


PARTS = st.sampled_from(["a", "b", "..", ".", "", "/", "up", "\u00f6", "x" * 256])
NAMES = st.lists(PARTS, min_size=1, max_size=5).map("/".join)
KINDS = st.sampled_from(
    [tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE]
)
MEMBERS = st.lists(st.tuples(NAMES, KINDS, NAMES, st.binary(max_size=20)), max_size=8)


def _hostile(entries: list[tuple[str, bytes, str, bytes]]) -> bytes:
    return tar(
        *(
            member(name, text if kind == tarfile.REGTYPE else b"", type=kind, linkname=to, mode=0o6777)
            for name, kind, to, text in entries
        )
    )


def _everything(folder: Path) -> dict[str, object]:
    found: dict[str, object] = {}
    for path in _paths(folder):
        state = path.lstat()
        found[str(path)] = (state.st_mode, path.read_bytes() if stat.S_ISREG(state.st_mode) else None)
    return found


def _paths(folder: Path) -> list[Path]:
    """All below it. `Path.rglob` asks where links lead, and fails at a link to a name that is too long."""
    return sorted(Path(top, name) for top, folders, files in os.walk(folder) for name in (*folders, *files))


def _check_nothing_got_out(content: bytes, *, layer: bool) -> None:
    with tempfile.TemporaryDirectory() as base:
        _check_in(Path(base).resolve(), content, layer=layer)


def _check_in(base: Path, content: bytes, *, layer: bool) -> None:
    outside, inside = base / "outside", base / "outside/in/to"
    inside.mkdir(parents=True)
    (outside / "a").write_bytes(b"before")
    (base / "archive").write_bytes(content)
    before = _everything(outside)
    tree = Tree(inside, "the archive", Budget(10**5))
    try:
        (tree.unpack_layer if layer else tree.unpack)(base / "archive")
        tree.check_links()
    except FetchError:
        whole = False
    else:
        whole = True
    after = _everything(outside)
    assert {name: value for name, value in after.items() if not name.startswith(f"{inside}/")} == before
    for path in _paths(inside):
        mode = path.lstat().st_mode
        assert mode & 0o6000 == 0
        assert stat.S_IFMT(mode) in (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK)
        if whole and path.is_symlink():
            assert Path(os.path.realpath(path)).is_relative_to(inside)


@pytest.mark.requirement("MM-8")
@settings(max_examples=300)
@given(MEMBERS, st.booleans())
@example([("a", tarfile.SYMTYPE, "..", b""), ("a/a", tarfile.REGTYPE, "", b"x")], True)
@example([(".wh..wh..opq", tarfile.REGTYPE, "", b"")], True)
@example([("a", tarfile.SYMTYPE, "x" * 256, b"")], False)
def test_nothing_that_an_archive_holds_gets_out(entries: list[tuple[str, bytes, str, bytes]], layer: bool) -> None:
    _check_nothing_got_out(_hostile(entries), layer=layer)


CHANGES = st.lists(st.tuples(st.integers(0, 1600), st.integers(0, 255)), max_size=10)


@pytest.mark.requirement("MM-8")
@settings(max_examples=200)
@given(CHANGES)
def test_a_damaged_archive_does_no_harm(changes: list[tuple[int, int]]) -> None:
    content = bytearray(tar(member("a/b", b"text"), link("c", "a/b"), member("d", b"more")))
    for position, value in changes:
        content[position] = value
    _check_nothing_got_out(bytes(content), layer=False)


FILES = st.lists(st.tuples(NAMES, st.binary(max_size=20)), max_size=6)


@pytest.mark.requirement("MM-8")
@settings(max_examples=100)
@given(FILES, st.sampled_from([0o100644, 0o120777, 0o104755]))
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_nothing_that_a_zip_file_holds_gets_out(files: list[tuple[str, bytes]], mode: int) -> None:
    _check_nothing_got_out(zipped(*files, mode=mode), layer=False)
