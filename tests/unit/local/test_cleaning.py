from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path

import pytest
from localcluster import cgroups, cluster, network
from localcluster.__main__ import command_of
from localcluster.errors import LocalClusterError
from localcluster.layout import Layout
from localcluster.parts import write_configuration


def test_a_state_folder_is_removed_with_all_that_a_cluster_wrote(layout: Layout) -> None:
    (layout.state / "containerd" / "deep").mkdir(parents=True)
    write_configuration(layout)
    layout.kubeconfig.touch()
    cluster.remove_state(layout)
    assert not layout.state.exists()
    cluster.remove_state(layout)


def test_what_no_cluster_wrote_is_left(layout: Layout) -> None:
    layout.state.mkdir()
    (layout.state / "thesis.tex").touch()
    write_configuration(layout)
    with pytest.raises(LocalClusterError, match=r"thesis\.tex"):
        cluster.remove_state(layout)
    assert [path.name for path in layout.state.iterdir()] == ["thesis.tex"]


def test_only_the_pods_of_the_network_are_its_own(tmp_path: Path) -> None:
    def record(network_name: str, container: str, namespace: str) -> None:
        interfaces = [{"name": "pods0"}, {"name": "eth0", "sandbox": f"/var/run/netns/{namespace}"}]
        (tmp_path / f"{network_name}-{container}-eth0").write_text(
            json.dumps({"networkName": network_name, "containerId": container, "result": {"interfaces": interfaces}})
        )

    record("swap", "c1", "cni-1")
    record("swap-other", "c2", "cni-2")
    (tmp_path / "swap-c3-eth0").write_text('{"networkName": "sw')
    assert network.pod_namespaces("swap", tmp_path) == {"c1": {"cni-1"}}


def test_a_branch_is_made_in_every_hierarchy_and_removed(tmp_path: Path) -> None:
    for hierarchy in ("memory", "pids"):
        (tmp_path / hierarchy).mkdir()
        (tmp_path / hierarchy / "cgroup.procs").touch()
    (tmp_path / "no-hierarchy").mkdir()
    cgroups.make("swap", tmp_path)
    cgroups.make("swap", tmp_path)
    (tmp_path / "pids" / "swap" / "kubepods" / "pod1").mkdir(parents=True)
    assert sorted(path.parent.name for path in tmp_path.glob("*/swap")) == ["memory", "pids"]
    cgroups.end("swap", tmp_path)
    assert not list(tmp_path.glob("*/swap"))


def test_the_dashes_of_a_command_stay_with_it() -> None:
    words = ["kubectl", "exec", "web", "--", "sh"]
    assert command_of(["--", *words]) == words
    assert command_of(words) == words


def test_groups_that_go_while_they_are_looked_at_are_no_failure(tmp_path: Path) -> None:
    branch = tmp_path / "memory" / "swap"
    for number in range(1000):
        (branch / f"pod{number}" / "container").mkdir(parents=True)
    (tmp_path / "memory" / "cgroup.procs").touch()
    remover = threading.Thread(target=shutil.rmtree, args=(branch,), kwargs={"ignore_errors": True})
    remover.start()
    cgroups.end("swap", tmp_path)
    remover.join()
    assert not branch.exists()
