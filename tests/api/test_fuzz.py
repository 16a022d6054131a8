"""Ten thousand specs from the CRDs' own schemas, against the real API server and the planner.

Whatever a spec holds: the API server answers in words or takes it; what it takes, the operator understands and plans
for; and the children of such a plan are taken too, or the whole of them refused, which the operator tells.
MODELSWAP_FUZZ_SEED=N takes other specs than everyday's.
"""

from __future__ import annotations

import json
import os
import ssl
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.client import HTTPSConnection
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from localcluster.apiserver import TOKEN
from modelswap.api.v1alpha1.model_route import ModelRoute
from modelswap.api.v1alpha1.model_runtime import ModelRuntime
from modelswap.api.v1alpha1.model_version import ModelVersion
from modelswap.planning.observed import ObservedRoute, ObservedVersion, ServingVersion
from modelswap.planning.plan import Apply
from modelswap.planning.registry import Versions
from modelswap.planning.routes import plan_route
from modelswap.planning.versions import plan_version

from tests.support import objects
from tests.support.schema_strategies import Json, broken, valid

from .conftest import PROJECT, Cluster, condition, eventually, runtime

SEED = int(os.environ.get("MODELSWAP_FUZZ_SEED", "1"))
VERSIONS, ROUTES, RUNTIMES = 5000, 3000, 2000
CHILDREN_OF_EVERY = 20
"""So many accepted specs: one has its children tried as well."""
REAL = 150

MODELS = st.from_regex("[a-z]([-a-z0-9]{0,8}[a-z0-9])?", fullmatch=True)
SEMVER = st.builds(
    lambda numbers, pre: ".".join(map(str, numbers)) + pre,
    st.tuples(*[st.integers(0, 120)] * 3),
    st.sampled_from(["", "", "", "-rc.1", "-alpha", "-0.a-b"]),
)
SEGMENT = st.from_regex("[a-z0-9._-]{1,8}", fullmatch=True)
ARTIFACT_URI = st.one_of(
    st.builds(
        lambda kind, path: f"{kind}://models/{path}", st.sampled_from(["s3", "gs", "az", "https", "hf"]), SEGMENT
    ),
    st.builds(lambda claim, path: f"pvc://{claim}/{path}", MODELS, SEGMENT),
    st.builds(lambda kind, name: f"{kind}://registry.example:5000/{name}:1", st.sampled_from(["oci", "image"]), MODELS),
)
RESOURCE = st.sampled_from(["cpu", "memory", "ephemeral-storage", "nvidia.com/gpu", "hugepages-2Mi", "nonsense", "a b"])
HINTS: dict[str, st.SearchStrategy[Json]] = {
    "spec.model": MODELS,
    "spec.version": SEMVER,
    "spec.artifact.uri": ARTIFACT_URI,
    "spec.resources.limits{key}": RESOURCE,
    "spec.resources.requests{key}": RESOURCE,
    "spec.modelServer.resources.limits{key}": RESOURCE,
    "spec.modelServer.resources.requests{key}": RESOURCE,
}


def schema_of(plural: str) -> dict[str, Any]:
    crd = yaml.safe_load((PROJECT / "crds" / f"modelswap.dev_{plural}.yaml").read_text())
    schema: dict[str, Any] = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    return schema


def specs(plural: str, hints: dict[str, st.SearchStrategy[Json]]) -> st.SearchStrategy[Json]:
    """Two of three keep the schema."""
    whole = valid(schema_of(plural), hints, "spec")
    return st.integers(0, 2).flatmap(lambda dice: broken(whole) if dice == 0 else whole)


def name_of(spec: Json) -> str:
    if isinstance(spec, dict) and isinstance(spec.get("model"), str) and isinstance(spec.get("version"), str):
        return f"{spec['model']}-{spec['version']}"
    return "some-1.0.0"


@dataclass
class Api:
    """The API server over one connection, for many small requests."""

    connection: HTTPSConnection
    answers: Counter[int] = field(default_factory=Counter)

    @classmethod
    def of(cls, cluster: Cluster) -> Api:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return cls(HTTPSConnection(urlsplit(cluster.server.url).netloc, context=context, timeout=30))

    def create(self, plural: str, body: Json, namespace: str = "", *, group: str = "", rehearse: bool = True) -> Json:
        """The object, or the refusal as a Status."""
        base = f"/apis/{group}" if group != "v1" else "/api/v1"
        scope = f"/namespaces/{namespace}" if namespace else ""
        query = "fieldValidation=Strict" + ("&dryRun=All" if rehearse else "")
        headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
        self.connection.request("POST", f"{base}{scope}/{plural}?{query}", json.dumps(body), headers)
        response = self.connection.getresponse()
        answer = json.loads(response.read())
        self.answers[response.status] += 1
        if response.status == 201:
            return answer
        # 400 is for what cannot be read at all, and for fields that nobody knows.
        assert response.status in (400, 422), (answer, body)
        assert answer["message"], body
        if response.status == 422:
            assert answer["details"]["causes"], answer
        return None


def everyday(count: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """So many examples, the same each day."""

    def decorate(test: Callable[..., None]) -> Callable[..., None]:
        chosen = settings(
            max_examples=count,
            phases=[Phase.generate],
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        )
        return seed(SEED)(chosen(test))

    return decorate


@pytest.fixture(scope="module")
def api(cluster: Cluster) -> Iterator[Api]:
    for namespace in ("fuzz", "fuzz-real"):
        cluster.kubectl("create", "namespace", namespace)
    made = Api.of(cluster)
    yield made
    made.connection.close()


def body_of(kind: str, name: str, spec: Json, namespace: str = "fuzz") -> Json:
    metadata = {"name": name} | ({"namespace": namespace} if namespace else {})
    return {"apiVersion": "modelswap.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec}


@dataclass
class Seen:
    """How a run went: one that refuses all, or takes all, shows nothing."""

    accepted: int = 0
    refused: int = 0
    children: Counter[str] = field(default_factory=Counter)

    def check(self, count: int) -> None:
        assert self.accepted + self.refused == count
        assert self.accepted > count / 4, self
        assert self.refused > count / 10, self


def test_versions(api: Api) -> None:
    seen = Seen()
    runtime_ = ModelRuntime.model_validate(runtime())

    @everyday(VERSIONS)
    @given(specs("modelversions", HINTS))
    def run(spec: Json) -> None:
        answer = api.create("modelversions", body_of("ModelVersion", name_of(spec), spec), "fuzz",
                            group="modelswap.dev/v1alpha1")  # fmt: skip
        if answer is None:
            seen.refused += 1
            return
        seen.accepted += 1
        version = ModelVersion.model_validate(answer | {"metadata": answer["metadata"] | {"resourceVersion": "1"}})
        wanted = version.model_copy(deep=True)
        route = objects.model_route(version.spec.version, model=version.spec.model)
        serving = ServingVersion(resource=wanted, runtime=runtime_)
        plan = plan_version(
            ObservedVersion(version=serving, routes=(route,), siblings=Versions.of([wanted])),
            objects.DEFAULTS,
            objects.NOW,
        )
        assert plan.status is not None
        if seen.accepted % CHILDREN_OF_EVERY == 0:
            _try_children(api, [action for action in plan.actions if isinstance(action, Apply)], seen)

    run()
    seen.check(VERSIONS)
    print(seen, api.answers)
    assert seen.children["taken"] > 50, seen


def _try_children(api: Api, actions: list[Apply], seen: Seen) -> None:
    plurals = {
        "Deployment": ("deployments", "apps/v1"),
        "Service": ("services", "v1"),
        "ConfigMap": ("configmaps", "v1"),
    }
    for action in actions:
        plural, group = plurals[action.manifest["kind"]]
        taken = api.create(plural, action.manifest, "fuzz", group=group) is not None
        # A Deployment may be refused for resources that no schema can know; all other children are ours alone.
        assert taken or action.manifest["kind"] == "Deployment", action.manifest
        seen.children["taken" if taken else "refused"] += 1


def test_routes(api: Api) -> None:
    seen = Seen()
    ranges = st.one_of(SEMVER, st.builds(lambda low, high: f">={low},<{high}", SEMVER, SEMVER))

    @everyday(ROUTES)
    @given(specs("modelroutes", HINTS | {"spec.version": ranges}))
    def run(spec: Json) -> None:
        answer = api.create("modelroutes", body_of("ModelRoute", "iris", spec), "fuzz", group="modelswap.dev/v1alpha1")
        if answer is None:
            seen.refused += 1
            return
        seen.accepted += 1
        route = ModelRoute.model_validate(answer | {"metadata": answer["metadata"] | {"resourceVersion": "1"}})
        version = objects.serving(objects.model_version("1.0.0", model=route.spec.model))
        plan = plan_route(ObservedRoute(route=route, versions={"1.0.0": version}), objects.NOW)
        assert plan.status is not None

    run()
    seen.check(ROUTES)


def test_runtimes(api: Api) -> None:
    seen = Seen()

    @everyday(RUNTIMES)
    @given(specs("modelruntimes", HINTS))
    def run(spec: Json) -> None:
        answer = api.create("modelruntimes", body_of("ModelRuntime", "any", spec, ""), group="modelswap.dev/v1alpha1")
        if answer is None:
            seen.refused += 1
            return
        seen.accepted += 1
        made = ModelRuntime.model_validate(answer)
        resource = objects.model_version("1.0.0")
        observed = ObservedVersion(
            version=ServingVersion(resource=resource, runtime=made),
            routes=(objects.model_route("1.0.0"),),
            siblings=Versions.of([resource]),
        )
        assert plan_version(observed, objects.DEFAULTS, objects.NOW).actions

    run()
    seen.check(RUNTIMES)


def test_what_is_taken_is_loaded_as_a_whole_or_told(
    api: Api, cluster: Cluster, operator: subprocess.Popen[bytes], operator_log: Callable[[], str]
) -> None:
    cluster.applied(runtime())
    names: set[str] = set()
    hints = HINTS | {"spec.runtime.name": st.just("mlserver"), "spec.load.state": st.just("Loaded")}

    @everyday(REAL)
    @given(valid(schema_of("modelversions"), hints, "spec"))
    def run(spec: Json) -> None:
        spec["load"] = {"state": "Loaded"} | spec.get("load", {})
        body = body_of("ModelVersion", name_of(spec), spec, "fuzz-real")
        if name_of(spec) not in names and api.create("modelversions", body, "fuzz-real",
                                                     group="modelswap.dev/v1alpha1", rehearse=False):  # fmt: skip
            names.add(name_of(spec))

    run()
    assert len(names) > REAL / 4
    kinds = {"Deployment", "Service", "ConfigMap", "Secret"}

    def settled() -> bool:
        children: dict[str, set[str]] = {name: set() for name in names}
        for child in cluster.all("deployments,services,configmaps,secrets", "fuzz-real"):
            if owner := child["metadata"].get("labels", {}).get("modelswap.dev/model-version"):
                children[owner].add(child["kind"])
        for found in cluster.all("modelversions", "fuzz-real"):
            stalled = condition(found, "Stalled")
            whole = children[found["metadata"]["name"]] == kinds
            refused = stalled["reason"] in ("ChildRefused", "NameTaken") and stalled["message"]
            if not whole and not (refused and not children[found["metadata"]["name"]]):
                return False
        return True

    eventually(settled, seconds=90)
    log = operator_log()
    assert "Traceback" not in log
    assert "a fault in the operator" not in log
