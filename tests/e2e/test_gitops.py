"""The example repository, kept as a person keeps it: promote by a commit, go back by `git revert`."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from demo.kubectl import DemoError

from .conftest import PROJECT
from .tenant import Object, Tenant

EXAMPLE = PROJECT / "deploy" / "examples" / "gitops"
KINDS = [f"--prune-allowlist=modelswap.dev/v1alpha1/{kind}" for kind in ("ModelVersion", "ModelRoute")]


@dataclass(frozen=True)
class Repository:
    """A clone, and the environment that it is applied to."""

    folder: Path
    production: Tenant

    def git(self, *arguments: str) -> None:
        who = ("-c", "user.name=somebody", "-c", "user.email=somebody@example.com")
        subprocess.run(["git", *who, *arguments], cwd=self.folder, check=True, capture_output=True, timeout=30)

    def commit(self, message: str) -> None:
        self.git("add", "--all")
        self.git("commit", "--message", message)

    def apply(self) -> None:
        """What a tool does that follows the repository; what has left it is deleted."""
        folder = str(self.folder / "production")
        self.production.kubectl("apply", "-k", folder, "--prune", "--selector=app.kubernetes.io/part-of=iris", *KINDS)

    def edit(self, old: str, new: str) -> None:
        file = self.folder / "production" / "kustomization.yaml"
        assert old in file.read_text()
        file.write_text(file.read_text().replace(old, new))

    def serves(self, version: str) -> Object:
        """The swap that led there, once the cluster is as Git says."""
        tenant = self.production
        tenant.kubectl("wait", "--for=condition=Ready", "modelroute/iris", "--timeout=120s")

        def done() -> bool:
            found = tenant.get("modelroute", "iris")
            status = found["status"]
            heard = status["observedGeneration"] == found["metadata"]["generation"]
            return bool(heard and status["currentVersion"] == version and status["swap"]["state"] == "Completed")

        tenant.wait_for(f"{version} serves", done)
        found: Object = tenant.get("modelroute", "iris")["status"]["swap"]
        return found

    def drift(self) -> str:
        """What the cluster has otherwise than Git, as `kubectl diff` tells it."""
        try:
            return self.production.kubectl("diff", "-k", str(self.folder / "production"))
        except DemoError as error:
            return str(error)


@pytest.fixture
def repository(tenant: Tenant, tmp_path: Path) -> Iterator[Repository]:
    production = Tenant("iris-production")
    production.kubectl("create", "namespace", production.namespace)
    secret = tenant.get("secret", "model-store")
    production.apply(
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "model-store"}, "data": secret["data"]}
    )
    shutil.copytree(EXAMPLE, tmp_path / "repository")
    made = Repository(tmp_path / "repository", production)
    made.git("init", "--initial-branch=main")
    made.commit("iris 1.0.0 in production")
    yield made
    production.kubectl("delete", "namespace", production.namespace, "--wait=false")


def test_a_version_is_promoted_by_a_commit_and_reverted_by_another(repository: Repository) -> None:
    production = repository.production
    repository.apply()
    repository.serves("1.0.0")
    repository.edit("value: 1.0.0", "value: 1.1.0")
    repository.commit("Promote iris 1.1.0 to production")
    repository.apply()
    promoted = repository.serves("1.1.0")
    assert (promoted["kind"], promoted["from"]) == ("Swap", "1.0.0")
    assert repository.drift() == ""
    repository.git("revert", "--no-edit", "HEAD")
    repository.apply()
    reverted = repository.serves("1.0.0")
    assert (reverted["kind"], reverted["from"]) == ("Rollback", "1.1.0")
    assert production.status("iris-1.0.0")["loadCount"] == 1, "it was kept warm"
    assert repository.drift() == ""
    # What leaves Git leaves the cluster, and comes again with it, whatever comes first.
    base = repository.folder / "base" / "kustomization.yaml"
    base.write_text(base.read_text().replace("  - iris-1.1.0.yaml\n", ""))
    repository.commit("iris 1.1.0 is not needed any more")
    repository.apply()
    production.kubectl("wait", "--for=delete", "modelversion/iris-1.1.0", "--timeout=90s")
    production.kubectl("delete", "modelversion/iris-1.0.0", "modelroute/iris", "--timeout=90s")
    repository.apply()
    repository.serves("1.0.0")


def test_the_environments_differ_in_what_they_serve(tenant: Tenant) -> None:
    for environment, version in (("staging", "1.1.0"), ("production", "1.0.0")):
        text = tenant.kubectl("kustomize", str(EXAMPLE / environment))
        assert f"namespace: iris-{environment}" in text
        route = next(part for part in text.split("---\n") if "kind: ModelRoute" in part)
        assert f"version: {version}" in route
