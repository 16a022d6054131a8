"""The cluster as a whole: up, down, status."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from . import images, network, packages, pki, processes, tools
from .commands import run, tail
from .errors import LocalClusterError
from .layout import DNS_SERVICE_ADDRESS, NODE_ADDRESS, Layout
from .parts import PARTS, Part, write_configuration
from .processes import PidFile
from .progress import step

_ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"}
"""Of the parts: no proxies, no credentials of the person who starts them."""

CLUSTER_ROLE_DNS = "modelswap:coredns"


def up(layout: Layout) -> None:
    """Bring the cluster up; what runs already is left alone.

    Raises:
        LocalClusterError: a part failed; the message names it and its log.

    """
    if os.geteuid() != 0:
        raise LocalClusterError("the local cluster needs root: it makes a network namespace and runs containers")
    if is_up(layout):
        return
    packages.ensure(layout)
    built = tools.ensure(layout)
    if not layout.netns.exists():
        _forget_last_boot(layout)
    for folder in (layout.state, layout.run, layout.logs):
        folder.mkdir(parents=True, exist_ok=True)
    pki.ensure(layout)
    write_configuration(layout)
    network.write_cni(layout)
    with step("network"):
        network.up(layout)
    for part in PARTS:
        with step(part.name):
            if part.name == "coredns":
                _apply_dns(layout, built)  # its rights, without which it is never ready
            _start(layout, part, built)
        if part.name == "containerd":
            images.ensure_pause(layout)
    with step("node"):
        _wait_for_node(layout, built)


def is_up(layout: Layout) -> bool:
    """Whether every part runs and the API server answers."""
    if not layout.netns.exists() or not all(_pid_file(layout, p).read() for p in PARTS):
        return False
    built = layout.cache / "tools" / tools.pins_key(tools.TOOLS)
    return (built / "kubectl").exists() and all(_is_ready(layout, p, built) for p in PARTS)


def down(layout: Layout) -> None:
    """End everything and keep the state: the next start finds the same objects."""
    for part in reversed(PARTS):
        if part.name == "containerd":
            _end_pods(layout)
        pid_file = _pid_file(layout, part)
        if pid_file.read():
            with step(f"stopping {part.name}"):
                processes.stop(pid_file)
    _unmount(layout)
    network.down(layout)
    _remove_cgroups()


def destroy(layout: Layout) -> None:
    """End everything and remove the state."""
    down(layout)
    shutil.rmtree(layout.state, ignore_errors=True)


def status(layout: Layout) -> bool:
    """Print a table of the parts; whether all are well."""
    built = layout.cache / "tools" / tools.pins_key(tools.TOOLS)
    rows = [("PART", "STATE", "PID", "LOG")]
    for part in PARTS:
        process = _pid_file(layout, part).read()
        state = "stopped" if process is None else "ready" if _is_ready(layout, part, built) else "not ready"
        rows.append((part.name, state, str(process.pid) if process else "-", str(layout.log_of(part.name))))
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    for row in rows:
        print("  ".join([*(cell.ljust(width) for cell, width in zip(row[:3], widths, strict=True)), row[3]]))
    return all(row[1] == "ready" for row in rows[1:])


def environment(layout: Layout) -> dict[str, str]:
    """Variables with which kubectl and helm reach the cluster, from within its network."""
    built = tools.ensure(layout)
    return {"KUBECONFIG": str(layout.kubeconfig), "PATH": f"{built}:{os.environ['PATH']}"}


def execute(layout: Layout, command: list[str]) -> int:
    """Run a command in the cluster's network; its exit code."""
    if not layout.netns.exists():
        raise LocalClusterError("the cluster is not up: `make cluster-up` starts it")
    return subprocess.run(layout.enter(*command), env=os.environ | environment(layout), check=False).returncode


def _pid_file(layout: Layout, part: Part) -> PidFile:
    return PidFile(layout.run / f"{part.name}.pid")


def _start(layout: Layout, part: Part, built: Path) -> None:
    pid_file, log = _pid_file(layout, part), layout.log_of(part.name)
    if pid_file.read() is None:
        env = _ENVIRONMENT
        processes.start(layout.enter(*part.command(layout, built)), log=log, pid_file=pid_file, env=env)

    def settled() -> bool:
        return pid_file.read() is None or _is_ready(layout, part, built)

    if not processes.wait_for(settled, part.ready_seconds, interval=0.2):
        raise LocalClusterError(
            f"{part.name} was not ready within {part.ready_seconds:.0f} s; its log is {log}\n{tail(log)}"
        )
    if pid_file.read() is None:
        raise LocalClusterError(f"{part.name} ended; its log is {log}\n{tail(log)}")


def _is_ready(layout: Layout, part: Part, built: Path) -> bool:
    fill = {"tools": built, "kubeconfig": layout.kubeconfig, "containerd": layout.containerd_socket}
    command = layout.enter(*(word.format(**fill) for word in part.ready))
    try:
        return subprocess.run(command, capture_output=True, timeout=10, env=_ENVIRONMENT, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def _kubectl(layout: Layout, built: Path, *arguments: str, stdin: str | None = None) -> str:
    return run(layout.enter(str(built / "kubectl"), f"--kubeconfig={layout.kubeconfig}", *arguments), stdin=stdin)


def _apply_dns(layout: Layout, built: Path) -> None:
    ports = [
        {"name": "dns", "port": 53, "protocol": "UDP"},
        {"name": "dns-tcp", "port": 53, "protocol": "TCP"},
    ]
    meta = {"name": "kube-dns", "namespace": "kube-system"}
    objects = [
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": {"name": CLUSTER_ROLE_DNS},
            "rules": [
                {"apiGroups": [""], "resources": ["services", "namespaces"], "verbs": ["list", "watch"]},
                {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
            ],
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": CLUSTER_ROLE_DNS},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": CLUSTER_ROLE_DNS},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": CLUSTER_ROLE_DNS}],
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": meta,
            "spec": {"clusterIP": DNS_SERVICE_ADDRESS, "ports": ports},
        },
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": meta | {"labels": {"kubernetes.io/service-name": "kube-dns"}},
            "addressType": "IPv4",
            "endpoints": [{"addresses": [NODE_ADDRESS], "conditions": {"ready": True}}],
            "ports": ports,
        },
    ]
    document = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
    _kubectl(layout, built, "apply", "--server-side", "--force-conflicts", "-f", "-", stdin=document)


def _wait_for_node(layout: Layout, built: Path) -> None:
    def there() -> bool:
        return layout.name in _kubectl(layout, built, "get", "nodes", "-o", "name")

    if not processes.wait_for(there, 60, interval=0.5):
        raise LocalClusterError(f"the node did not register; the kubelet's log is {layout.log_of('kubelet')}")
    _kubectl(layout, built, "wait", "--for=condition=Ready", "--timeout=90s", f"node/{layout.name}")


def _forget_last_boot(layout: Layout) -> None:
    """Without its network namespace, nothing of an earlier run is alive: shims, mounts and leases are left-overs."""
    _end_pods(layout)
    _unmount(layout)
    shutil.rmtree(layout.run, ignore_errors=True)


def _end_pods(layout: Layout) -> None:
    """End the shims of our containerd, and the containers under them."""
    marker = str(layout.containerd_socket)
    shims = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit() and _is_shim(entry, marker)]
    for pid in shims:
        for victim in (*_descendants(pid), pid):
            _kill(victim)


def _is_shim(process: Path, marker: str) -> bool:
    try:
        words = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return False
    return "containerd-shim" in words[0] and marker in words


def _descendants(pid: int) -> list[int]:
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return []
    children = [int(word) for word in text.split()]
    return [victim for child in children for victim in (*_descendants(child), child)]


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _unmount(layout: Layout) -> None:
    for line in reversed(Path("/proc/self/mountinfo").read_text().splitlines()):
        target = line.split()[4]
        if Path(target).is_relative_to(layout.state):
            subprocess.run(["umount", "--lazy", target], capture_output=True, check=False)


def _remove_cgroups() -> None:
    """Empty groups of pods that are gone; one that is not empty stays."""
    for top in Path("/sys/fs/cgroup").glob("*/kubepods"):
        for folder in sorted((p for p in top.rglob("*") if p.is_dir()), key=lambda p: -len(p.parts)):
            _remove_folder(folder)
        _remove_folder(top)


def _remove_folder(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError as error:
        print(f"  {folder} stays: {error.strerror}", file=sys.stderr)
