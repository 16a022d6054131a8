"""Names of children: a function of their owner's name alone."""

from __future__ import annotations


def version_service(model_version: str) -> str:
    """A Service's name has no dots: `iris-1.2.0` → `iris-1-2-0`."""
    return model_version.replace(".", "-")


def agent_config(model_version: str) -> str:
    """ConfigMap with the agents' configuration."""
    return f"{model_version}-agent"


def agent_certificate(model_version: str) -> str:
    """Secret with the agents' certificate."""
    return f"{model_version}-agent-tls"


def agent_server_name(namespace: str, model_version: str) -> str:
    """The DNS name in the agents' certificate; nothing resolves it, the operator checks it."""
    return f"{model_version}.{namespace}.agent.modelswap.internal"


OPERATOR_CLIENT_NAME = "operator.modelswap.internal"
"""The DNS name in the operator's client certificate."""
