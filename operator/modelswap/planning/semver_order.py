"""Order and ranges of versions, by the rules of SemVer 2.0 (section 11)."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache

from semver import Version

_COMPARATOR = re.compile(r"(>=|<=|!=|>|<|=)?(.+)")
_HOLDS: dict[str, Callable[[Version, Version], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
    "=": operator.eq,
}


@lru_cache(maxsize=65536)
def parse(version: str) -> Version:
    """A version's comparable form.

    Raises:
        ValueError: `version` is not SemVer 2.0.

    """
    return Version.parse(version)


@dataclass(frozen=True)
class VersionRange:
    """What a route's `spec.version` admits."""

    text: str
    comparators: tuple[tuple[str, Version], ...]

    @classmethod
    def parse(cls, text: str) -> VersionRange:
        """`1.2.0`, or comparators joined by commas, as in `>=1.2.0,<2.0.0`.

        Raises:
            ValueError: a part is not a comparator and a SemVer 2.0 version.

        """
        parts = [_COMPARATOR.fullmatch(part.strip()) for part in text.split(",")]
        return cls(text, tuple((m[1] or "=", parse(m[2])) for m in parts if m))

    @property
    def exact(self) -> str | None:
        """The one version that it names, if it names just one."""
        (sign, version), *more = self.comparators
        return str(version) if sign == "=" and not more else None

    def admits(self, version: str) -> bool:
        """Whether a version is within; a pre-release is only where the range itself names a pre-release."""
        candidate = parse(version)
        if candidate.prerelease and not any(bound.prerelease for _, bound in self.comparators):
            return False
        return all(_HOLDS[sign](candidate, bound) for sign, bound in self.comparators)


def newest_first(versions: Iterable[str]) -> list[str]:
    """Versions in falling order of precedence."""
    return sorted(versions, key=parse, reverse=True)
