"""Debian's packages that the cluster stands on."""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path

from .commands import run
from .errors import LocalClusterError
from .layout import Layout
from .progress import step

CLUSTER = {
    "buildah": "buildah",
    "conntrack": "conntrack",
    "curl": "curl",
    "gcc": "gcc",
    "git": "git",
    "ip": "iproute2",
    "iptables": "iptables",
    "mmdebstrap": "mmdebstrap",
    "mount": "mount",
    "nsenter": "util-linux",
    "openssl": "openssl",
    "runc": "runc",
    "sysctl": "procps",
    "/usr/lib/cni/bridge": "containernetworking-plugins",
    "/usr/include/stdio.h": "libc6-dev",
}
"""Program → package."""
PYTHON_VENV = {"ensurepip": "python3-venv"}
APT = ("apt-get", "-o", "DPkg::Lock::Timeout=120")


def ensure(layout: Layout, wanted: dict[str, str] | None = None) -> None:
    """Install what is missing.

    Raises:
        LocalClusterError: something is missing and this is not root on a Debian machine.

    """
    packages = sorted({p for program, p in (wanted or CLUSTER).items() if not _present(program)})
    if not packages:
        return
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise LocalClusterError(f"missing: {', '.join(packages)}. Install them, or run this as root on Debian")
    log = layout.log_of("packages")
    env = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    with step(f"Debian packages: {' '.join(packages)}"), _no_services():
        run([*APT, "update"], log=log, env=env, timeout=300)
        run([*APT, "install", "-y", "--no-install-recommends", *packages], log=log, env=env, timeout=900)


def _present(program: str) -> bool:
    if program in PYTHON_VENV:
        return importlib.util.find_spec(program) is not None
    if program.startswith("/"):
        return Path(program).exists()
    return shutil.which(program) is not None or Path("/usr/sbin", program).exists()


class _no_services:  # noqa: N801 - reads as a statement
    """While packages are installed, their services are not started: the cluster starts its own."""

    _policy = Path("/usr/sbin/policy-rc.d")

    def __enter__(self) -> None:
        self._ours = not self._policy.exists()
        if self._ours:
            self._policy.write_text("#!/bin/sh\nexit 101\n")
            self._policy.chmod(0o755)

    def __exit__(self, *_: object) -> None:
        if self._ours:
            self._policy.unlink(missing_ok=True)
