"""1,000 mixed queries on 10,000 versions, beside a plain dict: `python -m tests.bench.registry [--report FILE]`.

The plain dict is what one would write first: namespace → model → version → object, with versions in a form that Python
can compare. It answers "exists" and "metadata" by a lookup, the model names by a sort of its keys, the versions in
order by a sort, and the highest of a range by looking at every version. Both are asked the same, in turns, and must
answer the same.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import statistics
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

from modelswap.api.v1alpha1.model_version import ModelVersion
from modelswap.planning.registry import Registry
from modelswap.planning.semver_order import Precedence, VersionRange, precedence

MODELS, VERSIONS = 100, 100
QUERIES, ROUNDS = 1000, 31
CYCLES = 10_000
NAMESPACE = "team"

Answer = object
Query = Callable[[], Answer]
Plain = dict[str, dict[str, dict[Precedence, ModelVersion]]]


def main() -> None:
    """Measure, print, and write the report when asked to."""
    parser = argparse.ArgumentParser(prog="tests.bench.registry")
    parser.add_argument("--report", type=Path, help="file for the figures, as JSON")
    arguments = parser.parse_args()
    registry, plain = _filled()
    queries = _queries(registry, plain)
    for ours, theirs in queries:
        assert ours() == theirs()
    ours_seconds, dict_seconds = _measure([ours for ours, _ in queries], [theirs for _, theirs in queries])
    ratio = ours_seconds / dict_seconds
    print(f"{QUERIES:,} mixed queries on {len(registry):,} versions, median of {ROUNDS} rounds in turns")
    print(f"  registry    {ours_seconds * 1000:7.2f} ms")
    print(f"  plain dict  {dict_seconds * 1000:7.2f} ms")
    print(f"  ratio       {ratio:7.2f}")
    growth = _growth()
    print(f"  memory that {CYCLES:,} registrations and removals leave behind: {growth:,} bytes")
    if arguments.report:
        figures = {
            "queries_1000_seconds": ours_seconds,
            "plain_dict_seconds": dict_seconds,
            "versions": len(registry),
            "bytes_after_10000_cycles": growth,
        }
        arguments.report.write_text(json.dumps(figures, indent=2) + "\n")


def _filled() -> tuple[Registry, Plain]:
    registry, plain = Registry(), Plain()
    names = [(f"model-{model}", _number(place)) for model in range(MODELS) for place in range(VERSIONS)]
    random.Random(0).shuffle(names)
    for model, number in names:
        version = _version(model, number)
        registry.put(version)
        plain.setdefault(NAMESPACE, {}).setdefault(model, {})[precedence(number)] = version
    return registry, plain


def _growth() -> int:
    """Bytes that are taken after all cycles and were not when what is bounded, such as parsed forms, had filled up."""
    registry = Registry()

    def cycles(count: int) -> int:
        for place in range(count):
            number = f"{CYCLES + place}.0.0"
            registry.put(_version("model", number))
            registry.remove(NAMESPACE, f"model-{number}")
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        before = cycles(CYCLES)
        return cycles(CYCLES) - before
    finally:
        tracemalloc.stop()


def _version(model: str, number: str) -> ModelVersion:
    return ModelVersion.model_validate(
        {
            "metadata": {"name": f"{model}-{number}", "namespace": NAMESPACE},
            "spec": {
                "model": model,
                "version": number,
                "runtime": {"name": "mlserver-sklearn"},
                "artifact": {"uri": f"s3://models/{model}/{number}/"},
                "metadata": {"framework": "sklearn", "performanceMetrics": {"accuracy": 0.97}},
            },
        }
    )


def _number(place: int) -> str:
    return f"{place // 20}.{place % 20}.0" + ("-rc.1" if place % 5 == 0 else "")


def _queries(registry: Registry, plain: Plain) -> list[tuple[Query, Query]]:
    """Pairs of the same question to both; every kind as often."""
    chance = random.Random(1)
    made: list[tuple[Query, Query]] = []
    kinds = (_in_order, _exists, _metadata, _highest, _models)
    for place in range(QUERIES):
        model, number = f"model-{chance.randrange(MODELS)}", _number(chance.randrange(VERSIONS))
        made.append(kinds[place % len(kinds)](registry, plain, model, number))
    chance.shuffle(made)
    return made


def _in_order(registry: Registry, plain: Plain, model: str, number: str) -> tuple[Query, Query]:
    return (
        lambda: list(registry.versions(NAMESPACE, model)),
        lambda: [version for _, version in sorted(plain[NAMESPACE][model].items())],
    )


def _exists(registry: Registry, plain: Plain, model: str, number: str) -> tuple[Query, Query]:
    return (
        lambda: number in registry.versions(NAMESPACE, model),
        lambda: precedence(number) in plain[NAMESPACE][model],
    )


def _metadata(registry: Registry, plain: Plain, model: str, number: str) -> tuple[Query, Query]:
    def ours() -> Answer:
        found = registry.versions(NAMESPACE, model).get(number)
        return found and found.spec.metadata

    return ours, lambda: plain[NAMESPACE][model][precedence(number)].spec.metadata


def _highest(registry: Registry, plain: Plain, model: str, number: str) -> tuple[Query, Query]:
    text = f">={number},<4.0.0"

    def theirs() -> Answer:
        wanted = VersionRange.parse(text)
        within = [key for key in plain[NAMESPACE][model] if wanted.admits_precedence(key)]
        return plain[NAMESPACE][model][max(within)] if within else None

    return lambda: next(registry.versions(NAMESPACE, model).within(VersionRange.parse(text)), None), theirs


def _models(registry: Registry, plain: Plain, model: str, number: str) -> tuple[Query, Query]:
    return lambda: registry.models(NAMESPACE), lambda: sorted(plain[NAMESPACE])


def _measure(*sets: list[Query]) -> list[float]:
    """The median of each set's time, in seconds; the sets take turns."""
    taken: list[list[float]] = [[] for _ in sets]
    gc.disable()
    try:
        for _ in range(ROUNDS):
            for queries, seconds in zip(sets, taken, strict=True):
                began = time.perf_counter()
                for query in queries:
                    query()
                seconds.append(time.perf_counter() - began)
    finally:
        gc.enable()
    return [statistics.median(seconds) for seconds in taken]


if __name__ == "__main__":
    main()
