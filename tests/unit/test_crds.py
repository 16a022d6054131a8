from __future__ import annotations

from pathlib import Path

from modelswap.api.crdgen import render

PROJECT = Path(__file__).resolve().parents[2]


def test_the_crds_in_the_tree_are_those_of_the_models() -> None:
    for folder in ("crds", "charts/modelswap/crds"):
        written = {path.name: path.read_text() for path in (PROJECT / folder).glob("*.yaml")}
        assert written == render(), "run `make crds`"


def test_operator_is_a_source_root_and_no_package() -> None:
    # With an __init__.py it would shadow the standard library's `operator`.
    assert not (PROJECT / "operator" / "__init__.py").exists()
