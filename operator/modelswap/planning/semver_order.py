"""Order and ranges of versions, by the rules of SemVer 2.0 (section 11)."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from semver import Version

KNOWN = 4096
"""Versions and ranges whose parsed form is kept: those that are asked for again and again."""

Precedence = tuple[int, int, int, bool, tuple[tuple[bool, int, str], ...]]
"""Ordered as the version is: the library takes its time for each comparison, which an index cannot afford."""

_COMPARATOR = re.compile(r"(>=|<=|!=|>|<|=)?(.+)")
_HOLDS: dict[str, Callable[[Precedence, Precedence], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
    "=": operator.eq,
}


@lru_cache(maxsize=KNOWN)
def precedence(version: str) -> Precedence:
    """A version's comparable form.

    Raises:
        ValueError: `version` is not SemVer 2.0.

    """
    parsed = Version.parse(version)
    # Numbers come before words, and fewer identifiers before more.
    parts = (parsed.prerelease or "").split(".") if parsed.prerelease else []
    identifiers = tuple((False, int(part), "") if part.isdigit() else (True, 0, part) for part in parts)
    return parsed.major, parsed.minor, parsed.patch, not identifiers, identifiers


def is_pre_release(version: Precedence) -> bool:
    """Whether it comes before the version of the same numbers."""
    return not version[3]


@dataclass(frozen=True)
class VersionRange:
    """What a route's `spec.version` admits."""

    text: str
    comparators: tuple[tuple[str, Precedence], ...]
    exact: str | None
    """The one version that it names, if it names just one."""

    @classmethod
    def parse(cls, text: str) -> VersionRange:
        """`1.2.0`, or comparators joined by commas, as in `>=1.2.0,<2.0.0`.

        Raises:
            ValueError: a part is not a comparator and a SemVer 2.0 version.

        """
        return _parse_range(text)

    def admits(self, version: str) -> bool:
        """Whether a version is within; a pre-release is only where the range itself names a pre-release."""
        return self.admits_precedence(precedence(version))

    def admits_precedence(self, candidate: Precedence) -> bool:
        """As `admits`."""
        if is_pre_release(candidate) and not any(is_pre_release(bound) for _, bound in self.comparators):
            return False
        return all(_HOLDS[sign](candidate, bound) for sign, bound in self.comparators)


@lru_cache(maxsize=KNOWN)
def _parse_range(text: str) -> VersionRange:
    matches = [_COMPARATOR.fullmatch(part.strip()) for part in text.split(",")]
    parts = [(m[1] or "=", m[2]) for m in matches if m]
    [(sign, version), *more] = parts
    exact = version if sign == "=" and not more else None
    return VersionRange(text, tuple((sign, precedence(version)) for sign, version in parts), exact)
