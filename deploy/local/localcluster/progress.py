"""Long work shows where it is."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def step(title: str) -> Iterator[None]:
    """Print a step's title when it begins and its time when it ends."""
    began = time.monotonic()
    print(f"  {title} …", end="", flush=True, file=sys.stderr)
    try:
        yield
    except BaseException:
        print(" failed", file=sys.stderr)
        raise
    print(f" {time.monotonic() - began:.1f} s", file=sys.stderr)
