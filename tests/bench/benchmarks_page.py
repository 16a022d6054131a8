"""docs/benchmarks.md and its plots, from figures."""

from __future__ import annotations

import os
import platform
import string
from pathlib import Path

import pygal
from demo.kubectl import run
from pygal.style import CleanStyle

from .timeline import Figures

DOCS = Path(__file__).resolve().parents[2] / "docs"
TITLES = {
    "modelswap": "modelswap",
    "selector-flip": "selector flip",
    "rolling-update": "Deployment RollingUpdate",
    "argo-rollouts": "Argo Rollouts blue-green",
}


def write_page(found: list[Figures], rounds: int) -> None:
    """Write the page and its plots."""
    (DOCS / "benchmarks").mkdir(exist_ok=True)
    _bars("Requests that failed", found, {"failed": [f.failed for f in found]}, "swap-failed.svg")
    old = {"old answers": [f.old_after_first_new for f in found]}
    _bars("Old answers after the first new one", found, old, "swap-old-answers.svg")
    seconds = {
        "median": [f.apply_to_done_seconds["p50"] for f in found],
        "longest": [f.apply_to_done_seconds["max"] for f in found],
    }
    _bars("From apply to done, in seconds", found, seconds, "swap-seconds.svg")
    text = string.Template((Path(__file__).parent / "benchmarks.md").read_text())
    rows = "\n".join(_row(figure) for figure in found)
    (DOCS / "benchmarks.md").write_text(text.substitute(ROUNDS=rounds, ROWS=rows, MACHINE=_machine()))


def _row(figure: Figures) -> str:
    done = figure.apply_to_done_seconds
    back = figure.rollback_to_first_answer_seconds.get("p50")
    first = "-" if back is None else f"{back:.2f} s"
    return (
        f"| {TITLES[figure.way]} | {figure.sent:,} | {figure.failed:,} | {figure.old_after_first_new:,} "
        f"| {done['p50']:.2f} s | {done['max']:.2f} s | {first} | {figure.added_latency_seconds_max:.2f} s |"
    )


def _bars(title: str, found: list[Figures], series: dict[str, list[float]] | dict[str, list[int]], name: str) -> None:
    style = CleanStyle(
        font_family="sans-serif", background="white", plot_background="white", value_font_size=13, label_font_size=13
    )
    chart = pygal.HorizontalBar(
        title=title,
        style=style,
        height=300 if len(series) == 1 else 400,
        width=860,
        print_values=True,
        print_values_position="top",
        show_legend=len(series) > 1,
        legend_at_bottom=True,
        js=[],
    )
    chart.x_labels = [TITLES[figure.way] for figure in reversed(found)]  # the first one comes out lowest
    for label, values in series.items():
        chart.add(label, values[::-1])
    (DOCS / "benchmarks" / name).write_bytes(chart.render(is_unicode=False, pretty_print=True))


def _machine() -> str:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    kubernetes = run("kubectl", "version", "--output=json")
    version = kubernetes.partition('"serverVersion"')[2].partition('"gitVersion": "')[2].partition('"')[0]
    kernel = platform.release()
    return f"{os.cpu_count()} cores, {memory:.0f} GiB of memory, Linux {kernel}, Kubernetes {version}"
