"""Which tests show which row of the requirements: `python -m tests.support.requirements FILE`."""

from __future__ import annotations

import ast
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
TIERS = ("e2e", "api", "dataplane", "simulation", "unit")
"""The highest first."""


def marked(path: Path) -> Iterator[tuple[str, str]]:
    """Requirement and test name of every mark in a file."""
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                yield from ((row, node.name) for mark in node.decorator_list for row in _rows(mark))
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Call(func=mark)):
                yield from ((row, name) for row in _rows(mark))


def _rows(node: ast.expr) -> Iterator[str]:
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.requirement":
        yield from (str(ast.literal_eval(row)) for row in node.args)


def render() -> str:
    """The table, in Markdown."""
    found: dict[str, list[str]] = defaultdict(list)
    for tier in TIERS:
        for path in sorted((TESTS / tier).rglob("test_*.py")):
            for row, name in marked(path):
                found[row].append(f"`{path.relative_to(TESTS)}` {name.removeprefix('test_').replace('_', ' ')}")
    lines = ["# Requirements and the tests that show them", "", "Made from the marks of the tests by `make generate`."]
    lines += ["", "| row | tests, the highest tier first |", "| --- | --- |"]
    lines += [f"| {row} | {'<br>'.join(tests)} |" for row, tests in sorted(found.items(), key=_order)]
    return "\n".join(lines) + "\n"


def _order(item: tuple[str, list[str]]) -> tuple[str, int]:
    kind, _, number = item[0].partition("-")
    return kind, int(number)


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(render())
