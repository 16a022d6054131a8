"""A real Prometheus looks at the operator and at serving pods as the chart's monitors ask; the dashboard has data."""

from __future__ import annotations

import json
import os
import re
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from demo.kubectl import SYSTEM
from localcluster import tools
from localcluster.apiserver import free_port
from localcluster.layout import Layout

from tests.support.chart import monitoring

from .tenant import Object, Tenant, artifact, model_route, model_version

INFER = "/v2/models/seen/infer"
INTERVAL = "1s"
VARIABLES = {"$namespace": ".*", "$__rate_interval": "20s", "$__range": "10m"}


class Prometheus:
    """The program, on loopback of the cluster's network."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = free_port()
        (folder / "rules.yaml").write_text(yaml.safe_dump(monitoring("PrometheusRule")["spec"]))
        (folder / "prometheus.yaml").write_text(yaml.safe_dump(configuration()))
        program = tools.ensure_monitoring(Layout.from_environment()) / "prometheus"
        files = [f"--config.file={folder / 'prometheus.yaml'}", f"--storage.tsdb.path={folder / 'data'}"]
        with (folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [program, *files, f"--web.listen-address=127.0.0.1:{self._port}"], stdout=log, stderr=log
            )

    def get(self, path: str, **parameters: str) -> Any:
        url = f"http://127.0.0.1:{self._port}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.load(answer)["data"]

    def query(self, expression: str) -> list[Object]:
        for name, value in VARIABLES.items():
            expression = expression.replace(name, value)
        found: list[Object] = self.get("query", query=expression)["result"]
        return found

    def log(self) -> str:
        return (self._folder / "log").read_text()[-3000:]

    def end(self) -> None:
        self._process.terminate()
        self._process.wait(timeout=20)


def configuration() -> Object:
    """What the Prometheus Operator makes of the chart's monitors, as far as these go."""
    service, pod = monitoring("ServiceMonitor")["spec"], monitoring("PodMonitor")["spec"]
    [endpoint], [pod_endpoint] = service["endpoints"], pod["podMetricsEndpoints"]
    [exists] = pod["selector"]["matchExpressions"]
    by_label = [
        keep(f"service_label_{sanitized(key)}", re.escape(value))
        for key, value in service["selector"]["matchLabels"].items()
    ]
    return {
        "global": {"scrape_interval": INTERVAL, "evaluation_interval": INTERVAL},
        "rule_files": ["rules.yaml"],
        "scrape_configs": [
            job("operator", "endpointslice", endpoint, [*by_label, keep("endpointslice_port_name", endpoint["port"])]),
            job(
                "serving-pods",
                "pod",
                pod_endpoint,
                [
                    keep(f"pod_labelpresent_{sanitized(exists['key'])}", "true"),
                    keep("pod_container_port_name", pod_endpoint["port"]),
                ],
            ),
        ],
    }


def job(name: str, role: str, endpoint: Object, keeps: list[Object]) -> Object:
    kept = ("namespace", "pod")
    labels = [
        {"source_labels": [f"__meta_kubernetes_{'pod_name' if k == 'pod' else k}"], "target_label": k} for k in kept
    ]
    own = [
        {"source_labels": rule["sourceLabels"], "target_label": rule["targetLabel"]}
        for rule in endpoint.get("relabelings", ())
    ]
    return {
        "job_name": name,
        "metrics_path": endpoint["path"],
        "honor_labels": endpoint.get("honorLabels", False),
        "kubernetes_sd_configs": [{"role": role, "kubeconfig_file": os.environ["KUBECONFIG"]}],
        "relabel_configs": [*keeps, *labels, *own],
    }


def keep(label: str, regex: str) -> Object:
    return {"source_labels": [f"__meta_kubernetes_{label}"], "regex": regex, "action": "keep"}


def sanitized(label: str) -> str:
    return re.sub(r"[^a-zA-Z0-9_]", "_", label)


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    made = Prometheus(tmp_path_factory.mktemp("prometheus"))
    yield made
    made.end()


@pytest.fixture(scope="module")
def seen(tenant: Tenant, prometheus: Prometheus) -> Iterator[Tenant]:
    """A model that was swapped while it was asked, and one that does not load."""
    load = {"state": "Auto", "timeoutSeconds": 180}
    for version in ("1.0.0", "1.1.0"):
        tenant.apply(model_version("seen", version, load=load))
    tenant.apply(model_version("seen", "9.0.0", artifact=artifact("nowhere/")))
    tenant.apply(model_route("seen", "1.0.0"))
    tenant.wait_for_reason("seen", "Serving", kind="modelroute", seconds=90)
    tenant.wait_for_reason("seen-9.0.0", "LoadFailed")
    tenant.apply(model_route("seen", "1.1.0"))

    def swapped() -> bool:
        tenant.ask("seen", INFER)
        return bool(tenant.get("modelroute", "seen")["status"]["currentVersion"] == "1.1.0")

    tenant.wait_for("the swap", swapped)
    yield tenant
    tenant.kubectl("delete", "modelroutes,modelversions", "--all", "--timeout=120s")


def panels() -> list[Object]:
    board = json.loads(monitoring("ConfigMap")["data"]["modelswap.json"])
    return [panel for panel in board["panels"] if panel["type"] != "row"]


@pytest.mark.requirement("MM-10", "MM-12")
def test_every_query_of_the_dashboard_returns_data(prometheus: Prometheus, seen: Tenant) -> None:
    empty: list[str] = []

    def all_there() -> bool:
        seen.ask("seen", INFER)
        empty[:] = [t["expr"] for panel in panels() for t in panel["targets"] if not prometheus.query(t["expr"])]
        return not empty

    seen.wait_for("all panels have data", all_there, explain=lambda: "\n".join(empty) + prometheus.log())
    assert len(panels()) > 20


@pytest.mark.requirement("MM-10")
def test_what_prometheus_sees_is_what_is_there(prometheus: Prometheus, seen: Tenant) -> None:
    here = f'namespace="{seen.namespace}"'

    def phases() -> dict[str, int]:
        found = prometheus.query(f"modelswap_versions{{{here}}}")
        return {one["metric"]["phase"]: int(one["value"][1]) for one in found}

    seen.wait_for("phases are seen", lambda: phases().get("LoadFailed") == 1)
    counted = {one["metric"]["reason"] for one in prometheus.query(f"modelswap_load_failures_total{{{here}}}")}
    assert counted >= {failure["reason"] for failure in seen.status("seen-9.0.0")["failures"]}

    def answering() -> set[tuple[str, str]]:
        seen.ask("seen", INFER)
        requests = f'haproxy_backend_http_requests_total{{{here},proxy="local"}}'
        found = prometheus.query(f"sum by (model, version) ({requests}) > 0")
        return {(one["metric"]["model"], one["metric"]["version"]) for one in found}

    seen.wait_for("requests are told apart by version", lambda: ("seen", "1.1.0") in answering())
    [operators] = prometheus.query(f'count(up{{job="operator",namespace="{SYSTEM}"}} == 1)')
    assert int(operators["value"][1]) == 2
    [leaders] = prometheus.query("sum(modelswap_leader)")
    assert int(leaders["value"][1]) == 1


@pytest.mark.requirement("MM-10")
def test_the_rules_are_evaluated(prometheus: Prometheus, seen: Tenant) -> None:
    def healthy() -> bool:
        rules = [rule for group in prometheus.get("rules")["groups"] for rule in group["rules"]]
        return len(rules) == 10 and all(rule["health"] == "ok" for rule in rules)

    seen.wait_for("all rules are evaluated", healthy, explain=prometheus.log)
