"""Trains iris 1.0.0 and 1.1.0: two kinds of estimator that answer the demo's probe differently.

Runs in the model server's image: `train.py FOLDER`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import joblib
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeClassifier

PROBE = [[6.0, 2.7, 5.1, 1.6]]
"""A versicolor that looks like a virginica: the estimators disagree about it."""

ESTIMATORS = {
    "1.0.0": LogisticRegression(max_iter=1000),
    "1.1.0": DecisionTreeClassifier(random_state=0),
}


def main() -> None:
    """Train both; FOLDER/answers.json says what each answers to the probe."""
    folder = Path(sys.argv[1])
    features, classes = load_iris(return_X_y=True)
    answers = {}
    for version, estimator in ESTIMATORS.items():
        estimator.fit(features, classes)
        target = folder / version
        target.mkdir(parents=True, exist_ok=True)
        joblib.dump(estimator, target / "model.joblib")
        answers[version] = {"answer": int(estimator.predict(PROBE)[0]), "estimator": type(estimator).__name__}
    if len({a["answer"] for a in answers.values()}) != len(answers):
        sys.exit(f"the probe does not tell the versions apart: {answers}")
    (folder / "answers.json").write_text(json.dumps(answers))
    print(answers)


if __name__ == "__main__":
    main()
