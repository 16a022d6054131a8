from __future__ import annotations

import pytest
from modelswap.planning.semver_order import VersionRange, precedence

# SemVer 2.0, section 11.
PRECEDENCE = ["1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta", "1.0.0-beta.2", "1.0.0-beta.11"]
PRECEDENCE += ["1.0.0-rc.1", "1.0.0", "1.0.10", "1.2.0", "1.10.0", "2.0.0"]


def test_versions_are_ordered_by_the_rules_of_semver() -> None:
    assert sorted(sorted(PRECEDENCE), key=precedence) == PRECEDENCE


@pytest.mark.parametrize(
    ("text", "admitted", "refused"),
    [
        ("1.2.0", ["1.2.0"], ["1.2.1", "1.2.0-rc.1"]),
        (">=1.2.0,<2.0.0", ["1.2.0", "1.99.0"], ["1.1.9", "2.0.0", "2.0.0-rc.1", "1.5.0-rc.1"]),
        (">=2.0.0-rc.1,<3.0.0", ["2.0.0-rc.1", "2.0.0-rc.2", "2.0.0"], ["2.0.0-beta", "3.0.0"]),
        (">1.0.0,!=1.1.0", ["1.2.0"], ["1.0.0", "1.1.0"]),
    ],
)
def test_a_range_admits_a_pre_release_only_if_it_names_one(text: str, admitted: list[str], refused: list[str]) -> None:
    wanted = VersionRange.parse(text)
    assert all(wanted.admits(version) for version in admitted)
    assert not any(wanted.admits(version) for version in refused)


def test_only_one_equality_is_exact() -> None:
    assert VersionRange.parse("1.2.0").exact == "1.2.0"
    assert VersionRange.parse("=1.2.0").exact == "1.2.0"
    assert VersionRange.parse(">=1.2.0").exact is None
