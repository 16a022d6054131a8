"""Where everything of a cluster is."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from .errors import LocalClusterError

PROJECT = Path(__file__).resolve().parents[3]

NODE_ADDRESS = "192.0.2.1"
NODE_NETWORK = "192.0.2.0/24"
POD_NETWORK = "198.18.0.0/16"
SERVICE_NETWORK = "198.19.0.0/16"
API_SERVICE_ADDRESS = "198.19.0.1"
DNS_SERVICE_ADDRESS = "198.19.0.10"
API_PORT = 6443
PAUSE_IMAGE = "localhost/modelswap-pause:1"
CGROUPS = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Layout:
    """Folders and names of one cluster."""

    name: str
    state: Path
    cache: Path

    @classmethod
    def from_environment(cls) -> Layout:
        """By MODELSWAP_CLUSTER, MODELSWAP_STATE and MODELSWAP_CACHE, with defaults.

        Clusters of different names share nothing but the cache: each has its own network, where the same addresses
        serve all of them.

        Raises:
            LocalClusterError: the name cannot be one of a node.

        """
        name = os.environ.get("MODELSWAP_CLUSTER") or "modelswap"
        if not re.fullmatch(r"[a-z]([a-z0-9-]{0,30}[a-z0-9])?", name):
            raise LocalClusterError(
                f"MODELSWAP_CLUSTER is {name!r}: it must be at most 32 of a-z, 0-9 and -, beginning with a letter"
            )
        return cls(
            name=name,
            state=Path(os.environ.get("MODELSWAP_STATE") or f"/var/lib/{name}").resolve(),
            cache=Path(os.environ.get("MODELSWAP_CACHE") or Path.home() / ".cache" / "modelswap").resolve(),
        )

    @property
    def netns(self) -> Path:
        """The network namespace."""
        return Path("/run/netns") / self.name

    @property
    def lock(self) -> Path:
        """Held by whoever brings the cluster up or ends it."""
        return Path("/run") / f"{self.name}.lock"

    @property
    def run(self) -> Path:
        """Sockets and pid files: of no use after a restart of the machine."""
        return self.state / "run"

    @property
    def logs(self) -> Path:
        """One file a part."""
        return self.state / "logs"

    @property
    def pki(self) -> Path:
        """Certificates and kubeconfigs of the parts."""
        return self.state / "pki"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's."""
        return self.state / "kubeconfig"

    @property
    def containerd_socket(self) -> Path:
        """Containerd's own socket."""
        return self.run / "containerd.sock"

    def log_of(self, part: str) -> Path:
        """A part's log."""
        return self.logs / f"{part}.log"

    def enter(self, *command: str) -> list[str]:
        """A command that runs in the cluster's network. (`ip netns exec` would hide the cgroups.)"""
        return ["nsenter", f"--net={self.netns}", "--", *command]
