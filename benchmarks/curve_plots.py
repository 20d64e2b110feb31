"""Pictures of the curves: this engine beside its peers, a panel for each curve, for light pages and for dark ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib import pyplot as plt
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from benchmarks.curve import Curve
from benchmarks.report import figure
from benchmarks.results import OURS, Results, used
from benchmarks.workload import Workload

COLUMNS = 2
LABELS_MAX = 9
"""Places on an axis that are named."""


@dataclass(frozen=True, slots=True)
class Theme:
    """Colours for one kind of page."""

    suffix: str
    """What the names of its pictures end with."""
    page: str
    text: str
    faint: str
    ours: str
    peers: tuple[str, ...]


THEMES = (
    Theme("", "#ffffff", "#22303a", "#6b7882", "#0b6e99", ("#d08215", "#8a5fb0", "#5b8c3e")),
    Theme("-dark", "#0d1117", "#e6edf3", "#9aa6b1", "#4cc3f0", ("#f0a63c", "#c49ae8", "#93c96f")),
)
MARKERS = ("s", "^", "D")


def pictures(results: Results, workloads: Sequence[Workload], caption: str) -> list[tuple[str, Any]]:
    """Draw all curves of which there are results; return (name, picture), one for each theme."""
    panels = [
        (workload, curve)
        for workload in used(workloads, results)
        for curve in workload.curves
        if _series(results, workload, curve, OURS)
    ]
    return [
        (f"benchmark-curves{theme.suffix}", _picture(results, panels, caption, theme)) for theme in THEMES if panels
    ]


def _picture(results: Results, panels: Sequence[tuple[Workload, Curve]], caption: str, theme: Theme) -> Any:
    colours: dict[Any, Any] = {
        "figure.facecolor": theme.page,
        "axes.facecolor": theme.page,
        "savefig.facecolor": theme.page,
        "text.color": theme.text,
        "axes.labelcolor": theme.text,
        "axes.edgecolor": theme.faint,
        "xtick.color": theme.text,
        "ytick.color": theme.text,
        "xtick.labelsize": 8.5,
        "ytick.labelsize": 8.5,
    }
    rows = -(-len(panels) // COLUMNS)
    with plt.rc_context(colours):
        picture, axes = plt.subplots(rows, COLUMNS, figsize=(6.2 * COLUMNS, 3.9 * rows), squeeze=False)
        for position, axis in enumerate(axes.flat):
            if position < len(panels):
                _panel(axis, results, *panels[position], theme)
            else:
                axis.axis("off")
        picture.subplots_adjust(hspace=0.5, wspace=0.3)
        picture.text(0.5, 0.11 - 0.33 / rows, caption, ha="center", va="top", color=theme.faint, fontsize=8.5)
    return picture


def _panel(axis: Any, results: Results, workload: Workload, curve: Curve, theme: Theme) -> None:
    places = [float(index) if curve.of_kinds else point.x for index, point in enumerate(curve.points)]
    names = [OURS, *(name for name in results.systems if name != OURS)]
    colours = {OURS: theme.ours, **dict(zip(names[1:], theme.peers, strict=False))}
    markers = {OURS: "o", **dict(zip(names[1:], MARKERS, strict=False))}
    for name in names:
        series = _series(results, workload, curve, name)
        if not series:
            continue
        axis.plot(
            [places[index] for index, *_ in series],
            [median for _, median, *_ in series],
            f"{markers[name]}{'' if curve.of_kinds else '-'}",
            color=colours[name],
            linewidth=2.2 if name == OURS else 1.5,
            markersize=6 if name == OURS else 5,
            label=results.systems[name]["title"],
            # Over the others.
            zorder=3 if name == OURS else 2,
        )
        for index, median, low, high in series:
            if high > low:
                axis.plot([places[index]] * 2, [low, high], color=colours[name], linewidth=1, alpha=0.6)
            if name == OURS and (curve.of_kinds or index in (0, len(curve.points) - 1)):
                axis.annotate(
                    figure(median),
                    (places[index], median),
                    textcoords="offset points",
                    xytext=(0, 8),
                    fontsize=8,
                    ha="center",
                )
    _axes(axis, curve, places)
    axis.grid(color=theme.faint, alpha=0.25, linewidth=0.6)
    axis.set_title(f"{curve.title}, {curve.unit}", loc="left", fontweight="bold", fontsize=10.5)
    axis.legend(loc="best", fontsize=8, frameon=False)


def _axes(axis: Any, curve: Curve, places: Sequence[float]) -> None:
    if curve.of_kinds:
        axis.set_xlim(-0.5, len(places) - 0.5)
        axis.set_xticks(places, [point.label for point in curve.points], rotation=35, ha="right")
    else:
        axis.set_xscale("log")
        axis.xaxis.set_major_locator(FixedLocator(places))
        axis.xaxis.set_minor_locator(NullLocator())
        apart = -(-len(places) // LABELS_MAX)
        labels = [point.label if not index % apart else "" for index, point in enumerate(curve.points)]
        axis.set_xticklabels(labels, rotation=35, ha="right")
        axis.set_xlabel(curve.axis)
    if curve.unit == "of ideal":
        axis.set_ylim(0, 1.12)
    else:
        axis.set_yscale("log")
        low, high = axis.get_ylim()
        axis.set_ylim(low / 1.3, high * 1.6)
        axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: figure(value)))
        axis.yaxis.set_minor_formatter(FuncFormatter(lambda *_: ""))


def _series(results: Results, workload: Workload, curve: Curve, name: str) -> list[tuple[int, float, float, float]]:
    """Return (index of the point, median, smallest, largest) where there are results."""
    found = []
    for index, point in enumerate(curve.points):
        median = results.median(workload.name, name, point.metric)
        spread = results.spread(workload.name, name, point.metric)
        if median is not None and spread is not None:
            found.append((index, median, *spread))
    return found
