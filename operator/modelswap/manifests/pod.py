"""What the parts of a serving pod have in common."""

from __future__ import annotations

from dataclasses import dataclass

MODEL_PATH = "/mnt/models"

FETCH = "fetch"
AGENT = "agent"
PROXY = "proxy"
MODEL_SERVER = "model-server"

CONTAINER_SECURITY = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}


@dataclass(frozen=True)
class ServingDefaults:
    """What every serving pod gets from the operator's settings."""

    agent_image: str
    image_pull_policy: str = "IfNotPresent"
    fetch_hosts: str = ""
    """Hosts that artifacts may come from, joined by commas; empty for all."""
    artifact_cache_path: str = ""
    """Folder on every node where artifacts are kept; empty for none."""
    artifact_cache_max_bytes: int = 50 * 2**30
