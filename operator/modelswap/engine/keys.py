"""Keys of the objects that are reconciled."""

from __future__ import annotations

from typing import NamedTuple


class Key(NamedTuple):
    """One ModelVersion or ModelRoute."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"
