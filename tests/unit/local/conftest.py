from __future__ import annotations

from pathlib import Path

import pytest
from localcluster.layout import Layout


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(name="unit-test", state=tmp_path / "state", cache=tmp_path / "cache")
