"""The operator's rights are those that it uses, as the API server's audit log tells; neither more nor less."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from demo.__main__ import install
from demo.kubectl import SYSTEM, run
from localcluster.layout import Layout

from .tenant import Tenant, model_route, model_version

LAYOUT = Layout.from_environment()
USER = f"system:serviceaccount:{SYSTEM}:modelswap-operator"
CHECKED_BY_ADMISSION = {
    ("modelswap.dev", "modelversions/finalizers", "update"),
    ("modelswap.dev", "modelroutes/finalizers", "update"),
}
"""Asked for by OwnerReferencesPermissionEnforcement when a child is made: a check and no request, so not in the log."""

Right = tuple[str, str, str]
"""API group, resource, verb."""


def granted() -> set[Right]:
    """By the ClusterRole and the Role of the chart."""
    roles: list[dict[str, Any]] = [
        json.loads(run("kubectl", "get", "clusterrole", "modelswap-operator", "--output=json")),
        Tenant(SYSTEM).get("role", "modelswap-operator"),
    ]
    return {
        (group, resource, verb)
        for role in roles
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def used() -> set[Right]:
    """By requests that were granted."""
    return {right for line in _requests() for right in _rights(line)}


def _requests() -> Iterator[dict[str, Any]]:
    newest = LAYOUT.log_of("audit")
    for file in (newest, *newest.parent.glob(f"{newest.stem}-*{newest.suffix}")):
        with Path(file).open() as lines:
            for line in lines:
                # The last line may be half written.
                if USER in line and line.endswith("}\n"):
                    yield json.loads(line)


def _rights(request: dict[str, Any]) -> Iterator[Right]:
    about, code = request.get("objectRef"), request.get("responseStatus", {}).get("code", 0)
    if request["user"]["username"] != USER or not about or code in (401, 403):
        return
    resource = "/".join(filter(None, (about["resource"], about.get("subresource"))))
    group = about.get("apiGroup", "")
    yield group, resource, request["verb"]
    if request["verb"] == "patch" and code == 201:  # what server-side apply makes has to be allowed to be created, too
        yield group, resource, "create"


@pytest.fixture
def everything_has_been_done(tenant: Tenant, images: dict[str, str]) -> None:
    """By the tests before this one; or, where this one is run alone, here."""
    if os.environ.get("KUBECONFIG") != str(LAYOUT.kubeconfig):
        pytest.skip("only the local cluster's audit log can be read")
    if granted() - used() <= CHECKED_BY_ADMISSION:
        return
    load = {"state": "Auto", "timeoutSeconds": 180}
    tenant.apply(model_version("rights", "1.0.0", load=load), model_route("rights", "1.0.0"))
    tenant.wait_for_reason("rights", "Serving", kind="modelroute")
    tenant.kubectl("delete", "modelroute/rights", "--timeout=60s")
    tenant.wait_for_reason("rights-1.0.0", "Unloaded")
    tenant.kubectl("delete", "modelversion/rights-1.0.0", "--timeout=60s")
    run("helm", "uninstall", "modelswap", "--namespace", SYSTEM, "--wait", "--timeout=2m")
    Tenant(SYSTEM).kubectl("delete", "lease", "modelswap-operator")
    install(images)


def test_the_operator_may_do_what_it_does_and_nothing_else(everything_has_been_done: None) -> None:
    may, does = granted(), used()
    assert does - may == set(), "the operator does what the chart does not allow"
    assert may - does == CHECKED_BY_ADMISSION, "the chart allows what the operator does not do"
