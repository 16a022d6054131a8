"""`python -m demo [--report FILE]`: install, train, serve, swap under load, roll back, compare."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .figures import Run, run_of, table
from .kubectl import FOLDER, PROJECT, SYSTEM, DemoError, apply, get, kubectl, run, wait_until
from .load import Load
from .view import LiveView
from .watch import RouteWatch

OLD, NEW = "1.0.0", "1.1.0"
LOAD_SECONDS = 22
BEFORE_SECONDS = 7
"""Of load before a swap."""
SCALE_DOWN_SECONDS = 5
"""After a selector flip, until the old pods go, as people do by hand."""
QUIET_SWAPS = 10
LARGE_HISTORY = "10"


def main() -> int:
    """Run the demo; the exit code."""
    parser = argparse.ArgumentParser(prog="demo")
    parser.add_argument("--images", required=True, help="JSON: name → image")
    parser.add_argument("--report", type=Path, help="file for the figures, as JSON")
    arguments = parser.parse_args()
    try:
        return _demo(json.loads(arguments.images), arguments.report)
    except DemoError as error:
        print(f"\nThe demo failed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted. What is installed stays; the demo can be run again.", file=sys.stderr)
        return 130


def _demo(images: dict[str, str], report: Path | None) -> int:
    with _step("helm install modelswap"):
        install(images)
    with _step("train iris 1.0.0 and 1.1.0, publish both to the store in the cluster"):
        published = publish(images)
    with _step("apply the ModelVersions and the ModelRoute, wait until they are ready"):
        apply_models(published, images)
    answers = {version: facts["answer"] for version, facts in published.items()}
    with RouteWatch("iris") as watch:
        runs = [
            _modelswap(watch, images, answers, kind="swap", old=OLD, new=NEW),
            _modelswap(watch, images, answers, kind="rollback", old=NEW, new=OLD),
        ]
        with _step(f"{QUIET_SWAPS} swaps without load"):
            quiet = _quiet_swaps(watch)
    runs.append(_selector_flip(images, answers))
    print(f"\n{table(runs)}\n")
    median = statistics.median(quiet)
    print(f"  {QUIET_SWAPS} swaps without load, from apply to Completed: median {median:.2f} s, max {max(quiet):.2f} s")
    if report:
        figures = {"median": round(median, 3), "apply_to_completed_seconds": [round(s, 3) for s in quiet]}
        report.write_text(json.dumps({"runs": [r.as_json() for r in runs], "quiet_swaps": figures}, indent=2) + "\n")
        print(f"  figures: {report}")
    ours = [r for r in runs if r.way == "modelswap"]
    good = all(r.failed == 0 and r.strict for r in ours)
    print(_ENDING if good else "\nmodelswap lost a request, or its cut-over was not strict: " + _faults(ours))
    return 0 if good else 1


@contextmanager
def _step(title: str) -> Iterator[None]:
    began = time.monotonic()
    print(f"• {title} …", flush=True)
    yield
    print(f"  done in {time.monotonic() - began:.1f} s", flush=True)


def install(images: dict[str, str], *more: str) -> None:
    """Install the chart with these images, and further options of helm."""
    values: dict[str, str] = {}
    for prefix, image in (("image", images["operator"]), ("agentImage", images["agent"])):
        repository, _, tag = image.rpartition(":")
        values |= {f"{prefix}.repository": repository, f"{prefix}.tag": tag}
    values["runtimes.mlserverSklearn.image"] = images["mlserver-sklearn"]
    settings = [word for key, value in values.items() for word in ("--set-string", f"{key}={value}")]
    chart = str(PROJECT / "charts" / "modelswap")
    kubectl("apply", "--server-side", "--force-conflicts", "-f", str(PROJECT / "crds"))
    helm = (
        *("helm", "upgrade", "--install", "modelswap", chart, "--namespace", SYSTEM, "--create-namespace"),
        *("--skip-crds", "--set", "crds.upgrade=false", "--wait", "--timeout=2m", *settings, *more),
    )
    try:
        run(*helm)
    except DemoError as error:
        raise DemoError(f"{error}\n{_operator_log()}") from error


def _operator_log() -> str:
    try:
        return run("kubectl", "--namespace", SYSTEM, "logs", "deployment/modelswap-operator", "--tail=10")
    except DemoError as error:
        return str(error)


def publish(images: dict[str, str]) -> dict[str, dict[str, Any]]:
    """Train both versions and bring them to the store in the cluster; what each answers."""
    apply("namespace")
    scripts = [f"--from-file={path}" for path in sorted((FOLDER / "scripts").glob("*.py"))]
    manifest = kubectl("create", "configmap", "demo-scripts", *scripts, "--dry-run=client", "--output=yaml")
    kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=manifest)
    apply("store", DEMO_STORE_IMAGE=images["demo-store"])
    kubectl("rollout", "status", "deployment/model-store", "--timeout=120s")
    kubectl("delete", "job", "train", "--ignore-not-found", "--wait=true")
    apply("train", MLSERVER_IMAGE=images["mlserver-sklearn"], AGENT_IMAGE=images["agent"])
    _wait(_trained, "the training", "job/train")
    pods = json.loads(kubectl("get", "pods", "--selector=job-name=train", "--output=json"))["items"]
    messages = (p["status"]["containerStatuses"][0]["state"].get("terminated", {}).get("message") for p in pods)
    published: dict[str, dict[str, Any]] = json.loads(next(filter(None, messages)))
    return published


def _trained() -> bool:
    status = get("job", "train").get("status", {})
    if any(c["type"] == "Failed" and c["status"] == "True" for c in status.get("conditions", [])):
        raise DemoError(f"the training failed:\n{kubectl('logs', 'job/train', '--all-containers', '--tail=20')}")
    return bool(status.get("succeeded"))


def apply_models(published: dict[str, dict[str, Any]], images: dict[str, str]) -> None:
    """Both versions, loaded, by modelswap and as plain Deployments; the old one is routed."""
    # A new route has no history: the first swap is no rollback to what an earlier demo led to.
    kubectl("delete", "modelroute", "iris", "--ignore-not-found")
    for version, facts in published.items():
        _forget_other_artifact(version, facts["sha256"])
        apply(
            "iris-version",
            VERSION=version,
            SHA256=facts["sha256"],
            ANSWER=str(facts["answer"]),
            ESTIMATOR=facts["estimator"],
        )
        apply("plain-version", VERSION=version, AGENT_IMAGE=images["agent"], MLSERVER_IMAGE=images["mlserver-sklearn"])
    apply("selector-flip")
    route(OLD)

    def ready() -> bool:
        found = get("modelroute", "iris")
        versions = [get("modelversion", f"iris-{version}") for version in published]
        return found.get("status", {}).get("currentVersion") == OLD and all(map(_is_ready, [found, *versions]))

    _wait(ready, "the models", "modelversions,modelroutes")
    for version in published:
        kubectl("rollout", "status", f"deployment/iris-plain-{version}", "--timeout=120s")


def _forget_other_artifact(version: str, sha256: str) -> None:
    """An earlier demo's version with another artifact: an artifact is immutable, so its version must go."""
    text = kubectl("get", "modelversion", f"iris-{version}", "--ignore-not-found", "--output=json")
    if text and json.loads(text)["spec"]["artifact"].get("sha256") != sha256:
        kubectl("delete", "modelversion", f"iris-{version}")


def _is_ready(resource: dict[str, Any]) -> bool:
    status = resource.get("status", {})
    if status.get("observedGeneration") != resource["metadata"]["generation"]:
        return False
    return any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions", []))


def _wait(condition: Callable[[], bool], what: str, explain: str) -> None:
    wait_until(what, condition, seconds=240, explain=lambda: kubectl("describe", explain)[-3000:])


def route(version: str, history: str = LARGE_HISTORY) -> None:
    """Ask for a version."""
    apply("iris-route", VERSION=version, HISTORY_LIMIT=history)


def _modelswap(
    watch: RouteWatch, images: dict[str, str], answers: dict[str, int], *, kind: str, old: str, new: str
) -> Run:
    title = f"{kind} from {old} to {new} under load, by modelswap"
    print(f"• {title}", flush=True)
    view = LiveView(title, watch)
    load = Load(
        f"load-{kind}",
        host="iris.modelswap-demo.svc",
        seconds=LOAD_SECONDS,
        image=images["operator"],
        answers=answers,
        show=view.show,
    )
    with load:
        time.sleep(BEFORE_SECONDS)
        applied = time.time()
        completed, swap = watch.swap_to(new, lambda: route(new), seconds=60)
        summary = load.finish()
    if swap["kind"].lower() != kind:
        raise DemoError(f"the operator made a {swap['kind']} of what should be a {kind}")
    return run_of(
        way="modelswap",
        kind=kind,
        summary=summary,
        old=old,
        new=new,
        applied=applied,
        completed=completed,
        swap=swap,
    )


def _quiet_swaps(watch: RouteWatch) -> list[float]:
    """Swaps with a warm target and nothing in flight.

    The route's history is kept at one entry, so that each goes to a version that it does not remember: a swap, not a
    rollback.
    """
    seconds = []
    for index in range(QUIET_SWAPS):
        version = NEW if index % 2 == 0 else OLD
        took, _ = watch.swap_to(version, lambda version=version: route(version, "1"), seconds=60)  # type: ignore[misc]
        seconds.append(took)
        time.sleep(0.5)  # swaps apart from one another, as people make them
    route(OLD)
    return seconds


def _selector_flip(images: dict[str, str], answers: dict[str, int]) -> Run:
    title = f"swap from {OLD} to {NEW} under load, by a selector flip"
    print(f"• {title}", flush=True)
    view = LiveView(title, None)
    selector = {"spec": {"selector": {"app.kubernetes.io/version": NEW}}}
    load = Load(
        "load-selector-flip",
        host="iris-plain.modelswap-demo.svc",
        seconds=LOAD_SECONDS,
        image=images["operator"],
        answers=answers,
        show=view.show,
    )
    with load:
        time.sleep(BEFORE_SECONDS)
        applied = time.time()
        kubectl("patch", "service", "iris-plain", "--type=merge", f"--patch={json.dumps(selector)}")
        time.sleep(SCALE_DOWN_SECONDS)
        kubectl("scale", f"deployment/iris-plain-{OLD}", "--replicas=0")
        summary = load.finish()
    kubectl("scale", f"deployment/iris-plain-{NEW}", "--replicas=0")
    return run_of(
        way="selector-flip", kind="swap", summary=summary, old=OLD, new=NEW, applied=applied, completed=None, swap=None
    )


def _faults(runs: list[Run]) -> str:
    return "; ".join(f"{r.kind}: {r.failed} failed, strict={r.strict} {r.failures}" for r in runs)


_ENDING = """
Nothing was lost, and no client saw the old version after the new one. The cluster stays up; try:

  make shell                                              a shell with kubectl and helm at the cluster
  kubectl -n modelswap-demo get modelswap                 versions and routes
  kubectl -n modelswap-demo describe msr iris             the story of the swaps
  kubectl -n modelswap-demo patch msr iris --type=merge -p '{"spec":{"version":"1.1.0"}}'
  make cluster-down                                       when you have seen enough
"""


if __name__ == "__main__":
    sys.exit(main())
