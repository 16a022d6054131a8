from __future__ import annotations

import json
from pathlib import Path

import pytest
from localcluster import pki
from localcluster.errors import LocalClusterError
from localcluster.layout import Layout
from localcluster.parts import PARTS, configuration, write_configuration


def test_clusters_of_two_names_share_only_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MODELSWAP_CACHE", str(tmp_path))
    monkeypatch.delenv("MODELSWAP_STATE", raising=False)
    monkeypatch.delenv("MODELSWAP_CLUSTER", raising=False)
    usual = Layout.from_environment()
    monkeypatch.setenv("MODELSWAP_CLUSTER", "other")
    other = Layout.from_environment()
    assert usual.name == "modelswap"
    assert usual.cache == other.cache
    assert len({usual.state, other.state, usual.netns, other.netns, usual.lock, other.lock}) == 6
    roots = {json.loads(configuration(each)["kubelet.json"])["cgroupRoot"] for each in (usual, other)}
    assert roots == {"/modelswap", "/other"}


@pytest.mark.parametrize("name", ["../etc", "Upper", "a_b", "-a", "a-", "a" * 33, "a b"])
def test_a_name_that_no_node_could_have_is_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("MODELSWAP_CLUSTER", name)
    with pytest.raises(LocalClusterError, match="MODELSWAP_CLUSTER"):
        Layout.from_environment()


def test_every_command_of_a_part_is_told_from_other_clusters(layout: Layout) -> None:
    # A lost process is found by its words: they must name the state folder.
    for part in PARTS:
        assert any(str(layout.state) in word for word in part.command(layout, layout.cache)[1:]), part.name


def test_configuration_is_left_alone_when_it_is_the_same(layout: Layout) -> None:
    layout.state.mkdir()
    write_configuration(layout)
    before = {path.name: path.stat().st_mtime_ns for path in layout.state.iterdir()}
    write_configuration(layout)
    assert {path.name: path.stat().st_mtime_ns for path in layout.state.iterdir()} == before
    (layout.state / "kubelet.json").write_text("{}")
    write_configuration(layout)
    assert json.loads((layout.state / "kubelet.json").read_text())["cgroupDriver"] == "cgroupfs"


def test_every_part_speaks_as_itself(layout: Layout) -> None:
    subjects = {identity.common_name for identity in pki.identities(layout)}
    assert len(subjects) == len(pki.identities(layout))
    masters = {identity.name for identity in pki.identities(layout) if identity.organization == "system:masters"}
    assert masters == {"admin", "apiserver-kubelet-client"}
