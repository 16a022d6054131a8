"""`kubectl modelswap explain [KIND/]NAME`: reads by kubectl, with its configuration and its rights."""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError

from modelswap.api.v1alpha1.base import GROUP
from modelswap.api.v1alpha1.model_route import ModelRoute
from modelswap.api.v1alpha1.model_version import ModelVersion

from .explanation import Explanation, explain_route, explain_version

KUBECTL_SECONDS = 30
KINDS = {
    **dict.fromkeys(("modelversion", "modelversions", "msv"), "modelversions"),
    **dict.fromkeys(("modelroute", "modelroutes", "msr"), "modelroutes"),
}


class PluginError(Exception):
    """What was asked for cannot be told; the message is for the user."""


class Kubectl:
    """Reads objects; `options` say of which cluster and namespace."""

    def __init__(self, options: list[str]) -> None:
        self._options = options

    def get(self, kind: str, *names: str) -> list[dict[str, Any]]:
        """Objects of one kind: those of these names that there are, or all.

        Raises:
            PluginError: kubectl did not tell.

        """
        what = [f"{kind}.{GROUP}", *names]
        command = ["kubectl", "get", *what, *self._options, "--ignore-not-found", "--output=json"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=KUBECTL_SECONDS, check=False)
        except FileNotFoundError as error:
            raise PluginError("there is no kubectl on the PATH") from error
        except subprocess.TimeoutExpired as error:
            raise PluginError(f"kubectl did not answer within {KUBECTL_SECONDS} s") from error
        if done.returncode:
            raise PluginError(done.stderr.strip())
        found = json.loads(done.stdout) if done.stdout.strip() else {"items": []}
        return list(found.get("items", [found]))


def explain(kubectl: Kubectl, what: str, now: datetime) -> list[Explanation]:
    """Everything of that name: `KIND/NAME`, or a name alone.

    Raises:
        PluginError: there is nothing of the kind.

    """
    kind, _, name = what.rpartition("/")
    if kind and kind.lower() not in KINDS:
        raise PluginError(f"{kind} is no kind of modelswap: modelversion (msv) and modelroute (msr) are")
    kinds = [KINDS[kind.lower()]] if kind else ["modelroutes", "modelversions"]
    told = []
    if "modelroutes" in kinds:
        for body in kubectl.get("modelroutes", name):
            route = ModelRoute.model_validate(body)
            told.append(explain_route(route, _versions_of(kubectl, route.spec.model), now))
    if "modelversions" in kinds:
        told += [explain_version(ModelVersion.model_validate(b), now) for b in kubectl.get("modelversions", name)]
    if not told:
        raise PluginError(f"there is no {' and no '.join(k.removesuffix('s') for k in kinds)} {name} in this namespace")
    return told


def _versions_of(kubectl: Kubectl, model: str) -> dict[str, ModelVersion]:
    found = (ModelVersion.model_validate(body) for body in kubectl.get("modelversions"))
    return {version.spec.version: version for version in found if version.spec.model == model}


def main() -> None:
    """Run the plugin."""
    parser = argparse.ArgumentParser(prog="kubectl modelswap", description="Ask a cluster about versions and routes.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    explaining = commands.add_parser("explain", help="why a version is not ready, why a route does not move")
    explaining.add_argument("what", metavar="[KIND/]NAME", help="such as msv/iris-1.1.0, msr/iris, iris")
    for option in ("--namespace", "--context", "--kubeconfig"):
        explaining.add_argument(*(["-n"] if option == "--namespace" else []), option)
    arguments = parser.parse_args()
    given = {"--namespace": arguments.namespace, "--context": arguments.context, "--kubeconfig": arguments.kubeconfig}
    kubectl = Kubectl([f"{option}={value}" for option, value in given.items() if value])
    try:
        told = explain(kubectl, arguments.what, datetime.now(UTC))
    except PluginError as error:
        sys.exit(f"error: {error}")
    except ValidationError as error:
        sys.exit(f"error: the cluster has another release of modelswap than this plugin: {error}")
    width = shutil.get_terminal_size((120, 24)).columns
    print("\n\n".join(explanation.text(width) for explanation in told))


if __name__ == "__main__":
    main()
