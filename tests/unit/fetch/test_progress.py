from __future__ import annotations

import json
from pathlib import Path

import pytest
from modelswap.api.agent import FetchProgress
from modelswap.fetch.__main__ import Options, fetch
from modelswap.fetch.progress import Progress

from .conftest import Put


def test_the_file_tells_of_every_run(put: Put, tmp_path: Path) -> None:
    file = tmp_path / "progress.json"
    uri = "s3://models/progress/m.bin"
    assert fetch(uri, tmp_path / "to", None, Options(progress=file)).reason == "NotFound"
    first = json.loads(file.read_text())
    assert set(first) == {"bytes", "startedAt", "attempt"}
    assert (first["bytes"], first["attempt"]) == (0, 1)
    put("progress/m.bin", b"x" * 1000)
    assert fetch(uri, tmp_path / "to", None, Options(progress=file)).reason == ""
    second = json.loads(file.read_text())
    assert (second["bytes"], second["totalBytes"], second["attempt"]) == (1000, 1000, 2)
    assert second["startedAt"].endswith("Z")
    assert second["startedAt"] <= second["finishedAt"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["progress.json", "to"]


def test_it_is_written_at_most_once_a_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("modelswap.fetch.progress.time.monotonic", lambda: now)
    told = Progress(tmp_path / "progress.json")
    seen = []
    for step in range(1, 31):
        now = 100.0 + step / 10
        told(step, 30)
        seen.append(FetchProgress.model_validate_json((tmp_path / "progress.json").read_text()).bytes)
    assert sorted(set(seen)) == [0, 10, 20, 30]


@pytest.mark.parametrize("place", ["missing/progress.json", "."])
def test_a_place_that_cannot_be_written_is_no_failure(place: str, put: Put, tmp_path: Path) -> None:
    put("progress/other.bin", b"x")
    result = fetch("s3://models/progress/other.bin", tmp_path / "to", None, Options(progress=tmp_path / place))
    assert result.reason == ""


def test_a_broken_file_begins_anew(tmp_path: Path) -> None:
    (tmp_path / "progress.json").write_text("{")
    Progress(tmp_path / "progress.json")
    assert FetchProgress.model_validate_json((tmp_path / "progress.json").read_text()).attempt == 1
