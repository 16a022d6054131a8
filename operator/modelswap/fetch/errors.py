"""Why an artifact cannot be fetched."""

from __future__ import annotations


class FetchError(Exception):
    """A failure with a CamelCase reason; `permanent` when trying again cannot help."""

    def __init__(self, reason: str, message: str, *, permanent: bool) -> None:
        super().__init__(message)
        self.reason = reason
        self.permanent = permanent
