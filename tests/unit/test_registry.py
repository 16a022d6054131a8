"""The registry against a plain list and the SemVer library."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from modelswap.api.v1alpha1.model_version import ModelVersion
from modelswap.planning.registry import Registry, Versions
from modelswap.planning.semver_order import VersionRange, precedence
from semver import Version

NUMBER = st.integers(0, 3)
WORD = st.sampled_from(["alpha", "beta", "rc", "a1", "-", "0x"])
IDENTIFIER = st.one_of(st.integers(0, 12).map(str), WORD)
PRE_RELEASE = st.one_of(st.just(""), st.lists(IDENTIFIER, min_size=1, max_size=3).map(lambda ids: "-" + ".".join(ids)))
VERSION = st.builds(lambda a, b, c, pre: f"{a}.{b}.{c}{pre}", NUMBER, NUMBER, NUMBER, PRE_RELEASE)
COMPARATOR = st.tuples(st.sampled_from(["", "=", "!=", ">", ">=", "<", "<="]), VERSION).map("".join)
RANGE = st.lists(COMPARATOR, min_size=1, max_size=3).map(",".join)
MODEL = st.sampled_from(["iris", "wine"])
NAMESPACE = st.sampled_from(["team-a", "team-b"])


def registered(version: str, *, model: str = "iris", namespace: str = "team-a") -> ModelVersion:
    return ModelVersion.model_validate(
        {
            "metadata": {"name": f"{model}-{version}", "namespace": namespace, "uid": "u", "generation": 1},
            "spec": {
                "model": model,
                "version": version,
                "runtime": {"name": "mlserver"},
                "artifact": {"uri": f"s3://models/{model}/{version}/"},
            },
        }
    )


def expected_within(text: str, versions: list[str]) -> list[str]:
    """As the library sees it, with the rule about pre-releases."""
    parts = [part if part[0] in "<>=!" else f"={part}" for part in text.split(",")]
    parts = [f"={part}" if part.startswith("=") and not part.startswith("==") else part for part in parts]
    names_one = any("-" in part for part in parts)
    found = [
        v for v in map(Version.parse, versions) if all(v.match(p) for p in parts) and (names_one or not v.prerelease)
    ]
    return [str(v) for v in sorted(found, reverse=True)]


@given(VERSION, VERSION)
def test_the_order_is_that_of_the_library(one: str, other: str) -> None:
    assert (precedence(one) < precedence(other)) == (Version.parse(one) < Version.parse(other))
    assert (precedence(one) == precedence(other)) == (Version.parse(one) == Version.parse(other))


@given(st.lists(VERSION, unique=True, max_size=12), RANGE)
@settings(max_examples=300)
def test_a_range_gives_what_the_library_would(numbers: list[str], text: str) -> None:
    versions = Versions.of(registered(number) for number in numbers)
    found = [version.spec.version for version in versions.within(VersionRange.parse(text))]
    assert found == expected_within(text, numbers)


@pytest.mark.requirement("RG-5")
def test_versions_come_in_rising_order_and_what_nobody_knows_has_none() -> None:
    registry = Registry()
    for number in ("1.10.0", "1.2.0", "2.0.0-rc.1", "2.0.0", "1.2.0-beta.11", "1.2.0-beta.2"):
        registry.put(registered(number))
    found = [version.spec.version for version in registry.versions("team-a", "iris")]
    assert found == ["1.2.0-beta.2", "1.2.0-beta.11", "1.2.0", "1.10.0", "2.0.0-rc.1", "2.0.0"]
    assert list(registry.versions("team-a", "rose")) == []
    assert list(registry.versions("team-b", "iris")) == []
    assert registry.models("team-a") == ["iris"]
    assert registry.models("team-b") == []
    assert "1.2.0" in registry.versions("team-a", "iris")
    assert "1.3.0" not in registry.versions("team-a", "iris")


def test_a_name_that_can_be_read_in_two_ways_is_one_entry() -> None:
    registry = Registry()
    registry.put(registered("1.0.0-2.0.0", model="a"))
    registry.put(registered("2.0.0", model="a-1.0.0"))
    assert registry.models("team-a") == ["a-1.0.0"]
    assert len(registry) == 1


class RegistryMachine(RuleBasedStateMachine):
    """Any order of registering, changing and removing."""

    def __init__(self) -> None:
        super().__init__()
        self.registry = Registry()
        self.known: dict[tuple[str, str, str], ModelVersion] = {}

    @rule(namespace=NAMESPACE, model=MODEL, version=VERSION)
    def put(self, namespace: str, model: str, version: str) -> None:
        one = registered(version, model=model, namespace=namespace)
        self.registry.put(one)
        self.known[namespace, model, version] = one

    @rule(namespace=NAMESPACE, model=MODEL, version=VERSION)
    def remove(self, namespace: str, model: str, version: str) -> None:
        self.registry.remove(namespace, f"{model}-{version}")
        self.known.pop((namespace, model, version), None)

    @invariant()
    def it_holds_what_is_known_in_order(self) -> None:
        assert len(self.registry) == len(self.known)
        for namespace in ("team-a", "team-b"):
            models = {model for ns, model, _ in self.known if ns == namespace}
            assert self.registry.models(namespace) == sorted(models)
            for model in ("iris", "wine"):
                mine = [v for (ns, m, _), v in self.known.items() if (ns, m) == (namespace, model)]
                mine.sort(key=lambda version: Version.parse(version.spec.version))
                found = list(self.registry.versions(namespace, model))
                assert len(found) == len(mine)
                assert all(a is b for a, b in zip(found, mine, strict=True))
                for version in mine:
                    assert self.registry.get(namespace, version.metadata.name) is version


TestRegistry = RegistryMachine.TestCase
TestRegistry.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def _numbers() -> Iterator[str]:
    number = 0
    while True:
        yield f"{number // 1000}.{number // 10 % 100}.{number % 10}-rc.{number}"
        number += 1


@pytest.mark.requirement("RG-7")
def test_memory_is_flat_over_ten_thousand_registrations() -> None:
    registry, numbers = Registry(), _numbers()

    def cycles(count: int) -> int:
        for number in (next(numbers) for _ in range(count)):
            registry.put(registered(number))
            registry.versions("team-a", "iris").get(number)
            registry.remove("team-a", f"iris-{number}")
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        before = cycles(5_000)  # fills what is bounded, such as the parsed forms that are kept
        after = cycles(10_000)
    finally:
        tracemalloc.stop()
    assert after - before < 100_000
    assert len(registry) == 0
    assert registry.models("team-a") == []
