"""The chart, rendered without a cluster. As a program, it writes what the kustomize base holds: `make kustomize`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml
from localcluster import tools
from localcluster.layout import Layout

PROJECT = Path(__file__).resolve().parents[2]
CHART = PROJECT / "charts" / "modelswap"
MONITORING = ("metrics.serviceMonitor", "metrics.podMonitor", "prometheusRule", "dashboard")

Object = dict[str, Any]


def rendered(*options: str, hooks: bool = True) -> list[Object]:
    """Its objects, with `--set` options such as `replicas=1`."""
    helm = tools.ensure(Layout.from_environment()) / "helm"
    sets = [word for option in options for word in ("--set", option)]
    command = [str(helm), "template", "modelswap", str(CHART), "--namespace", "modelswap-system", *sets]
    command += [] if hooks else ["--no-hooks"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return [found for found in yaml.safe_load_all(done.stdout) if found]


def monitoring(kind: str) -> Object:
    """The one object of a kind, with all that has to do with monitoring."""
    [found] = [o for o in rendered(*(f"{part}.create=true" for part in MONITORING)) if o["kind"] == kind]
    return found


def without_helm() -> list[Object]:
    """What kustomize applies: the same objects, as nobody's release."""
    return [_without_helm(found) for found in rendered(hooks=False)]


def _without_helm(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_helm(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        key: "kustomize" if key == "app.kubernetes.io/managed-by" else _without_helm(item)
        for key, item in value.items()
        if key != "helm.sh/chart"
    }


if __name__ == "__main__":
    header = "# Made from the chart by `make kustomize`.\n"
    Path(sys.argv[1]).write_text(header + yaml.safe_dump_all(without_helm(), sort_keys=False, width=120))
