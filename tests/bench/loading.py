"""Whether versions that cannot be loaded delay those that can: `python -m tests.bench.loading [--report FILE]`.

The same good versions are loaded in turns by themselves, beside bad ones (wrong checksum, missing, a store that gives
nothing, a model that crashes, never answers, needs too much memory, has no image), and beside as many more good ones;
first with what CPU the node gives them, then with a limit for each model server that the node can keep for all of
them at once. What a pod costs besides (its agent, its fetch step, the node's own work) is shared in both.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import statistics
import time
from pathlib import Path

from demo.__main__ import install, publish
from demo.kubectl import run

from tests.e2e.tenant import Object, Tenant, model_version, prepared
from tests.e2e.test_many_versions import RUNTIME, bad_versions, runtime_that_has_no_image
from tests.support.conditions import condition_of

GOOD = 6
ROUNDS = 2
LOAD_SECONDS_MAX = 240
WAYS = ("alone", "beside_bad", "beside_good")
CPU = {"shared": None, "own": "120m"}
"""Limit of each model server: thirteen of them together stay below two cores."""


def main() -> None:
    """Measure, print, and write the report when asked to."""
    parser = argparse.ArgumentParser(prog="tests.bench.loading")
    parser.add_argument("--report", type=Path, help="file for the figures, as JSON")
    arguments = parser.parse_args()
    images = json.loads(os.environ["MODELSWAP_TEST_IMAGES"])
    install(images)
    publish(images)
    tenant = prepared(images)
    tenant.apply(runtime_that_has_no_image(tenant))
    try:
        seconds = _measure(tenant)
    finally:
        run("kubectl", "delete", "modelruntime", RUNTIME)
        tenant.kubectl("delete", "namespace", tenant.namespace, "--wait=false")
    figures = {
        cpu: {way: {"p50": statistics.median(s), "max": max(s)} for way, s in ways.items()}
        for cpu, ways in seconds.items()
    }
    for cpu, ways in figures.items():
        for way, figure in ways.items():
            what = f"{cpu} CPU, {way.replace('_', ' ')}"
            print(f"  {what:24} until Healthy: median {figure['p50']:5.1f} s, last {figure['max']:5.1f} s")
    if arguments.report:
        arguments.report.write_text(json.dumps({"good": GOOD, "rounds": ROUNDS, "cpu": figures}, indent=2) + "\n")


def _measure(tenant: Tenant) -> dict[str, dict[str, list[float]]]:
    bad = [body for body, *_ in bad_versions(tenant.sha256_of_the_model()).values()]
    others = {
        "alone": [],
        "beside_bad": bad,
        "beside_good": [model_version(f"other{place}", "1.0.0") for place in range(len(bad))],
    }
    good = [model_version(f"good{place}", "1.0.0") for place in range(GOOD)]
    seconds: dict[str, dict[str, list[float]]] = {cpu: {way: [] for way in WAYS} for cpu in CPU}
    for number in range(ROUNDS):
        for cpu, limit in CPU.items():
            for way in WAYS:
                took = _load(tenant, _limited(good, limit), _limited(others[way], limit))
                told = ", ".join(f"{s:.1f}" for s in sorted(took))
                print(f"round {number + 1}, {cpu} CPU, {way}: {told} s", flush=True)
                seconds[cpu][way] += took
    return seconds


def _limited(bodies: list[Object], cpu: str | None) -> list[Object]:
    """The same versions, with a limit of CPU."""
    made = copy.deepcopy(bodies)
    for body in made:
        if cpu:
            body["spec"]["resources"]["limits"]["cpu"] = cpu
    return made


def _load(tenant: Tenant, good: list[Object], others: list[Object]) -> list[float]:
    """Seconds from the request until each good version is Healthy."""
    began = time.monotonic()
    tenant.apply(*others, *good)
    waiting = {body["metadata"]["name"] for body in good}
    took: list[float] = []
    while waiting:
        for item in tenant.all("modelversions"):
            name = item["metadata"]["name"]
            if name in waiting and condition_of(item.get("status", {}))["reason"] == "Healthy":
                waiting.remove(name)
                took.append(time.monotonic() - began)
        if time.monotonic() - began > LOAD_SECONDS_MAX:
            raise SystemExit(f"not loaded within {LOAD_SECONDS_MAX} s: {', '.join(sorted(waiting))}")
        time.sleep(0.2)  # a look at all versions has its price on the same two cores
    tenant.kubectl("delete", "modelversions", "--all", "--timeout=60s")
    tenant.wait_for("nothing is left", lambda: not tenant.all("pods", "modelswap.dev/model-version"))
    return took


if __name__ == "__main__":
    main()
