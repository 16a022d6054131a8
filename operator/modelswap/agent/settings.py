"""Where the agent's files and ports are. In a pod they are all as here; tests move them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from modelswap.api.agent import CONTROL_PORT, DIRECT_PORT, FETCH_PROGRESS_FILE, HANDOVER_PORT, OPS_PORT, ROUTE_PORT


@dataclass(frozen=True, kw_only=True)
class AgentSettings:
    """One agent's surroundings."""

    config: Path = Path("/etc/modelswap/agent.json")
    tls: Path = Path("/etc/modelswap/tls")
    run: Path = Path("/var/run/modelswap")
    """Survives restarts of the container."""
    fetch_progress: Path = Path(FETCH_PROGRESS_FILE)
    address: str = ""
    """To listen on; empty for all."""
    model_address: str = "127.0.0.1"
    route_port: int = ROUTE_PORT
    direct_port: int = DIRECT_PORT
    handover_port: int = HANDOVER_PORT
    ops_port: int = OPS_PORT
    control_port: int = CONTROL_PORT
    settle_seconds: float = 3.0
    """After a pod was told to end, before it stops taking requests: endpoints need this long to follow."""

    @property
    def admin_socket(self) -> Path:
        """HAProxy's own."""
        return self.run / "haproxy.sock"

    @property
    def ops_socket(self) -> Path:
        """Behind the ops port."""
        return self.run / "ops.sock"

    @property
    def drain_socket(self) -> Path:
        """Of the `drain` command; nothing outside the container reaches it."""
        return self.run / "drain.sock"

    @property
    def state_map(self) -> Path:
        """HAProxy's map of mode and hold."""
        return self.run / "state.map"
