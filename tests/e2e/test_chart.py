"""What a cluster's owner does: settings of the chart, namespaces that go, the chart uninstalled and installed again."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from functools import partial

import pytest
from demo.__main__ import install
from demo.kubectl import SYSTEM, DemoError, run

from tests.support.conditions import condition_of

from .conftest import Demonstration
from .tenant import Tenant, model_route, model_version

CACHE = f"/var/tmp/modelswap-artifacts-{uuid.uuid4().hex[:8]}"  # noqa: S108 - of the node
"""Of this run: what an earlier one has kept would hide a cache that keeps nothing."""
SECONDS = "60s"


def _is_kept(tenant: Tenant, name: str) -> bool:
    """Whether the version has a finalizer."""
    return "finalizers" in tenant.get("modelversion", name)["metadata"]


@pytest.fixture(scope="module")
def deleted(tenant: Tenant) -> Tenant:
    """A namespace that is being deleted, with a version that a route leads to."""
    short = Tenant("modelswap-short")
    short.kubectl("create", "namespace", short.namespace)
    secret = tenant.get("secret", "model-store")
    short.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "model-store"}, "data": secret["data"]})
    load = {"state": "Auto", "timeoutSeconds": 180}
    short.apply(model_version("short", "1.0.0", load=load), model_route("short", "1.0.0"))
    short.wait_for_reason("short-1.0.0", "Healthy")
    short.wait_for("it is kept", partial(_is_kept, short, "short-1.0.0"))
    short.kubectl("delete", "namespace", short.namespace, "--wait=false")
    return short


@pytest.fixture
def nodes_keep_artifacts(tenant: Tenant, images: dict[str, str]) -> Iterator[None]:
    install(images, "--set", f"settings.artifactCache.path={CACHE}")
    system = Tenant(SYSTEM)
    system.kubectl("rollout", "status", "daemonset/modelswap-artifact-cache", f"--timeout={SECONDS}")
    yield
    tenant.kubectl("delete", "modelversions", "--all", f"--timeout={SECONDS}")
    install(images)


@pytest.mark.requirement("OL-7")
def test_a_node_fetches_an_artifact_once(tenant: Tenant, deleted: Tenant, nodes_keep_artifacts: None) -> None:
    # The namespace goes meanwhile: Kubernetes looks at it again only after a time in which its pods may end.
    sha256 = tenant.sha256_of_the_model()
    artifact = {"uri": f"http://flaky.{tenant.namespace}.svc:8000/whole/model.joblib", "sha256": sha256}

    def asked() -> int:
        script = "import sys, urllib.request as r; print(r.urlopen(sys.argv[1]).read().decode())"
        url = "http://127.0.0.1:8000/count/whole/model.joblib"
        return int(tenant.kubectl("exec", "deployment/flaky", "--", "python3", "-c", script, url))

    times = []
    for version in ("1.0.0", "1.1.0"):
        tenant.apply(model_version("cached", version, artifact=artifact))
        tenant.wait_for_reason(f"cached-{version}", "Healthy")
        assert tenant.status(f"cached-{version}")["artifactDigest"] == f"sha256:{sha256}"
        times.append(asked())
    assert times == [1, 1]


@pytest.mark.requirement("RG-4")
def test_a_namespace_that_is_deleted_waits_for_no_route(deleted: Tenant) -> None:
    deleted.kubectl("wait", "--for=delete", f"namespace/{deleted.namespace}", "--timeout=120s")


@pytest.fixture
def only_in(tenant: Tenant, images: dict[str, str]) -> Iterator[Tenant]:
    """The operator serves the tenant's namespace and no other; another one."""
    other = Tenant("modelswap-other")
    other.kubectl("create", "namespace", other.namespace)
    install(images, "--set", f"settings.watchNamespaces={{{tenant.namespace}}}")
    yield other
    other.kubectl("delete", "namespace", other.namespace, "--wait=false")
    install(images)


@pytest.mark.requirement("MM-12")
def test_an_operator_of_some_namespaces_needs_rights_in_these_alone(tenant: Tenant, only_in: Tenant) -> None:
    mine = ("auth", "can-i", f"--as=system:serviceaccount:{SYSTEM}:modelswap-operator")
    assert tenant.kubectl(*mine, "create", "deployments").strip() == "yes"
    with pytest.raises(DemoError, match="no"):
        only_in.kubectl(*mine, "list", "secrets")
    for here in (only_in, tenant):
        here.apply(model_version("scoped", "1.0.0", load={"state": "Auto"}), model_route("scoped", "1.0.0"))
    tenant.wait_for_reason("scoped-1.0.0", "Healthy")
    tenant.wait_for_reason("scoped", "Serving", kind="modelroute")
    assert not only_in.status("scoped-1.0.0"), "a version of another namespace was looked at"
    tenant.kubectl("delete", "modelroute/scoped", "modelversion/scoped-1.0.0", f"--timeout={SECONDS}")
    tenant.wait_for("nothing is left", lambda: not tenant.left_of(["scoped-1.0.0"]))


def test_helm_finds_an_installed_operator_well(demo: Demonstration) -> None:
    told = run("helm", "test", "modelswap", "--namespace", SYSTEM, "--timeout=2m")
    assert "Phase:          Succeeded" in told


@pytest.mark.requirement("RG-4", "MM-1")
def test_an_uninstalled_chart_leaves_models_serving_and_is_taken_up_again(
    tenant: Tenant, images: dict[str, str]
) -> None:
    load = {"state": "Auto", "timeoutSeconds": 180}
    tenant.apply(model_version("stays", "1.0.0", load=load), model_route("stays", "1.0.0"))
    tenant.apply(model_version("goes", "1.0.0", load=load), model_route("goes", "1.0.0"))
    for name in ("stays-1.0.0", "goes-1.0.0"):
        tenant.wait_for_reason(name, "Healthy")
        tenant.wait_for("it is kept", partial(_is_kept, tenant, name))
    pods = [pod["metadata"]["uid"] for pod in tenant.pods("stays-1.0.0")]
    loads = tenant.status("stays-1.0.0")["loadCount"]
    try:
        run("helm", "uninstall", "modelswap", "--namespace", SYSTEM, "--wait", "--timeout=2m")
        assert tenant.ask("stays", "/v2/models/stays/infer")["model_version"] == "1.0.0"
        assert not _is_kept(tenant, "stays-1.0.0")
        tenant.kubectl("delete", "modelversion/goes-1.0.0", "modelroute/goes", f"--timeout={SECONDS}")
    finally:
        install(images)
    tenant.wait_for("it is kept", partial(_is_kept, tenant, "stays-1.0.0"))
    tenant.wait_for_reason("stays-1.0.0", "Healthy")
    assert [pod["metadata"]["uid"] for pod in tenant.pods("stays-1.0.0")] == pods
    assert tenant.status("stays-1.0.0")["loadCount"] == loads
    route = tenant.get("modelroute", "stays")["status"]
    assert (route["currentVersion"], condition_of(route)["status"]) == ("1.0.0", "True")
    tenant.kubectl("delete", "modelroutes,modelversions", "--all", f"--timeout={SECONDS}")
