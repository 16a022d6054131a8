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
    pod_name: str = Field(default_factory=socket.gethostname)
    """The operator's identity in the Lease."""
    watch_namespaces: str = ""
    """Namespaces to serve, joined by commas; empty for all."""
    ops_port: int = Field(default=8080, ge=1, le=65535)
    """Port of health endpoints and metrics."""
    workers: int = Field(default=8, ge=1, le=64)
    """How many objects are reconciled at once."""
    lease_seconds: int = Field(default=15, ge=3, le=300)
    """After which a leader that has not been heard of is replaced."""
    log_format: str = Field(default="json", pattern="^(json|text)$")
    debug: bool = False
    """Log every plan, also those with nothing to do."""
