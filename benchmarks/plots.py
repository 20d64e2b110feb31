"""Pictures of the results: workloads side by side, ours against its targets, the scheduler's core at scale, curves.

Each is written as SVG, for documents, and as PNG, for pages that show no SVG.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from benchmarks import curve_plots
from benchmarks.report import figure
from benchmarks.results import OURS, Results, times_better, used
from benchmarks.workload import Better, Metric, Workload
from benchmarks.workloads.scheduler import QUEUED, WORKERS

OUR_COLOUR = "#0b6e99"
PEER_COLOUR = "#b8c4cc"
TARGET_COLOUR = "#d1495b"
TEXT_COLOUR = "#22303a"
FAINT_COLOUR = "#7d8b95"

COLUMNS = 3

STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": TEXT_COLOUR,
    "axes.labelcolor": TEXT_COLOUR,
    "axes.edgecolor": PEER_COLOUR,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": FAINT_COLOUR,
    "ytick.color": TEXT_COLOUR,
    "figure.facecolor": "white",
    # Text stays text: smaller files, and readers can search and copy it.
    "svg.fonttype": "none",
    # Nothing in the file changes between two drawings of the same results.
    "svg.hashsalt": "benchmarks",
}


def draw(results: Results, workloads: Sequence[Workload], folder: Path) -> list[Path]:
    """Draw what the results allow; return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    with plt.rc_context(STYLE):
        for name, picture in (
            ("benchmark-comparison", _comparison(results, workloads)),
            ("benchmark-targets", _targets(results, workloads)),
            ("benchmark-scheduler-scale", _scale(results)),
            *curve_plots.pictures(results, workloads, _caption(results)),
        ):
            if picture is None:
                continue
            for suffix, options in ((".svg", {"metadata": {"Date": None}}), (".png", {"dpi": 160})):
                path = folder / f"{name}{suffix}"
                picture.savefig(path, bbox_inches="tight", **options)
                written.append(path)
            plt.close(picture)
    return written


# --- every workload, system beside system ----------------------------------------------------------------------------


def _comparison(results: Results, workloads: Sequence[Workload]) -> Any:
    names = [name for name, system in results.systems.items() if not system.get("error")]
    # Those with curves have a picture of their own.
    panels = [
        workload
        for workload in used(workloads, results)
        if not workload.curves
        and sum(bool(results.values(workload.name, name, workload.metrics[0].name)) for name in names) > 1
    ]
    if not panels:
        return None
    rows = -(-len(panels) // COLUMNS)
    height = (0.75 + 0.25 * len(names)) * rows
    picture, axes = plt.subplots(rows, COLUMNS, figsize=(4.0 * COLUMNS, height), squeeze=False)
    for position, axis in enumerate(axes.flat):
        if position < len(panels):
            _bars(axis, results, panels[position], names, labelled=position % COLUMNS == 0)
        else:
            axis.axis("off")
    picture.subplots_adjust(hspace=0.45, wspace=0.06)
    picture.text(0.5, 0.09 - 0.3 / height, _caption(results), ha="center", va="top", color=FAINT_COLOUR, fontsize=9)
    return picture


def _bars(axis: Any, results: Results, workload: Workload, names: Sequence[str], *, labelled: bool) -> None:
    metric = workload.metrics[0]
    medians = [results.median(workload.name, name, metric.name) for name in names]
    most = max(median for median in medians if median is not None)
    for position, (name, median) in enumerate(zip(names, medians, strict=True)):
        if median is None:
            trouble = {"timeout": "no result in time", "unsupported": "–"}.get(
                results.trouble(workload.name, name), results.trouble(workload.name, name)
            )
            axis.text(0.01 * most, position, trouble, va="center", color=FAINT_COLOUR, fontsize=9)
            continue
        axis.barh(position, median, height=0.72, color=OUR_COLOUR if name == OURS else PEER_COLOUR)
        low, high = results.spread(workload.name, name, metric.name) or (median, median)
        if high > low:
            axis.plot([low, high], [position, position], color=TEXT_COLOUR, linewidth=0.9, alpha=0.55)
        axis.text(max(median, high) + 0.015 * most, position, figure(median), va="center", fontsize=9)
    # All panels of a row have the same systems at the same height: one set of names is enough.
    axis.set_yticks(range(len(names)), [results.systems[name]["title"] if labelled else "" for name in names])
    for label, name in zip(axis.get_yticklabels(), names, strict=True):
        label.set_fontweight("bold" if name == OURS else "normal")
    axis.set_ylim(len(names) - 0.5, -0.5)
    axis.set_xlim(0, 1.3 * most)
    axis.set_xticks([])
    axis.spines["bottom"].set_visible(False)
    axis.tick_params(axis="y", length=0)
    arrow = "more is better" if metric.better is Better.HIGHER else "less is better"
    axis.set_title(f"{metric.title}, {metric.unit}", loc="left", fontsize=11, fontweight="bold", pad=14)
    axis.text(0, 1.02, arrow, transform=axis.transAxes, color=FAINT_COLOUR, fontsize=9, va="bottom")


# --- ours against its targets ----------------------------------------------------------------------------------------


def _targets(results: Results, workloads: Sequence[Workload]) -> Any:
    entries: list[tuple[Metric, float, float, float | None]] = []
    for workload in used(workloads, results):
        for metric in workload.metrics:
            median = results.median(workload.name, OURS, metric.name)
            if median is None or metric.target is None or workload.curves:
                continue
            best = results.best_peer(workload, metric)
            peer = None if best is None else times_better(best[1], metric.target, metric.better)
            entries.append((metric, median, times_better(median, metric.target, metric.better), peer))
    if not entries:
        return None
    picture, axis = plt.subplots(figsize=(8.6, 0.9 + 0.34 * len(entries)))
    axis.axvline(1, color=TARGET_COLOUR, linewidth=1.4, zorder=1)
    for position, (metric, median, ratio, peer) in enumerate(entries):
        if peer is not None:
            axis.plot([peer, ratio], [position, position], color=PEER_COLOUR, linewidth=2, zorder=2)
            axis.plot(
                peer, position, "o", markersize=7, markerfacecolor="white", markeredgecolor=FAINT_COLOUR, zorder=3
            )
        axis.plot(ratio, position, "o", markersize=9, color=OUR_COLOUR, zorder=4)
        assert metric.target is not None
        text = f"{figure(median)} {metric.unit}  (target {figure(metric.target)})"
        axis.text(1.02, position, text, transform=axis.get_yaxis_transform(), va="center", fontsize=9)
    axis.set_xscale("log")
    ratios = [ratio for _, _, ratio, _ in entries] + [peer for *_, peer in entries if peer is not None]
    low, high = min([0.5, *ratios]) / 1.4, max([2.0, *ratios]) * 1.4
    axis.set_xlim(low, high)
    ticks = [tick for tick in (0.001, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100) if low < tick < high]
    axis.xaxis.set_major_locator(FixedLocator(ticks))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}×"))
    axis.set_yticks(range(len(entries)), [metric.title for metric, *_ in entries])
    axis.tick_params(axis="y", length=0)
    axis.invert_yaxis()
    axis.set_title("Reached, against what is to be reached (right is better)", loc="left", fontweight="bold", pad=22)
    axis.text(1, 1.005, "target", transform=axis.get_xaxis_transform(), color=TARGET_COLOUR, ha="center", va="bottom")
    axis.set_xlabel("● Scaler    ○ the best peer in the same run", color=FAINT_COLOUR)
    picture.text(0.5, -0.02, _caption(results), color=FAINT_COLOUR, fontsize=8, va="top", ha="center")
    return picture


# --- the scheduler's core --------------------------------------------------------------------------------------------


def _scale(results: Results) -> Any:
    cost_by_workers = _series(results, WORKERS, "us_{}_workers")
    cost_by_tasks = _series(results, QUEUED, "us_{}_queued")
    bytes_by_tasks = _series(results, QUEUED, "bytes_{}_queued")
    single_by_workers = _series(results, WORKERS, "single_us_{}_workers")
    if not (cost_by_workers and single_by_workers and cost_by_tasks and bytes_by_tasks):
        return None
    picture, grid = plt.subplots(2, 2, figsize=(10, 7))
    axes = grid.flat
    for axis, series, title, unit, over in (
        (axes[0], cost_by_workers, "Cost per task, hosts answer many at once", "µs", "workers"),
        (axes[1], single_by_workers, "Cost per task, one result at a time", "µs", "workers"),
        (axes[2], cost_by_tasks, "Cost per task, 1,000 workers", "µs", "queued tasks"),
        (axes[3], bytes_by_tasks, "Memory per queued task", "bytes", "queued tasks"),
    ):
        sizes, values = zip(*series, strict=True)
        axis.plot(sizes, values, "o-", color=OUR_COLOUR, linewidth=2, markersize=7)
        for size, value in series:
            axis.annotate(
                figure(value), (size, value), textcoords="offset points", xytext=(0, 9), ha="center", fontsize=9
            )
        axis.set_xscale("log")
        axis.xaxis.set_major_locator(FixedLocator(sizes))
        axis.xaxis.set_minor_locator(NullLocator())
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axis.set_xlim(min(sizes) / 2, max(sizes) * 2)
        axis.set_ylim(0, 1.35 * max(values))
        axis.set_xlabel(over)
        axis.set_ylabel(unit)
        axis.grid(axis="y", color=PEER_COLOUR, alpha=0.4, linewidth=0.7)
        axis.set_title(title, loc="left", fontweight="bold", fontsize=10.5)
    picture.subplots_adjust(wspace=0.24, hspace=0.42)
    picture.text(
        0.5, 0.01, f"Scheduler core in simulation. {_caption(results)}", ha="center", color=FAINT_COLOUR, fontsize=9
    )
    return picture


def _series(results: Results, sizes: Sequence[int], name: str) -> list[tuple[int, float]]:
    found = [(size, results.median("core-scale", OURS, name.format(size))) for size in sizes]
    return [(size, value) for size, value in found if value is not None]


def _caption(results: Results) -> str:
    machine = results.machine
    rounds = max((sample["round"] for sample in results.samples), default=0)
    return (
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']:g} GiB, Python {machine['python']}, "
        f"{results.settings['workers']} workers on one machine; "
        f"{'one round' if rounds == 1 else f'medians of {rounds} rounds'}; {results.date[:10]}"
    )
