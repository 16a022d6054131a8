"""The chart, rendered without a cluster."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import yaml
from localcluster import tools
from localcluster.layout import Layout

CHART = Path(__file__).resolve().parents[2] / "charts" / "modelswap"
MONITORING = ("metrics.serviceMonitor", "metrics.podMonitor", "prometheusRule", "dashboard")


def rendered(*options: str) -> list[dict[str, Any]]:
    """Its objects, with `--set` options such as `replicas=1`."""
    helm = tools.ensure(Layout.from_environment()) / "helm"
    sets = [word for option in options for word in ("--set", option)]
    command = [str(helm), "template", "modelswap", str(CHART), *sets]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return [found for found in yaml.safe_load_all(done.stdout) if found]


def monitoring(kind: str) -> dict[str, Any]:
    """The one object of a kind, with all that has to do with monitoring."""
    [found] = [o for o in rendered(*(f"{part}.create=true" for part in MONITORING)) if o["kind"] == kind]
    return found
