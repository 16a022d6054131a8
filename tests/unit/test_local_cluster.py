from __future__ import annotations

import json
import os
from pathlib import Path

from localcluster import tools
from localcluster.layout import Layout
from localcluster.parts import configuration
from localcluster.processes import PidFile, Process, start, stop


def layout(folder: Path) -> Layout:
    return Layout(name="test", state=folder / "state", cache=folder / "cache")


def test_a_recycled_pid_is_not_taken_for_ours(tmp_path: Path) -> None:
    file = PidFile(tmp_path / "part.pid")
    file.write(Process(os.getpid(), "1"))
    assert file.read() is None
    stop(file)  # must not end this very process
    mine = Process.of(os.getpid())
    assert mine is not None
    file.write(mine)
    assert file.read() == mine


def test_a_part_is_started_and_ended_by_pid(tmp_path: Path) -> None:
    file = PidFile(tmp_path / "part.pid")
    start(["sleep", "60"], env=dict(os.environ), log=tmp_path / "log", pid_file=file)
    process = file.read()
    assert process is not None
    stop(file)
    assert not process.alive
    assert not file.path.exists()


def test_configuration_names_only_its_own_folders(tmp_path: Path) -> None:
    files = configuration(layout(tmp_path))
    kubelet = json.loads(files["kubelet.json"])
    assert kubelet["containerRuntimeEndpoint"].startswith(f"unix://{tmp_path}")
    assert str(tmp_path) in files["containerd.toml"]


def test_the_tools_key_changes_with_the_pins(tmp_path: Path) -> None:
    (tmp_path / "go.mod").write_text("module a")
    (tmp_path / "go.sum").write_text("")
    before = tools.pins_key(tmp_path)
    (tmp_path / "go.mod").write_text("module b")
    assert tools.pins_key(tmp_path) != before
