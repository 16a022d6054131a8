"""Swaps and rollbacks under load, by modelswap and by what is used today: `python -m tests.bench.swap --images JSON`.

Each way serves the same two versions with two pods, at 200 requests a second, and is led to and fro. Done is what its
user waits for: a completed swap, a finished rollout, or, after a selector flip, the end of the old version's pods, on
which keep-alive clients stay until then. Writes docs/benchmarks.md and its plots.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from demo.__main__ import NEW, OLD, apply_models, install, publish, route
from demo.kubectl import FOLDER as DEMO
from demo.kubectl import NAMESPACE, get, kubectl, run, wait_until
from demo.watch import RouteWatch

from .benchmarks_page import write_page
from .timeline import Answer, Change, Figures, figures, seen

FOLDER = Path(__file__).parent
BEFORE_SECONDS = 3.0
BETWEEN_SECONDS = 2.0
"""For clients to come to rest."""
CHANGE_SECONDS_MAX = 180

Act = Callable[[str, str, str], None]
"""Lead from a version to another; kind, old, new. Returns when it is done."""


@dataclass(frozen=True)
class Way:
    """One way to change versions."""

    name: str
    host: str
    change: Act
    prepare: Act | None = None
    """What a change needs that is not to be measured."""


def main() -> None:
    """Measure, print, write the page and, when asked to, the report."""
    parser = argparse.ArgumentParser(prog="tests.bench.swap")
    parser.add_argument("--images", required=True, help="JSON: name → image")
    parser.add_argument("--rollouts", default="", help="JSON: where Argo Rollouts is; empty when it could not be built")
    parser.add_argument("--rounds", type=int, default=20, help="swaps of each way, and as many rollbacks")
    parser.add_argument("--report", type=Path, help="file for the figures, as JSON")
    arguments = parser.parse_args()
    images = json.loads(arguments.images)
    install(images)
    published = publish(images)
    apply_models(published, images)
    answers = {version: facts["answer"] for version, facts in published.items()}
    with _load_pod(images):
        found = [_measure(way, answers, arguments.rounds) for way in _ways(images)]
        if arguments.rollouts:
            with _argo_rollouts(json.loads(arguments.rollouts), images) as way:
                found.append(_measure(way, answers, arguments.rounds))
        else:
            print("Argo Rollouts could not be built here, and is left out")
    report = {"rounds": arguments.rounds, "ways": [asdict(figure) for figure in found]}
    write_page(found, arguments.rounds)
    if arguments.report:
        arguments.report.write_text(json.dumps(report, indent=2) + "\n")


def _ways(images: dict[str, str]) -> Iterator[Way]:
    with RouteWatch("iris") as watch:
        yield Way("modelswap", "iris", lambda kind, _, new: _modelswap(watch, kind, new), prepare=_forget)
    _apply("selector-flip", folder=DEMO / "manifests")
    yield Way("selector-flip", "iris-plain", lambda _, old, new: _selector_flip(old, new))
    for version in (OLD, NEW):
        kubectl("scale", f"deployment/iris-plain-{version}", "--replicas=0")
    name = "iris-rolling"
    apply_version = _applier("rolling-update", name, images)
    apply_version(OLD)
    _rolled_out(name)

    def change(_: str, __: str, new: str) -> None:
        apply_version(new)
        _rolled_out(name)

    yield Way("rolling-update", name, change)
    kubectl("delete", f"deployment/{name}", f"service/{name}")


def _measure(way: Way, answers: dict[str, int], rounds: int) -> Figures:
    print(f"• {way.name}: {rounds} swaps and {rounds} rollbacks", flush=True)
    changes: list[Change] = []
    with _clients(way.host, answers) as record:
        time.sleep(BEFORE_SECONDS)
        for kind, old, new in [("swap", OLD, NEW), ("rollback", NEW, OLD)] * rounds:
            if way.prepare:
                way.prepare(kind, old, new)
            applied = time.time()
            way.change(kind, old, new)
            changes.append(Change(kind, old, new, applied, time.time()))
            time.sleep(BETWEEN_SECONDS)
    found = figures(way.name, seen(record.answers, record.failures, changes, time.time()))
    done = found.apply_to_done_seconds
    print(
        f"  {found.sent:,} requests, {found.failed} failed, "
        f"{found.old_after_first_new} old answers after the first new one; "
        f"done after {done['p50']:.2f} s (median), {done['max']:.2f} s (longest)",
        flush=True,
    )
    return found


def _forget(kind: str, old: str, _: str) -> None:
    """A swap goes to a version that has not served before: with a history of one entry, the route forgets it."""
    if kind == "swap":
        route(old, history="1")
        wait_until(
            "the history is short",
            lambda: len(get("modelroute", "iris")["status"]["history"]) == 1,
            seconds=30,
            explain=lambda: kubectl("describe", "modelroute", "iris"),
        )


def _modelswap(watch: RouteWatch, kind: str, new: str) -> None:
    _, swap = watch.swap_to(new, lambda: route(new), seconds=CHANGE_SECONDS_MAX)
    if swap["kind"].lower() != kind:
        raise SystemExit(f"the operator made a {swap['kind']} of what should be a {kind}")


def _selector_flip(old: str, new: str) -> None:
    kubectl("scale", f"deployment/iris-plain-{new}", "--replicas=2")
    kubectl("rollout", "status", f"deployment/iris-plain-{new}", "--timeout=120s")
    selector = {"spec": {"selector": {"app.kubernetes.io/version": new}}}
    kubectl("patch", "service", "iris-plain", "--type=merge", f"--patch={json.dumps(selector)}")
    time.sleep(BETWEEN_SECONDS)
    kubectl("scale", f"deployment/iris-plain-{old}", "--replicas=0")
    pods = f"app.kubernetes.io/name=iris-plain,app.kubernetes.io/version={old}"
    kubectl("wait", "--for=delete", "pod", f"--selector={pods}", "--timeout=120s")


def _rolled_out(name: str) -> None:
    kubectl("rollout", "status", f"deployment/{name}", f"--timeout={CHANGE_SECONDS_MAX}s")


@contextmanager
def _argo_rollouts(found: dict[str, str], images: dict[str, str]) -> Iterator[Way]:
    for crd in sorted(Path(found["crds"]).glob("*-crd.yaml")):
        kubectl("apply", "--server-side", "--force-conflicts", "-f", str(crd))
    name = "iris-argo"
    apply_version = _applier("argo-rollouts", name, images)
    kubeconfig = os.environ["KUBECONFIG"]
    command = [found["controller"], f"--kubeconfig={kubeconfig}", "--leader-elect=false", f"--namespace={NAMESPACE}"]
    with subprocess.Popen([*command, "--namespaced"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            apply_version(OLD)
            _is_healthy(name)

            def change(_: str, __: str, new: str) -> None:
                apply_version(new)
                _is_healthy(name)

            yield Way("argo-rollouts", name, change)
        finally:
            kubectl("delete", f"rollouts.argoproj.io/{name}", f"service/{name}", "--wait=false")
            time.sleep(BETWEEN_SECONDS)
            process.terminate()
    run("kubectl", "delete", "crd", "--selector=app.kubernetes.io/part-of=argo-rollouts", "--ignore-not-found")


def _is_healthy(name: str) -> None:
    def healthy() -> bool:
        rollout = get("rollouts.argoproj.io", name)
        status = rollout.get("status", {})
        new = status.get("observedGeneration") == str(rollout["metadata"]["generation"])
        settled = status.get("phase") == "Healthy" and status.get("currentPodHash") == status.get("stableRS")
        return bool(new and settled)

    wait_until(
        f"the rollout {name} is healthy",
        healthy,
        seconds=CHANGE_SECONDS_MAX,
        explain=lambda: kubectl("get", "rollouts.argoproj.io", name, "--output=yaml")[-3000:],
    )


def _applier(manifest: str, name: str, images: dict[str, str]) -> Callable[[str], None]:
    def apply_version(version: str) -> None:
        _apply(
            manifest,
            NAME=name,
            VERSION=version,
            AGENT_IMAGE=images["agent"],
            MLSERVER_IMAGE=images["mlserver-sklearn"],
        )

    return apply_version


def _apply(manifest: str, *, folder: Path = FOLDER / "manifests", **values: str) -> None:
    text = (folder / f"{manifest}.yaml").read_text()
    for key, value in values.items():
        text = text.replace(f"${{{key}}}", value)
    kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=text)


@contextmanager
def _load_pod(images: dict[str, str]) -> Iterator[None]:
    scripts = [DEMO / "scripts" / "load.py", FOLDER / "scripts" / "timeline.py"]
    files = [f"--from-file={path}" for path in scripts]
    manifest = kubectl("create", "configmap", "bench-scripts", *files, "--dry-run=client", "--output=yaml")
    kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=manifest)
    kubectl("delete", "pod", "bench-load", "--ignore-not-found")
    _apply("load", OPERATOR_IMAGE=images["operator"])
    kubectl("wait", "--for=condition=Ready", "pod/bench-load", "--timeout=60s")
    try:
        yield
    finally:
        kubectl("delete", "pod", "bench-load", "--wait=false")


@dataclass
class Record:
    """What clients saw; there when they have ended."""

    answers: list[Answer]
    failures: list[float]


@contextmanager
def _clients(host: str, answers: dict[str, int]) -> Iterator[Record]:
    url = f"http://{host}.{NAMESPACE}.svc/v2/models/iris/infer"
    command = ["kubectl", f"--namespace={NAMESPACE}", "exec", "--stdin", "bench-load", "--"]
    clients = ["python3", "/scripts/timeline.py", url, json.dumps(answers)]
    record = Record([], [])
    with subprocess.Popen([*command, *clients], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield record
        out, _ = process.communicate(timeout=120)
    for line in out.splitlines():
        _take(json.loads(line), record)
    if not record.answers:
        raise SystemExit(f"the clients of {host} got no answers")


def _take(message: dict[str, Any], record: Record) -> None:
    record.answers += [Answer(*fields) for fields in message.get("answers", [])]
    record.failures += [at for at, _ in message.get("failures", [])]


if __name__ == "__main__":
    main()
