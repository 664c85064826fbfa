"""Learning curves, and what is kept against what it costs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, PercentFormatter

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#555555")
"""Okabe and Ito's, told apart by colour-blind readers too."""
LABELS = {
    "win_rate": "win rate",
    "test_win_rate": "win rate (greedy)",
    "test_return": "return (greedy)",
    "return": "return",
    "steps": "environment steps",
    "updates": "updates",
    "steps_per_s": "steps / s",
    "flops": "FLOPs per decision of one agent",
    "retention": "kept of the teacher's wins",
}

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Panel:
    """Curves that share their axes."""

    curves: Mapping[str, Sequence[Rows]]
    """by label, the metrics of one run per seed; several are drawn as their mean within their range. Rows without the metric are
    passed over"""
    metric: str = "win_rate"
    """a column of the metrics"""
    x: str = "steps"
    """the column that it is drawn over"""
    levels: Mapping[str, float] = field(default_factory=dict)
    """by label, what is drawn as a level line: the distilled student, say, which has no environment steps of its own"""
    title: str = ""
    """above it"""


def learning_curves(
    curves: Mapping[str, Sequence[Rows]],
    path: Path,
    metric: str = "win_rate",
    x: str = "steps",
    levels: Mapping[str, float] | None = None,
    title: str = "",
) -> Path:
    """A PNG of one `Panel`, which tells what the arguments are. Returns `path`."""
    return draw([[Panel(curves, metric, x, levels or {}, title)]], path)


def draw(panels: Sequence[Sequence[Panel]], path: Path, size: tuple[float, float] = (6.4, 4.0)) -> Path:
    """A PNG of rows of panels, each of `size` inches. Returns `path`."""
    rows, columns = len(panels), max(map(len, panels))
    figure = Figure(figsize=(size[0] * columns, size[1] * rows), dpi=160, layout="constrained")
    FigureCanvasAgg(figure)  # a canvas of its own: nothing global is touched
    for i, row in enumerate(panels):
        for j, panel in enumerate(row):
            _panel(figure.add_subplot(rows, columns, i * columns + j + 1), panel)
    figure.savefig(path)
    return path


def _panel(axes: Axes, panel: Panel) -> None:
    for i, (label, seeds) in enumerate(panel.curves.items()):
        _curve(axes, label, [_points(rows, panel.x, panel.metric) for rows in seeds], COLOURS[i % len(COLOURS)])
    for i, (label, level) in enumerate(panel.levels.items(), start=len(panel.curves)):
        axes.axhline(level, color=COLOURS[i % len(COLOURS)], linestyle="--", linewidth=1.6, label=label)
    axes.set(xlabel=LABELS.get(panel.x, panel.x), ylabel=LABELS.get(panel.metric, panel.metric), title=panel.title)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    if panel.metric.endswith("win_rate"):
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.set_ylim(-0.03, 1.03)
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    if axes.get_legend_handles_labels()[1]:
        axes.legend(frameon=False, fontsize="small")


def _points(rows: Rows, x: str, metric: str) -> np.ndarray:
    """[n, 2], in the order of x."""
    points = [(row[x], row[metric]) for row in rows if row.get(x) is not None and row.get(metric) is not None]
    return np.array(sorted(points), float).reshape(-1, 2)


def _curve(axes: Axes, label: str, seeds: Sequence[np.ndarray], colour: str) -> None:
    seeds = [points for points in seeds if len(points)]
    if not seeds:
        return
    if len(seeds) == 1:
        axes.plot(*seeds[0].T, color=colour, linewidth=1.8, label=label, marker="o" if len(seeds[0]) == 1 else None)
        return
    # Only as far as all seeds went: beyond it the mean would be of fewer and fewer.
    start, stop = max(points[0, 0] for points in seeds), min(points[-1, 0] for points in seeds)
    grid = np.unique(np.concatenate([points[:, 0] for points in seeds]))
    grid = grid[(grid >= start) & (grid <= stop)]
    values = np.array([np.interp(grid, *points.T) for points in seeds])
    axes.plot(grid, values.mean(0), color=colour, linewidth=1.8, label=f"{label} ({len(seeds)} seeds)")
    axes.fill_between(grid, values.min(0), values.max(0), color=colour, alpha=0.15, linewidth=0)


def pareto(points: Mapping[str, tuple[float, float]], path: Path, title: str = "", metric: str = "retention") -> Path:
    """A PNG of what is kept against what it costs, and the curve of those that nothing cheaper equals. Returns `path`.

    Args:
        points: by label, FLOPs per decision and `metric`.
        path: of the picture.
        title: above it.
        metric: what stands on the upright axis, as a share.
    """
    figure = Figure(figsize=(6.4, 4.0), dpi=160, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    best = {label: points[label] for label in front(points)}
    if best:
        axes.step(*np.array(list(best.values())).T, where="post", color=COLOURS[0], linewidth=1.8)
    for label, (flops, kept) in points.items():
        axes.plot(flops, kept, "o", color=COLOURS[0] if label in best else COLOURS[-1])
        axes.annotate(label, (flops, kept), xytext=(4, 4), textcoords="offset points", fontsize="small")
    axes.set(xscale="log", xlabel=LABELS["flops"], ylabel=LABELS.get(metric, metric), title=title)
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    heights = [kept for _, kept in points.values()]
    axes.set_ylim(min([-0.03, *heights]), max([1.0, *heights]) + 0.1)  # names stand above their points
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path)
    return path


def front(points: Mapping[str, tuple[float, float]]) -> list[str]:
    """The labels of the points that no cheaper or equally cheap one equals, from the cheapest on.

    >>> front({"a": (1, 0.2), "b": (2, 0.9), "c": (3, 0.8), "d": (2, 0.1)})
    ['a', 'b']
    """
    kept: list[str] = []
    for label in sorted(points, key=lambda name: (points[name][0], -points[name][1])):
        if not kept or points[label][1] > points[kept[-1]][1]:
            kept.append(label)
    return kept
