"""Where everything of a cluster is."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[3]

NODE_ADDRESS = "192.0.2.1"
NODE_NETWORK = "192.0.2.0/24"
POD_NETWORK = "198.18.0.0/16"
SERVICE_NETWORK = "198.19.0.0/16"
API_SERVICE_ADDRESS = "198.19.0.1"
DNS_SERVICE_ADDRESS = "198.19.0.10"
API_PORT = 6443
PAUSE_IMAGE = "localhost/modelswap-pause:1"


@dataclass(frozen=True)
class Layout:
    """Folders and names of one cluster."""

    name: str
    state: Path
    cache: Path

    @classmethod
    def from_environment(cls) -> Layout:
        """By MODELSWAP_STATE and MODELSWAP_CACHE, with defaults."""
        cache = os.environ.get("MODELSWAP_CACHE") or Path.home() / ".cache" / "modelswap"
        return cls(
            name="modelswap",
            state=Path(os.environ.get("MODELSWAP_STATE") or "/var/lib/modelswap"),
            cache=Path(cache),
        )

    @property
    def netns(self) -> Path:
        """The network namespace."""
        return Path("/run/netns") / self.name

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
