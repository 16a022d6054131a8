"""`python3 -m localcluster COMMAND`."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from collections.abc import Callable

from . import cluster, images, tools
from .errors import LocalClusterError
from .layout import Layout


def main() -> int:
    """Run one command; the exit code."""
    arguments = _parser().parse_args()
    # Debian keeps these from other users' paths; what the cluster needs is there.
    os.environ["PATH"] = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    try:
        return COMMANDS[arguments.command](Layout.from_environment(), arguments) or 0
    except LocalClusterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="localcluster", description="A real Kubernetes on this machine.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in {
        "up": "bring it up; what runs already is left alone",
        "down": "end it and keep its objects",
        "destroy": "end it and remove everything",
        "status": "tell how its parts are",
        "env": "print the variables that kubectl and helm need",
        "shell": "a shell in the cluster's network, with kubectl and helm",
        "tools": "build the programs and print their folder",
        "test-tools": "build all programs of the tests, while there is a network: the cluster's has no way out",
        "rollouts": "build Argo Rollouts, for benchmarks, and print where it is",
    }.items():
        commands.add_parser(name, help=text)
    build = commands.add_parser("images", help="build the project's images and bring them to the cluster")
    build.add_argument("names", nargs="*", help="all when none is named")
    execute = commands.add_parser("run", help="run a command in the cluster's network")
    execute.add_argument("words", nargs=argparse.REMAINDER)
    return parser


def _env(layout: Layout, _: argparse.Namespace) -> None:
    for name, value in cluster.environment(layout).items():
        print(f"export {name}={shlex.quote(value)}")


def _images(layout: Layout, arguments: argparse.Namespace) -> None:
    wanted = arguments.names or images.names()
    print(json.dumps(images.ensure(layout, wanted, load=images.load_from_environment())))


def _test_tools(layout: Layout, _: argparse.Namespace) -> None:
    for ensure in (
        tools.ensure,
        tools.ensure_store,
        tools.ensure_registry,
        tools.ensure_metrics,
        tools.ensure_monitoring,
        images.ensure_haproxy,
    ):
        ensure(layout)


def _rollouts(layout: Layout, _: argparse.Namespace) -> None:
    programs, crds = tools.ensure_rollouts(layout)
    print(json.dumps({"controller": str(programs / "rollouts-controller"), "crds": str(crds)}))


def command_of(words: list[str]) -> list[str]:
    """The command after `run`; the dashes before it end our own options, later ones are the command's."""
    return words[1:] if words[:1] == ["--"] else words


COMMANDS: dict[str, Callable[[Layout, argparse.Namespace], int | None]] = {
    "up": lambda layout, _: cluster.up(layout),
    "down": lambda layout, _: cluster.down(layout),
    "destroy": lambda layout, _: cluster.destroy(layout),
    "status": lambda layout, _: 0 if cluster.status(layout) else 1,
    "env": _env,
    "shell": lambda layout, _: cluster.execute(layout, [os.environ.get("SHELL", "/bin/bash")]),
    "tools": lambda layout, _: print(tools.ensure(layout)),
    "test-tools": _test_tools,
    "rollouts": _rollouts,
    "images": _images,
    "run": lambda layout, arguments: cluster.execute(layout, command_of(arguments.words)),
}


if __name__ == "__main__":
    sys.exit(main())
