from __future__ import annotations

import json
from typing import Any

import pytest
from demo.figures import Run, run_of, table

APPLIED = 1000.0


def summary(**changes: Any) -> dict[str, Any]:
    return {
        "sent": 4000,
        "failed": 0,
        "versions": {"1.0.0": 1500, "1.1.0": 2500},
        "failures": [],
        "first_answer": {"1.0.0": 990.0, "1.1.0": 1000.5},
        "last_answer": {"1.0.0": 1000.4, "1.1.0": 1015.0},
        "last_sent": {"1.0.0": 1000.2, "1.1.0": 1014.9},
        "median_latency": 0.01,
        "max_latency": 0.26,
        "large_answers": 15,
        **changes,
    }


def run(kind: str = "swap", **changes: Any) -> Run:
    return run_of(
        way="modelswap",
        kind=kind,
        summary=summary(**changes),
        old="1.0.0",
        new="1.1.0",
        applied=APPLIED,
        completed=0.5554,
        swap={"holdSeconds": 0.25, "heldRequests": 31},
    )


def test_times_are_told_from_the_apply_on() -> None:
    found = run()
    assert (found.first_new_seconds, found.last_old_seconds, found.apply_to_completed_seconds) == (0.5, 0.4, 0.555)
    assert found.added_latency_seconds_max == 0.25


@pytest.mark.parametrize(("last_old", "strict"), [(1000.4, True), (1000.5, True), (1000.501, False)])
def test_a_swap_is_strict_when_no_old_answer_arrives_after_the_first_new_one(last_old: float, strict: bool) -> None:
    assert run(last_answer={"1.0.0": last_old, "1.1.0": 1015.0}).strict is strict


@pytest.mark.parametrize(("last_sent", "strict"), [(1000.4, True), (1000.6, False)])
def test_a_rollback_is_strict_when_nothing_sent_after_the_first_new_answer_is_answered_by_the_old(
    last_sent: float, strict: bool
) -> None:
    drained_later = {"1.0.0": 1003.0, "1.1.0": 1015.0}
    assert run("rollback", last_answer=drained_later, last_sent={"1.0.0": last_sent}).strict is strict


@pytest.mark.parametrize("version", ["1.0.0", "1.1.0"])
def test_a_run_that_one_version_never_answered_is_not_strict_and_still_a_report(version: str) -> None:
    without: dict[str, Any] = {
        name: {other: at for other, at in summary()[name].items() if other != version}
        for name in ("first_answer", "last_answer", "last_sent")
    }
    found = run(**without)
    assert found.strict is False
    assert json.loads(json.dumps(found.as_json(), allow_nan=False))["strict"] is False
    assert "cut-over strict" in table([found])


def test_the_table_has_a_column_a_run() -> None:
    rows = {line[:26].strip(): line[26:].split() for line in table([run(), run(failed=22)]).splitlines()}
    assert rows["failed"] == ["0", "22"]
    assert rows["requests sent"] == ["4,000", "4,000"]
