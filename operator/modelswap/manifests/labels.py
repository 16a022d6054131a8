"""Labels and annotations of everything that the operator makes."""

from __future__ import annotations

from modelswap.api.v1alpha1.base import GROUP

MANAGER = "modelswap"
"""Field manager of server-side apply, and value of `app.kubernetes.io/managed-by`."""

MANAGED_BY = "app.kubernetes.io/managed-by"
MODEL = f"{GROUP}/model"
MODEL_VERSION = f"{GROUP}/model-version"
ROUTE = f"{GROUP}/route"

APPLIED = f"{GROUP}/applied"
"""Annotation: fingerprint of the manifest that a child was last applied from."""
RENEW_AFTER = f"{GROUP}/renew-after"
"""Annotation of a certificate's Secret: when to make it anew (RFC 3339)."""

RETRY = f"{GROUP}/retry"
"""Annotation of a ModelVersion: another value than before asks for another try at a load that was given up."""
ROUTED_FINALIZER = f"{GROUP}/routed"
"""Of a ModelVersion, for as long as a route leads to it."""

SELECTOR = f"{MANAGED_BY}={MANAGER}"
"""Of all children, for watches."""


def of_version(*, model: str, version: str, name: str) -> dict[str, str]:
    """Labels of the children of a ModelVersion."""
    return {
        "app.kubernetes.io/name": model,
        "app.kubernetes.io/instance": name,
        "app.kubernetes.io/version": version,
        "app.kubernetes.io/component": "model-server",
        "app.kubernetes.io/part-of": MANAGER,
        MANAGED_BY: MANAGER,
        MODEL: model,
        MODEL_VERSION: name,
    }


def of_route(*, model: str, name: str) -> dict[str, str]:
    """Labels of the children of a ModelRoute."""
    return {
        "app.kubernetes.io/name": model,
        "app.kubernetes.io/instance": name,
        "app.kubernetes.io/component": "route",
        "app.kubernetes.io/part-of": MANAGER,
        MANAGED_BY: MANAGER,
        MODEL: model,
        ROUTE: name,
    }
