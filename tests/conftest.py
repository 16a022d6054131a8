"""Settings of the whole test suite."""

from __future__ import annotations

import pytest
from hypothesis import settings

settings.register_profile("suite", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("suite")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Cheap tests first, the cluster last: what is broken shows early."""
    order = {"unit": 0, "simulation": 1, "dataplane": 2, "api": 3, "e2e": 4}
    items.sort(key=lambda item: order.get(item.path.parts[-2], 0))
    for item in items:
        # Two lanes side by side: tests of the cluster wait most of the time.
        item.add_marker(pytest.mark.xdist_group("cluster" if item.path.parts[-2] == "e2e" else "rest"))
