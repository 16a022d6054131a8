"""What the benchmark makes of what clients saw."""

from __future__ import annotations

from tests.bench.timeline import Answer, Change, figures, seen


def quick(sent: float, arrived: float, version: str) -> Answer:
    return Answer(sent, arrived, version, large=False)


def test_each_change_gets_its_own_part_of_the_timeline() -> None:
    answers = [
        quick(0.0, 0.1, "1.0.0"),
        quick(1.0, 1.3, "1.1.0"),
        quick(1.1, 1.4, "1.0.0"),  # an old answer after the first new one
        quick(2.0, 2.1, "1.1.0"),
        quick(3.0, 3.5, "1.0.0"),
        quick(3.1, 3.6, "1.1.0"),  # sent before the first answer of the version gone back to: it drains
        quick(3.7, 3.8, "1.1.0"),  # sent after it
        quick(4.0, 4.1, "1.0.0"),
    ]
    changes = [Change("swap", "1.0.0", "1.1.0", 0.9, 1.5), Change("rollback", "1.1.0", "1.0.0", 2.9, 3.2)]
    swap, rollback = seen(answers, [1.2, 3.9, 99.0], changes, end=5.0)
    assert (swap.sent, swap.failed, swap.old_after_first_new) == (4, 1, 1)
    assert (rollback.sent, rollback.failed, rollback.old_after_first_new) == (5, 1, 1)
    found = figures("some", [swap, rollback])
    assert (found.sent, found.failed, found.strict, found.changes) == (9, 2, False, 2)
    assert found.apply_to_done_seconds == {"p50": 0.45, "max": 0.6}
    assert found.rollback_to_first_answer_seconds == {"p50": 0.6, "max": 0.6}
