"""What Flux and `kubectl wait`-like tools make of an object: the rules of kstatus for kinds that it does not know.

Source: sigs.k8s.io/cli-utils, pkg/kstatus/README.md ("The Status Conditions", "Generic rules").
"""

from __future__ import annotations

from typing import Any


def kstatus(body: dict[str, Any]) -> str:
    """`Current`, `InProgress`, `Failed` or `Terminating`."""
    meta, status = body["metadata"], body.get("status", {})
    if meta.get("deletionTimestamp"):
        return "Terminating"
    if status.get("observedGeneration", meta["generation"]) != meta["generation"]:
        return "InProgress"
    conditions = {condition["type"]: condition["status"] for condition in status.get("conditions", [])}
    if conditions.get("Reconciling") == "True":
        return "InProgress"
    if conditions.get("Stalled") == "True":
        return "Failed"
    return "Current" if conditions.get("Ready", "True") == "True" else "InProgress"
