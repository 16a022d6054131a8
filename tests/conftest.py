"""Settings of the whole test suite."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

TESTS = Path(__file__).parent

settings.register_profile("suite", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("suite")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Cheap tests first, the cluster last: what is broken shows early."""
    order = {"unit": 0, "simulation": 1, "dataplane": 2, "api": 3, "e2e": 4}
    items.sort(key=lambda item: order.get(_tier(item), 0))


def _tier(item: pytest.Item) -> str:
    return item.path.relative_to(TESTS).parts[0]


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """No name of a test comes from bytes: an archive holds the time, and the processes must name the same tests."""
    return argname if isinstance(val, bytes) else None
