from __future__ import annotations

import io
import sys

import pytest
from demo.view import LiveView
from demo.watch import RouteWatch

MESSAGES = [
    {"time": 10.0, "sent": 100, "failed": 0, "versions": {"1.0.0": 100}},
    {"time": 10.5, "sent": 200, "failed": 1, "versions": {"1.0.0": 120, "1.1.0": 79}},
]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("status", [{}, {"swap": {"state": "Idle"}}])
def test_a_route_without_a_swap_is_shown(status: dict[str, object], capsys: pytest.CaptureFixture[str]) -> None:
    view = LiveView("a swap", RouteWatch("iris", status=status))
    view.show(MESSAGES[0])
    assert "failed 0  1.0.0:100" in capsys.readouterr().out


def test_a_terminal_shows_rates_versions_and_the_swap_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    swap = {"id": "1", "kind": "Swap", "from": "1.0.0", "to": "1.1.0", "state": "Draining"}
    view = LiveView("a swap", RouteWatch("iris", status={"swap": swap}))
    view.show(MESSAGES[0])
    first = terminal.getvalue().count("\n")
    view.show(MESSAGES[1])
    second = terminal.getvalue().partition(f"\033[{first}A")[2]
    assert "200 requests/s   sent 200   failed 1" in second
    assert second.count("█" * 40) == 1, "the version with most new answers has the longest bar"
    assert "Swap 1.0.0 → 1.1.0: Draining" in second
