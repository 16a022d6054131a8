"""Kubectl and helm, as a person would use them."""

from __future__ import annotations

import json
import string
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parents[1]
PROJECT = FOLDER.parents[1]
NAMESPACE = "modelswap-demo"
SYSTEM = "modelswap-system"


class DemoError(Exception):
    """The demo cannot go on; the message says why."""


def run(*command: str, stdin: str | None = None, timeout: float = 180) -> str:
    """Run a command.

    Raises:
        DemoError: it failed, or took longer than `timeout` seconds.

    """
    try:
        done = subprocess.run(command, input=stdin, text=True, capture_output=True, timeout=timeout, check=False)
    except FileNotFoundError as error:
        raise DemoError(
            f"{command[0]} is not on the PATH: install it, or use `make demo` without KUBECONFIG"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise DemoError(f"`{' '.join(command[:6])}` took longer than {timeout:.0f} s") from error
    if done.returncode:
        raise DemoError(f"`{' '.join(command[:6])}` failed: {(done.stderr or done.stdout).strip()[-1500:]}")
    return done.stdout


def kubectl(*arguments: str, stdin: str | None = None, timeout: float = 180) -> str:
    """Run kubectl in the demo's namespace."""
    return run("kubectl", "--namespace", NAMESPACE, *arguments, stdin=stdin, timeout=timeout)


def apply(manifest: str, **values: str) -> None:
    """Apply a manifest of the demo, its `${NAME}`s filled in."""
    text = (FOLDER / "manifests" / f"{manifest}.yaml").read_text()
    kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=string.Template(text).substitute(values))


def get(kind: str, name: str) -> dict[str, Any]:
    """One object."""
    found: dict[str, Any] = json.loads(kubectl("get", kind, name, "--output=json"))
    return found


def wait_until(what: str, condition: Callable[[], bool], *, seconds: float, explain: Callable[[], str]) -> None:
    """Look until a condition holds.

    Raises:
        DemoError: it did not within `seconds`; the message ends with what `explain` says.

    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise DemoError(f"{what}: not within {seconds:.0f} s\n{explain()}")
        time.sleep(0.1)
