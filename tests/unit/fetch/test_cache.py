from __future__ import annotations

import fcntl
import hashlib
import os
import threading
from pathlib import Path

import pytest
from modelswap.fetch import cache as cache_module
from modelswap.fetch.__main__ import Options, fetch
from modelswap.fetch.cache import Cache
from modelswap.fetch.manifest import digest_of_folder

from .conftest import Request, Serve, Site, contents

CONTENT = b"weights" * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "cache").mkdir()
    return tmp_path / "cache"


@pytest.fixture
def site(serve: Serve) -> Site:
    return serve(lambda request: request.reply(200, CONTENT))


def _options(folder: Path, *, namespace: str = "team", max_bytes: int = 10**6) -> Options:
    return Options(cache=Cache(folder, max_bytes, namespace))


def _put(cache: Cache, folder: Path, text: bytes) -> str:
    """An artifact of one file."""
    files = folder.parent / f"files-{text.decode()[:8]}"
    files.mkdir()
    (files / "m.bin").write_bytes(text)
    sha256 = hashlib.sha256(text).hexdigest()
    cache.put(sha256, files, len(text))
    return sha256


def _entries(folder: Path) -> set[str]:
    return {f"{path.parent.name}/{path.name}" for path in folder.glob("*/*")}


def test_the_second_pod_of_a_node_downloads_nothing(site: Site, folder: Path, tmp_path: Path) -> None:
    for pod in ("one", "two"):
        result = fetch(site.url("/m.bin"), tmp_path / pod, SHA256, _options(folder))
        assert (result.message, result.bytes) == ("", len(CONTENT))
        assert contents(tmp_path / pod) == {"m.bin": CONTENT}
    assert len(site.seen) == 1
    assert _entries(folder) == {f"team/{SHA256}"}


def test_namespaces_are_kept_apart(site: Site, folder: Path, tmp_path: Path) -> None:
    for namespace in ("team", "other"):
        fetch(site.url("/m.bin"), tmp_path / namespace, SHA256, _options(folder, namespace=namespace))
    assert len(site.seen) == 2
    with pytest.raises(ValueError, match="is no namespace"):
        Cache(folder, 1, "../other")


def test_what_has_no_sum_is_not_looked_for(site: Site, folder: Path, tmp_path: Path) -> None:
    for _ in range(2):
        assert fetch(site.url("/m.bin"), tmp_path / "to", None, _options(folder)).reason == ""
    assert len(site.seen) == 2
    assert _entries(folder) == set()


@pytest.mark.requirement("MM-8")
@pytest.mark.parametrize("damage", ["changed", "gone", "more", "link"])
def test_a_broken_entry_is_replaced(damage: str, site: Site, folder: Path, tmp_path: Path) -> None:
    fetch(site.url("/m.bin"), tmp_path / "one", SHA256, _options(folder))
    file = folder / "team" / SHA256 / "m.bin"
    if damage == "changed":
        file.write_bytes(b"x" * len(CONTENT))
    elif damage == "more":
        (file.parent / "other").write_bytes(b"x")
    else:
        file.unlink()
    if damage == "link":
        file.symlink_to("/etc/passwd")
    for pod in ("two", "three"):
        assert fetch(site.url("/m.bin"), tmp_path / pod, SHA256, _options(folder)).message == ""
        assert contents(tmp_path / pod) == {"m.bin": CONTENT}
    assert len(site.seen) == 2, "fetched anew, and kept anew"


def test_what_was_not_used_for_the_longest_time_goes_first(folder: Path, tmp_path: Path) -> None:
    cache = Cache(folder, 1000, "team")
    old, used = _put(cache, folder, b"old" * 100), _put(cache, folder, b"used" * 100)
    for age, sha256 in ((200, old), (300, used)):
        os.utime(folder / "team" / sha256, (age, age))
    assert cache.copy(used, tmp_path / "copy", lambda *_: None)
    new = _put(Cache(folder, 1000, "other"), folder, b"new" * 133)
    assert _entries(folder) == {f"team/{used}", f"other/{new}"}


def test_what_does_not_fit_is_not_kept_and_costs_nothing(folder: Path) -> None:
    cache = Cache(folder, 1000, "team")
    small = _put(cache, folder, b"small")
    _put(cache, folder, b"large" * 201)
    assert _entries(folder) == {f"team/{small}"}


def test_what_died_over_it_is_swept_and_what_lives_is_counted(folder: Path) -> None:
    cache = Cache(folder, 1000, "team")
    dead, alive = (folder / "team" / f".new-{c * 64}-900-x" for c in "da")
    for path in (dead, alive, folder / "team/.gone-x"):
        path.mkdir(parents=True)
        (path / "half").write_bytes(b"x")
    handle = os.open(alive, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    _put(cache, folder, b"little by little " * 7)
    assert _entries(folder) == {f"team/{alive.name}"}, "the one that lives has taken the room"
    os.close(handle)
    kept = _put(cache, folder, b"then " * 30)
    assert _entries(folder) == {f"team/{kept}"}


@pytest.mark.parametrize("trouble", ["a file", "locked"])
def test_trouble_with_the_cache_is_no_failure(
    trouble: str, site: Site, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    monkeypatch.setattr(cache_module, "LOCK_SECONDS", 0.1)
    if trouble == "a file":
        (folder / "team").write_bytes(b"")
    with (tmp_path / "cache/.lock").open("w") as lock:
        if trouble == "locked":
            fcntl.flock(lock, fcntl.LOCK_EX)
        result = fetch(site.url("/m.bin"), tmp_path / "to", SHA256, _options(folder))
    assert result.reason == ""
    assert contents(tmp_path / "to") == {"m.bin": CONTENT}
    assert "the node's cache cannot" in caplog.text


def test_a_full_volume_leaves_nothing_behind(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache_module, "_copy", full)
    _put(Cache(folder, 1000, "team"), folder, b"text")
    assert _entries(folder) == set()


def test_several_pods_at_once(serve: Serve, folder: Path, tmp_path: Path) -> None:
    texts = {f"/{i}/m.bin": f"{i}".encode() * 300 for i in range(6)}
    site = serve(lambda request: request.reply(200, texts[request.path]))
    failures: list[str] = []

    def pod(number: int) -> None:
        path = f"/{number % 6}/m.bin"
        sha256 = hashlib.sha256(texts[path]).hexdigest()
        result = fetch(site.url(path), tmp_path / f"pod-{number}", sha256, _options(folder, max_bytes=1000))
        if result.message or contents(tmp_path / f"pod-{number}") != {"m.bin": texts[path]}:
            failures.append(result.message)

    pods = [threading.Thread(target=pod, args=(number,)) for number in range(24)]
    for thread in pods:
        thread.start()
    for thread in pods:
        thread.join()
    assert failures == []
    kept = list(folder.glob("*/*/m.bin"))
    assert sum(path.stat().st_size for path in kept) <= 1000
    assert {path.parent.name for path in kept} <= {hashlib.sha256(text).hexdigest() for text in texts.values()}
    assert not list(folder.glob("*/.*"))


def test_a_folder_keeps_its_form(folder: Path, tmp_path: Path) -> None:
    files = tmp_path / "files"
    (files / "sub").mkdir(parents=True)
    (files / "sub/a").write_bytes(b"a")
    sha256 = digest_of_folder({"sub/a": hashlib.sha256(b"a").hexdigest()})
    cache = Cache(folder, 1000, "team")
    cache.put(sha256, files, 1)
    seen: list[tuple[int, int | None]] = []
    assert cache.copy(sha256, tmp_path / "copy", lambda *now: seen.append(now)) == (
        {"sub/a": hashlib.sha256(b"a").hexdigest()},
        1,
    )
    assert seen == [(1, 1)]


def test_what_was_downloaded_while_another_did_is_kept_once(folder: Path, tmp_path: Path, serve: Serve) -> None:
    def answer(request: Request) -> None:
        _put(Cache(folder, 10**6, "team"), folder, CONTENT)
        request.reply(200, CONTENT)

    assert fetch(serve(answer).url("/m.bin"), tmp_path / "to", SHA256, _options(folder)).message == ""
    assert _entries(folder) == {f"team/{SHA256}"}
