"""A namespace of its own on the real cluster, with versions in it."""

from __future__ import annotations

import json
import string
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from demo.kubectl import run, wait_until

from tests.support.conditions import condition_of

FOLDER = Path(__file__).parent
MODEL_SERVER = FOLDER.parent / "dataplane" / "model.py"
"""A model server in one file; as the artifact of a version, it is what its pods run."""
PROBE = {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP64", "data": [[6.0, 2.7, 5.1, 1.6]]}]}

Object = dict[str, Any]


@dataclass(frozen=True)
class Tenant:
    """What a person does in one namespace."""

    namespace: str

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        return run("kubectl", "--namespace", self.namespace, *arguments, stdin=stdin)

    def apply(self, *objects: Object) -> None:
        document = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        self.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=json.dumps(document))

    def apply_file(self, name: str, **values: str) -> None:
        text = string.Template((FOLDER / "manifests" / f"{name}.yaml").read_text()).substitute(values)
        self.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=text)

    def get(self, kind: str, name: str) -> Object:
        found: Object = json.loads(self.kubectl("get", kind, name, "--output=json"))
        return found

    def all(self, kinds: str, selector: str = "") -> list[Object]:
        text = self.kubectl("get", kinds, f"--selector={selector}", "--output=json")
        items: list[Object] = json.loads(text)["items"]
        return items

    def status(self, name: str) -> Object:
        found: Object = self.get("modelversion", name).get("status", {})
        return found

    def patch(self, kind: str, name: str, spec: Object) -> None:
        self.kubectl("patch", kind, name, "--type=merge", f"--patch={json.dumps({'spec': spec})}")

    def load(self, name: str, state: str) -> None:
        self.patch("modelversion", name, {"load": {"state": state}})

    def watch(self, kind: str, name: str, jsonpath: str) -> subprocess.Popen[str]:
        """What an object becomes, a line each."""
        command = [
            "kubectl",
            "--namespace",
            self.namespace,
            "get",
            kind,
            name,
            "--watch",
            f"--output=jsonpath={jsonpath}",
        ]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def wait_for(
        self,
        what: str,
        condition: Callable[[], Any],
        *,
        seconds: float = 120,
        about: str = "",
        explain: Callable[[], str] | None = None,
    ) -> None:
        def describe() -> str:
            described = self.kubectl("describe", "modelversion", *([about] if about else []))[-3000:]
            return described + self.kubectl("get", "pods,modelswap", "--output=wide")

        wait_until(what, lambda: bool(condition()), seconds=seconds, explain=explain or describe)

    def wait_for_reason(self, name: str, *reasons: str, kind: str = "modelversion", seconds: float = 120) -> str:
        """The message of Ready, once it has one of these reasons."""
        found: Object = {}

        def reached() -> bool:
            found.update(condition_of(self.get(kind, name).get("status", {})))
            return found["reason"] in reasons

        self.wait_for(
            f"{name} is {' or '.join(reasons)}",
            reached,
            seconds=seconds,
            explain=lambda: self.kubectl("describe", kind, name)[-3000:] + self.kubectl("get", "pods,modelswap"),
        )
        return str(found["message"])

    def ask(self, service: str, path: str, body: Object = PROBE) -> Object:
        """One request to a version, by way of the API server."""
        url = f"/api/v1/namespaces/{self.namespace}/services/{service}:http/proxy{path}"
        answer: Object = json.loads(self.kubectl("create", "--raw", url, "-f", "-", stdin=json.dumps(body)))
        return answer

    def pods(self, version: str) -> list[Object]:
        return self.all("pods", f"modelswap.dev/model-version={version}")

    def sha256_of_the_model(self) -> str:
        """Of the file that the web server `flaky` has."""
        script = "import hashlib; print(hashlib.sha256(open('/model/model.joblib', 'rb').read()).hexdigest())"
        return self.kubectl("exec", "deployment/flaky", "--", "python3", "-c", script).strip()

    def left_of(self, versions: Iterable[str]) -> list[str]:
        """What still stands that was made for these versions."""
        kinds = "pods,replicasets,deployments,services,endpointslices,configmaps,secrets,persistentvolumeclaims"
        return [
            f"{item['kind']} {item['metadata']['name']}"
            for item in self.all(kinds, f"modelswap.dev/model-version in ({','.join(versions)})")
        ]


def prepared(images: dict[str, str]) -> Tenant:
    """A new namespace; beside the demo's store, with models that go wrong in it and a web server that does."""
    made = Tenant("modelswap-versions")
    made.kubectl("delete", "namespace", made.namespace, "--ignore-not-found", "--timeout=120s")
    made.kubectl("create", "namespace", made.namespace)
    scripts = [f"--from-file={path}" for path in (*sorted((FOLDER / "scripts").glob("*.py")), MODEL_SERVER)]
    made.kubectl("create", "configmap", "test-scripts", *scripts)
    made.apply_file("models", AGENT_IMAGE=images["agent"])
    made.kubectl("wait", "--for=condition=Complete", "job/publish", "--timeout=120s")
    made.kubectl("rollout", "status", "deployment/flaky", "--timeout=120s")
    return made


def model_version(model: str, version: str, **spec: Any) -> Object:
    """A copy of iris 1.0.0 of the demo, loaded at once, with changes."""
    return {
        "apiVersion": "modelswap.dev/v1alpha1",
        "kind": "ModelVersion",
        "metadata": {"name": f"{model}-{version}"},
        "spec": {
            "model": model,
            "version": version,
            "runtime": {"name": "mlserver-sklearn"},
            "artifact": artifact("iris/1.0.0/"),
            "load": {"state": "Loaded", "timeoutSeconds": 180},
            "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"memory": "512Mi"}},
            **spec,
        },
    }


def artifact(path: str, **more: Any) -> Object:
    return {"uri": f"s3://models/{path}", "secretRef": {"name": "model-store"}, **more}


def model_route(model: str, version: str, **spec: Any) -> Object:
    return {
        "apiVersion": "modelswap.dev/v1alpha1",
        "kind": "ModelRoute",
        "metadata": {"name": model},
        "spec": {"model": model, "version": version, **spec},
    }
