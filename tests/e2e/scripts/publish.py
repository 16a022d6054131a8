"""Publishes models that go wrong, each in its own way: `publish.py BUCKET`.

Runs in the agent's image, as a Job. A model of scikit-learn is a pickle, which may run anything when it is loaded.
"""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import obstore
from obstore.store import from_url

CRASH = """
import os, sys
print("the weights are broken: layer 3 has 17 columns, not 16", file=sys.stderr, flush=True)
os._exit(3)
"""
SLEEP = "import time; time.sleep(3600)"
GREED = "hoard = [bytes(b'x' * 2**20) for _ in range(2048)]"
MOODY = """
import os, time
import numpy

class Moody:
    def predict(self, rows):
        if os.path.exists('/tmp/hang'):
            os.remove('/tmp/hang')
            time.sleep(3600)
        while os.path.exists('/tmp/slow'):
            time.sleep(0.05)
        if len(rows) > 1 and os.path.exists('/tmp/fail'):
            raise RuntimeError('out of luck')
        return numpy.array([7 if os.path.exists('/tmp/wrong') else 1 for _ in rows])

import builtins
builtins.moody = Moody()
"""
"""Answers well, until a file in its container says otherwise; `fail` spares the sample inference's one row."""


class Loading:
    """A pickle of it runs a program and becomes what an expression says."""

    def __init__(self, program: str, expression: str = "None") -> None:
        self._code = f"(exec({program!r}, {{}}), {expression})[1]"

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return eval, (self._code,)


MODELS = {
    "crash": Loading(CRASH),
    "sleep": Loading(SLEEP),
    "greed": Loading(GREED),
    "moody": Loading(MOODY, "__import__('builtins').moody"),
}


def main() -> None:
    """Put every one in the bucket."""
    store = from_url(f"s3://{sys.argv[1]}", client_options={"allow_http": True})
    for name, model in MODELS.items():
        obstore.put(store, f"{name}/model.joblib", pickle.dumps(model))
    obstore.put(store, "protocols/model.py", Path(__file__).with_name("model.py").read_bytes())


if __name__ == "__main__":
    main()
