"""The cluster as a whole: up, down, status."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import NoReturn

from . import cgroups, images, network, packages, pki, processes, tools
from .commands import run, tail
from .errors import LocalClusterError
from .layout import DNS_SERVICE_ADDRESS, NODE_ADDRESS, Layout
from .locks import exclusive
from .parts import PARTS, Part, configuration, write_configuration
from .processes import PidFile
from .progress import step

_ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"}
"""Of the parts: no proxies, no credentials of the person who starts them."""

FOLDERS = ("cni", "containerd", "etcd", "kubelet", "logs", "pki", "pod-logs", "run")
"""Of a cluster, in its state folder."""
POD_LOG_LINKS = Path("/var/log/containers")
"""Where the kubelet links the pods' logs, whatever its own folders are."""
LOCK_SECONDS = 600
UNMOUNT_SECONDS = 10

CLUSTER_ROLE_DNS = "modelswap:coredns"


def up(layout: Layout) -> None:
    """Bring the cluster up; what runs already is left alone.

    Raises:
        LocalClusterError: a part failed; the message names it and its log.

    """
    _require_root()
    with exclusive(layout.lock, LOCK_SECONDS):
        _up(layout)


def _up(layout: Layout) -> None:
    _adopt(layout)
    if is_up(layout):
        _wait_for_node(layout, tools.ensure(layout))
        return
    packages.ensure(layout)
    built = tools.ensure(layout)
    if not network.exists(layout):
        _forget_last_run(layout)
    for folder in (layout.state, layout.run, layout.logs):
        folder.mkdir(parents=True, exist_ok=True)
    pki.ensure(layout)
    write_configuration(layout)
    network.write_cni(layout)
    with step("network"):
        network.up(layout)
    cgroups.make(layout.name)
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
    built = tools.cluster_folder(layout)
    if not network.exists(layout) or not all(_runs(layout, p, built) for p in PARTS):
        return False
    return (built / "kubectl").exists() and all(_is_ready(layout, p, built) for p in PARTS)


def down(layout: Layout) -> None:
    """End everything and keep the state: the next start finds the same objects.

    Raises:
        LocalClusterError: something cannot be ended.

    """
    _require_root()
    with exclusive(layout.lock, LOCK_SECONDS):
        _down(layout)


def _down(layout: Layout) -> None:
    _adopt(layout)
    for part in reversed(PARTS):
        if part.name == "containerd":
            _end_pods(layout)
        pid_file = _pid_file(layout, part)
        if pid_file.read():
            with step(f"stopping {part.name}"):
                processes.stop(pid_file)
    cgroups.end(layout.name)
    _unmount(layout)
    network.down(layout)


def stop(layout: Layout, name: str, *, grace: float = 15) -> None:
    """End one part, by force after `grace` seconds; `up` starts it again.

    Raises:
        LocalClusterError: there is no such part, or it cannot be ended.

    """
    _require_root()
    part = next((part for part in PARTS if part.name == name), None)
    if part is None:
        raise LocalClusterError(f"there is no part {name}: there are {', '.join(part.name for part in PARTS)}")
    processes.stop(_pid_file(layout, part), grace=grace)


def destroy(layout: Layout) -> None:
    """End everything and remove the state.

    Raises:
        LocalClusterError: something cannot be ended, or the folder holds what is not ours.

    """
    _require_root()
    with exclusive(layout.lock, LOCK_SECONDS):
        _down(layout)
        remove_state(layout)


def remove_state(layout: Layout) -> None:
    """Remove what a cluster has written, by name: MODELSWAP_STATE may point at a folder with other things in it.

    Raises:
        LocalClusterError: something else is in the folder.

    """
    for link in POD_LOG_LINKS.glob("*.log"):
        if link.is_symlink() and link.readlink().is_relative_to(layout.state):
            link.unlink()
    for name in (*FOLDERS, *configuration(layout), layout.kubeconfig.name):
        path = layout.state / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    if layout.state.exists():
        left = sorted(path.name for path in layout.state.iterdir())
        if left:
            raise LocalClusterError(f"{layout.state} stays, for it holds what no cluster wrote: {', '.join(left[:5])}")
        layout.state.rmdir()


def status(layout: Layout) -> bool:
    """Print a table of the parts; whether all are well."""
    built = tools.cluster_folder(layout)
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


def execute(layout: Layout, command: list[str]) -> NoReturn:
    """Become a command in the cluster's network.

    Raises:
        LocalClusterError: there is no command, or no cluster.

    """
    if not command:
        raise LocalClusterError("no command: localcluster run -- COMMAND …")
    _require_root()
    if not network.exists(layout):
        raise LocalClusterError("the cluster is not up: `make cluster-up` starts it")
    # No proxy can be reached from there, and none is needed.
    env = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    words = layout.enter(*command)
    os.execvpe(words[0], words, env | environment(layout))  # noqa: S606 - a fixed program, no shell


def _require_root() -> None:
    if os.geteuid() != 0:
        raise LocalClusterError("the local cluster needs root: it makes a network namespace and runs containers")


def _pid_file(layout: Layout, part: Part) -> PidFile:
    return PidFile(layout.run / f"{part.name}.pid")


def _adopt(layout: Layout) -> None:
    """Write down parts that run with no pid file: a start was cut short, or the files were removed."""
    for part in PARTS:
        pid_file = _pid_file(layout, part)
        if pid_file.read() is None:
            process = processes.find(part.command(layout, layout.cache))
            if process is not None:
                pid_file.write(process)


def _runs(layout: Layout, part: Part, built: Path) -> bool:
    """Whether a part runs as this tree would start it."""
    process = _pid_file(layout, part).read()
    return process is not None and processes.runs(process, part.command(layout, built))


def _start(layout: Layout, part: Part, built: Path) -> None:
    pid_file, log = _pid_file(layout, part), layout.log_of(part.name)
    if not _runs(layout, part, built):
        processes.stop(pid_file)
        # Our programs first: containerd takes the first shim that it finds, and the machine may have another.
        env = _ENVIRONMENT | {"PATH": f"{built}:{_ENVIRONMENT['PATH']}"}
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


def _forget_last_run(layout: Layout) -> None:
    """Without its network namespace, whatever an earlier run left is of no use: processes, shims, mounts, leases."""
    for part in reversed(PARTS):
        processes.stop(_pid_file(layout, part))
    _end_pods(layout)
    cgroups.end(layout.name)
    _unmount(layout)
    network.down(layout)
    shutil.rmtree(layout.run, ignore_errors=True)


def _end_pods(layout: Layout) -> None:
    """End the shims of our containerd, and the containers under them."""
    marker = str(layout.containerd_socket)
    shims = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit() and _is_shim(entry, marker)]
    for pid in shims:
        for victim in (*_descendants(pid), pid):
            processes.send(victim, signal.SIGKILL)


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


def _unmount(layout: Layout) -> None:
    if not processes.wait_for(lambda: not _unmount_all(layout), UNMOUNT_SECONDS):
        raise LocalClusterError(f"cannot be unmounted: {', '.join(_unmount_all(layout))}")


def _unmount_all(layout: Layout) -> list[str]:
    """Unmount what is mounted below the state folder, innermost first; what it found."""
    targets = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    found = [target for target in reversed(targets) if layout.state in Path(target).parents]
    for target in found:
        # One that the container runtime has just unmounted itself is no failure: the next look tells.
        subprocess.run(["umount", "--lazy", target], capture_output=True, check=False, timeout=30)
    return found
