"""`kubectl modelswap explain`, found on the PATH by the real kubectl."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from .tenant import Tenant, artifact, model_route, model_version


@pytest.fixture
def path_with_plugin(tmp_path: Path) -> str:
    """A folder with the program that `pip install` would make, before all others."""
    program = tmp_path / "kubectl-modelswap"
    program.write_text(f"#!{sys.executable}\nfrom modelswap.plugin.__main__ import main\nmain()\n")
    program.chmod(0o755)
    return f"{tmp_path}:{os.environ['PATH']}"


@pytest.mark.requirement("MM-14")
def test_the_plugin_explains_a_route_and_the_version_that_it_waits_for(tenant: Tenant, path_with_plugin: str) -> None:
    def explain(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["kubectl", "modelswap", "explain", *words],
            env=os.environ | {"PATH": path_with_plugin, "PYTHONPATH": ":".join(sys.path), "COLUMNS": "400"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    here = f"--namespace={tenant.namespace}"
    wrong = artifact("iris/1.0.0/", sha256="0" * 64)
    tenant.apply(model_version("asked", "1.0.0", artifact=wrong), model_route("asked", "1.0.0"))
    tenant.wait_for_reason("asked-1.0.0", "LoadFailed")
    tenant.wait_for_reason("asked", "TargetLoadFailed", kind="modelroute")
    route = explain("asked", here)
    assert route.returncode == 0, route.stderr
    assert "ModelRoute asked leads nowhere yet, and cannot go where its spec asks." in route.stdout
    version = explain("msv/asked-1.0.0", here).stdout
    assert "ModelVersion asked-1.0.0 is not ready: LoadFailed." in version
    assert "ChecksumMismatch: " in version
    assert f"kubectl -n {tenant.namespace} annotate modelversion asked-1.0.0 modelswap.dev/retry=again" in version
    unknown = explain("msr/nobody", here)
    assert (unknown.returncode, unknown.stdout) == (1, "")
    assert unknown.stderr == "error: there is no modelroute nobody in this namespace\n"
    tenant.kubectl("delete", "modelroute/asked", "modelversion/asked-1.0.0", "--timeout=60s")
