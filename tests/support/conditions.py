"""Conditions of what kubectl has told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def condition_of(status: Mapping[str, Any], type_: str = "Ready") -> dict[str, Any]:
    """A status's condition of a type; an empty one where there is none."""
    nothing = {"status": "", "reason": "", "message": ""}
    return next((c for c in status.get("conditions", []) if c["type"] == type_), nothing)
