"""The chart's alerts, by Prometheus' own tool."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from localcluster import tools
from localcluster.layout import Layout

from tests.support.chart import monitoring

HERE = Path(__file__).parent
RUNBOOKS = HERE.parents[1] / "docs" / "runbooks.md"


@pytest.fixture(scope="module")
def rules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rules")
    file = folder / "rules.yaml"
    file.write_text(yaml.safe_dump(monitoring("PrometheusRule")["spec"]))
    shutil.copy(HERE / "alerts.yaml", folder)
    return file


def promtool(*arguments: str | Path) -> None:
    program = tools.ensure_monitoring(Layout.from_environment()) / "promtool"
    done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.requirement("MM-10")
def test_each_alert_fires_when_it_should_and_not_before(rules: Path) -> None:
    promtool("check", "rules", "--lint-fatal", rules)
    promtool("test", "rules", rules.with_name("alerts.yaml"))


def test_every_alert_is_tested_and_has_a_runbook(rules: Path) -> None:
    alerts = [rule["alert"] for group in yaml.safe_load(rules.read_text())["groups"] for rule in group["rules"]]
    tests = yaml.safe_load((HERE / "alerts.yaml").read_text())["tests"]
    fired = {c["alertname"] for test in tests for c in test["alert_rule_test"] if c["exp_alerts"]}
    assert fired == set(alerts)
    assert re.findall(r"^## (\w+)$", RUNBOOKS.read_text(), flags=re.MULTILINE) == alerts
