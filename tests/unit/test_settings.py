"""One source for settings: what the chart sets is what the operator reads, and their defaults are the same."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from modelswap.settings import Settings

CHART = Path(__file__).parents[2] / "charts" / "modelswap"
FIXED = {"MODELSWAP_OPS_PORT"}
"""Of the chart's own ports and probes."""
VALUES = {
    "workers": ("workers",),
    "lease_seconds": ("leaseSeconds",),
    "memory_period_seconds": ("memoryPeriodSeconds",),
    "log_format": ("logFormat",),
    "debug": ("debug",),
    "artifact_cache_path": ("artifactCache", "path"),
    "artifact_cache_max_bytes": ("artifactCache", "maxBytes"),
}


@pytest.mark.requirement("MM-12")
def test_the_chart_sets_every_setting_and_no_other() -> None:
    template = (CHART / "templates" / "deployment.yaml").read_text()
    read = {f"MODELSWAP_{name.upper()}" for name in Settings.model_fields}
    assert set(re.findall(r"MODELSWAP_[A-Z_]+", template)) == read - FIXED


@pytest.mark.requirement("MM-12")
def test_the_chart_and_the_operator_have_the_same_defaults() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())["settings"]
    for name, path in VALUES.items():
        found: Any = values
        for key in path:
            found = found[key]
        assert found == Settings.model_fields[name].default, name


@pytest.mark.requirement("MM-12")
def test_every_value_is_told_of() -> None:
    lines = (CHART / "values.yaml").read_text().splitlines()
    for number, line in enumerate(lines):
        if re.match(r"^  [a-z]\w*:", line) and "settings:" in lines[:number]:
            assert lines[number - 1].lstrip().startswith("#"), f"no comment above {line.strip()}"
