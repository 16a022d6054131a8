"""Why an artifact cannot be fetched."""

from __future__ import annotations


class FetchError(Exception):
    """A failure with a CamelCase reason; `permanent` when trying again cannot help."""

    def __init__(self, reason: str, message: str, *, permanent: bool) -> None:
        super().__init__(message)
        self.reason = reason
        self.permanent = permanent


class ChangedError(FetchError):
    """What was found has become another while it was read: it has to be looked for anew."""

    def __init__(self, shown: str) -> None:
        super().__init__("ArtifactChanged", f"{shown} changed while it was fetched", permanent=False)
