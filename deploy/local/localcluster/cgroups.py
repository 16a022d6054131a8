"""The branch of the machine's control groups that holds the cluster's pods, and nothing else."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from .errors import LocalClusterError
from .layout import CGROUPS
from .processes import send, wait_for

END_SECONDS = 10


def make(name: str, top: Path = CGROUPS) -> None:
    """Make the branch in every hierarchy: the kubelet wants its root to be there."""
    if (top / "cgroup.controllers").exists():
        for controller in (top / "cgroup.controllers").read_text().split():
            with suppress(OSError):  # the kubelet names those that it needs and does not find
                (top / "cgroup.subtree_control").write_text(f"+{controller}")
    for hierarchy in _hierarchies(top):
        (hierarchy / name).mkdir(exist_ok=True)


def end(name: str, top: Path = CGROUPS) -> None:
    """End every process in the branch and remove it.

    Raises:
        LocalClusterError: a process or a group withstood.

    """
    branches = [hierarchy / name for hierarchy in _hierarchies(top) if (hierarchy / name).is_dir()]

    def empty() -> bool:
        left = set(_members(branches))
        for pid in left:
            send(pid, signal.SIGKILL)
        return not left

    if not wait_for(empty, END_SECONDS):
        raise LocalClusterError(f"processes of pods do not end: {sorted(_members(branches))}")
    if not wait_for(lambda: all(_removed(branch) for branch in branches), END_SECONDS):
        raise LocalClusterError(f"control groups of pods cannot be removed: {', '.join(map(str, branches))}")


def _removed(branch: Path) -> bool:
    for folder in _deepest_first(branch):
        with suppress(OSError):  # a process that has just been ended may still be in it
            folder.rmdir()
    return not branch.exists()


def _hierarchies(top: Path) -> list[Path]:
    """The one of cgroup v2, or those of v1; of names that are links to one another, one."""
    if (top / "cgroup.controllers").exists():
        return [top]
    return [
        folder for folder in sorted(top.iterdir()) if (folder / "cgroup.procs").exists() and not folder.is_symlink()
    ]


def _members(branches: Iterable[Path]) -> Iterator[int]:
    for branch in branches:
        for folder in _deepest_first(branch):
            with suppress(OSError):  # the container runtime removes groups too
                yield from map(int, (folder / "cgroup.procs").read_text().split())


def _deepest_first(branch: Path) -> list[Path]:
    """Of what is there: the container runtime removes groups meanwhile, at which `Path.rglob` would fail."""
    return [Path(folder) for folder, _, _ in os.walk(branch, topdown=False)]
