"""The operator's settings, from environment variables named `MODELSWAP_…`."""

from __future__ import annotations

import socket

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Every setting of the operator; the chart sets the same ones."""

    model_config = SettingsConfigDict(env_prefix="MODELSWAP_", use_attribute_docstrings=True)

    agent_image: str
    """Image of the agent and the fetch step in serving pods."""
    image_pull_policy: str = Field(default="IfNotPresent", pattern="^(Always|IfNotPresent|Never)$")
    """Pull policy of that image."""
    namespace: str = "modelswap-system"
    """Where the operator itself runs: its Lease and its certificate authority are there."""
    deployment: str = ""
    """Name of the operator's own Deployment: when it is deleted, the operator leaves nothing that waits for it. Empty
    when it has none."""
    pod_name: str = Field(default_factory=socket.gethostname)
    """The operator's identity in the Lease."""
    watch_namespaces: str = ""
    """Namespaces to serve, joined by commas; empty for all."""
    ops_port: int = Field(default=8080, ge=1, le=65535)
    """Port of health endpoints and metrics."""
    fetch_hosts: str = ""
    """Hosts that artifacts may be fetched from, joined by commas, such as `s3.amazonaws.com,*.example.com`; empty for
    all. Addresses of the pod and the node themselves are refused always."""
    artifact_cache_path: str = Field(default="", pattern="^(/.+)?$")
    """Folder on every node where fetched artifacts are kept, for those that are named by their sha256; empty for none.
    It must be writable by user 65532, and the namespaces of the ModelVersions must allow hostPath volumes."""
    artifact_cache_max_bytes: int = Field(default=50 * 2**30, ge=1)
    """The least recently used artifacts leave that folder beyond so many bytes."""
    memory_period_seconds: float = Field(default=30, ge=1, le=3600)
    """How often the memory of serving pods is read from the metrics API, where there is one."""
    workers: int = Field(default=8, ge=1, le=64)
    """How many objects are reconciled at once."""
    lease_seconds: int = Field(default=9, ge=3, le=300)
    """After which a leader that has not been heard of is replaced; after two thirds of it, it gives up by itself."""
    otlp_endpoint: str = Field(default="", pattern="^(https?://.+)?$")
    """Collector that gets a trace of each swap (OTLP over HTTP), such as `http://collector.observability:4318`; empty
    for none."""
    log_format: str = Field(default="json", pattern="^(json|text)$")
    """`json`, a line for each message that says what it is about, or `text`."""
    debug: bool = False
    """Log every plan, also those with nothing to do."""

    @property
    def namespaces(self) -> list[str]:
        """Namespaces to serve; none for all."""
        return [name.strip() for name in self.watch_namespaces.split(",") if name.strip()]
