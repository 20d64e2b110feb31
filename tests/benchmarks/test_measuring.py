"""The benchmark program itself: sample sizes, medians, targets, the table, and that nothing is left behind. No timing."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks import __main__ as command
from benchmarks import processes, registry, report, runner
from benchmarks.curve import Curve, Point
from benchmarks.environments import Environment, prepare
from benchmarks.results import Results, reached, times_better
from benchmarks.runner import Sample
from benchmarks.steps import steepest
from benchmarks.system import System
from benchmarks.systems.scaler import SYSTEM as SCALER
from benchmarks.workload import Better, Workload, WrongResult, check, growing, repeated
from benchmarks.workloads import dask_collections
from benchmarks.workloads.graphs import chain, tree


def results(samples: list[Sample]) -> Results:
    machine = {"cpu": "some", "cores": 2, "memory_gib": 4.0, "system": "Linux", "python": "3.11", "load_average": 0.0}
    settings = {"rounds": 3, "seconds": 3.0, "workers": 2, "quick": False}
    systems = {
        name: {"title": name.title(), "remarks": "", "versions": {"python": "3.11"}}
        for name in ("scaler", "processpool", "ray")
    }
    return Results("2026-11-23 12:00", "abc", machine, settings, systems, samples)


def sample(system: str, value: float, number: int = 1, workload: str = "submit", metric: str = "tasks_per_s") -> Sample:
    return {
        "workload": workload,
        "system": system,
        "round": number,
        "status": "ok",
        "metrics": {metric: value},
        "left_behind": 0,
    }


def pace(seconds_each: float, sizes: list[int]) -> Callable[[int], float]:
    def measure(size: int) -> float:
        sizes.append(size)
        return size * seconds_each

    return measure


def test_a_sample_grows_until_it_takes_long_enough() -> None:
    sizes: list[int] = []
    size, taken = growing(pace(1e-3, sizes), first=10, last=1_000_000, seconds=3.0)
    assert 1.5 <= taken <= 6.0
    assert size == sizes[-1]
    assert sizes == sorted(sizes)


def test_a_sample_never_grows_beyond_its_bound() -> None:
    assert growing(pace(1e-9, []), first=10, last=5000, seconds=3.0)[0] == 5000


def test_the_first_call_does_not_decide_the_size() -> None:
    calls = 0

    def measure(size: int) -> float:
        nonlocal calls
        calls += 1
        return 10.0 if calls == 1 else size * 1e-4

    assert growing(measure, first=10, last=1_000_000, seconds=3.0)[0] > 10_000


def test_a_hiccup_does_not_decide_the_size() -> None:
    calls = 0

    def measure(size: int) -> float:
        nonlocal calls
        calls += 1
        return 10.0 if calls == 3 else size * 1e-4

    assert growing(measure, first=10, last=1_000_000, seconds=3.0)[0] > 10_000


def test_repetitions_are_at_least_three_and_the_first_is_thrown_away() -> None:
    values = iter([9.0, 0.1, 0.2, 0.3, 0.4])
    assert repeated(lambda: next(values), seconds=0.35, most=10) == [0.1, 0.2, 0.3]


def test_slow_repetitions_are_fewer() -> None:
    assert len(repeated(lambda: 100.0, seconds=1.0, most=10)) == 1


def test_wrong_results_are_noticed() -> None:
    with pytest.raises(WrongResult, match=r"expected \[1\], got \[2\]"):
        check([2], [1])


def test_medians_and_targets() -> None:
    found = results([sample("scaler", value, number) for number, value in enumerate((1.0, 9.0, 2.0), 1)])
    found.samples += [sample("processpool", 10_000), sample("ray", 2000)]
    submit = registry.find_workload("submit")
    assert found.median("submit", "scaler", "tasks_per_s") == 2.0
    assert found.spread("submit", "scaler", "tasks_per_s") == (1.0, 9.0)
    assert found.best_peer(submit, submit.metrics[0]) == ("processpool", 10_000)
    assert found.targets(submit, submit.metrics[0]) == [120_000, 80_000]


@pytest.mark.parametrize(("better", "good", "bad"), [(Better.HIGHER, 11, 9), (Better.LOWER, 9, 11)])
def test_direction_of_metrics(better: Better, good: float, bad: float) -> None:
    assert reached(good, 10, better)
    assert not reached(bad, 10, better)
    assert times_better(good, bad, better) > 1 > times_better(bad, good, better)


def test_the_table_says_who_failed_and_who_cannot() -> None:
    found = results([sample("scaler", 130_000), sample("processpool", 10_000)])
    failed = {"status": "failed", "message": "ValueError: no", "metrics": {}}
    found.samples.append(sample("ray", 0) | failed)
    text = report.text(found, registry.workloads())
    (row,) = [line for line in text.splitlines() if line.startswith("submit ")]
    assert row.split()[2:] == ["130,000", "10,000", "failed", "120,000,", "80,000", "yes", "13", "×", "Processpool"]
    assert "submit, Ray: failed: ValueError: no" in text
    assert "| submit |" in report.markdown(found, registry.workloads())


def test_results_survive_the_file(tmp_path: Path) -> None:
    found = results([sample("scaler", 1.5)])
    found.save(tmp_path / "results.json")
    assert Results.load(tmp_path / "results.json") == found


@pytest.mark.parametrize("leaves", [1, 2, 7, 1000])
def test_trees_add_up(leaves: int) -> None:
    graph, key, expected = tree(leaves)
    assert len(graph) == 2 * leaves - 1
    assert _run(graph, key) == expected == sum(range(leaves))


def test_chains_count() -> None:
    graph, key, expected = chain(300)
    assert len(graph) == expected == _run(graph, key) == 300


def test_every_system_and_workload_has_a_name_of_its_own() -> None:
    for found in (registry.systems(), registry.workloads()):
        names = [each.name for each in found]
        assert len(set(names)) == len(names)
    with pytest.raises(KeyError, match="there is"):
        registry.find_system("nobody")


def test_marked_processes_are_found_and_killed() -> None:
    mark = f"test-{os.getpid()}"
    child = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(60)"],
        env={**os.environ, processes.MARK: mark},
        start_new_session=True,
    )
    try:
        assert [process.pid for process in processes.marked(mark)] == [child.pid]
        assert processes.kill(lambda: processes.marked(mark), grace_s=0.0) == 1
        assert child.wait(10) != 0
        assert processes.kill(lambda: processes.marked(mark), grace_s=0.0) == 0
    finally:
        child.kill()
        child.wait()


def _run(graph: dict[str, object], key: str) -> object:
    values: dict[str, object] = {}
    for name, node in graph.items():
        assert isinstance(node, tuple)
        function, *arguments = node
        values[name] = function(*(values[a] if isinstance(a, str) else a for a in arguments))
    return values[key]


def test_what_is_measured_has_bytecode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "installed_module.py").write_text("VALUE = 1\n", encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    # An environment with nothing in it: all that the tests' own one holds takes a minute.
    venv.create(tmp_path / "environment", symlinks=True)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "environment" / "bin" / "python"))
    prepare(SCALER, tmp_path / "environments")
    assert list((tmp_path / "package" / "__pycache__").glob("installed_module.*.pyc"))


def test_several_runs_are_shown_as_one_with_their_rounds_one_after_the_other() -> None:
    first = results([sample("scaler", 1.0, 1), sample("scaler", 2.0, 2)])
    second = results([sample("scaler", 9.0, 1)])
    second.revision = "def"
    second.machine = {**second.machine, "load_average": 5.0}
    whole = Results.joined([first, second])
    assert [entry["round"] for entry in whole.samples] == [1, 2, 3]
    assert whole.median("submit", "scaler", "tasks_per_s") == 2.0
    assert whole.revision == "abc and def"
    assert len(first.samples) == 2
    second.machine = {**second.machine, "cores": 64}
    with pytest.raises(ValueError, match="different machines"):
        Results.joined([first, second])


def test_rounds_of_a_workload_are_counted_apart_when_runs_of_others_are_joined() -> None:
    first, second = results([sample("scaler", 1.0)]), results([sample("scaler", 1.0, workload="map")])
    whole = Results.joined([first, second])
    assert [(entry["workload"], entry["round"]) for entry in whole.samples] == [("submit", 1), ("map", 1)]


def test_a_step_is_what_the_work_itself_does_not_explain() -> None:
    sizes = Curve("Echo", "bytes", "values/s", (Point("1 KiB", "a", 1024), Point("4 KiB", "b", 4096)), x_is_work=True)
    clients = Curve("Clients", "clients", "tasks/s", (Point("1", "a", 1), Point("2", "b", 2), Point("5", "c", 5)))
    kinds = Curve("Kinds", "kind", "tasks/s", (Point("plain", "a"), Point("keywords", "b"), Point("raising", "c")))
    ((small, large),) = sizes.pairs()
    assert sizes.step(small, large, 1000.0, 250.0) == 1.0
    assert sizes.step(small, large, 1000.0, 125.0) == 2.0
    one, two = clients.pairs()[0]
    assert clients.step(one, two, 1000.0, 250.0) == 4.0
    assert [(before.label, after.label) for before, after in clients.pairs()] == [("1", "2"), ("2", "5")]
    assert [(before.label, after.label) for before, after in kinds.pairs()] == [
        ("plain", "keywords"),
        ("plain", "raising"),
    ]


def measured_curves() -> Results:
    """Two systems on every curve: ours is flat, but for one size that gets a tenth."""
    found = results([])
    for workload in registry.groups()["curves"]:
        for system in ("scaler", "processpool"):
            metrics = {point.metric: 1000.0 for curve in workload.curves for point in curve.points}
            metrics |= {"submit_64": 100.0} if workload.name == "sizes" and system == "scaler" else {}
            found.samples.append(sample(system, 0, workload=workload.name) | {"metrics": metrics})
    return found


def test_the_steepest_step_of_all_curves_comes_first_with_that_of_the_peers() -> None:
    found = measured_curves()
    steps = steepest(found, registry.workloads(), "scaler")
    assert (steps[0].before.label, steps[0].after.label) == ("47 KiB", "64 KiB")
    assert steps[0].size("scaler") == pytest.approx(10 * 47 / 64)
    assert steps[0].size("processpool") == pytest.approx(47 / 64)
    assert steps[0].size("ray") is None
    head, rows = report.step_rows(found, registry.workloads())
    assert head[-2:] == ["step", "Processpool"]
    assert rows[0] == ["Echo of bytes, single submits", "47 KiB", "64 KiB", "values/s", "1,000", "100", "7.34", "0.734"]
    assert len(rows) == report.STEPS_SHOWN
    assert " | ".join(rows[0]) in report.markdown(found, registry.workloads())
    assert report.STEPS_TITLE in report.text(found, registry.workloads())


def test_without_curves_there_is_no_table_of_steps() -> None:
    assert report.STEPS_TITLE not in report.text(results([sample("scaler", 1.0)]), registry.workloads())


def test_curves_are_drawn_for_light_and_for_dark_pages(tmp_path: Path) -> None:
    plots = pytest.importorskip("benchmarks.plots", reason="matplotlib is in the bench group only")
    drawn = plots.draw(measured_curves(), registry.workloads(), tmp_path)
    assert [path.name for path in drawn] == [
        "benchmark-curves.svg",
        "benchmark-curves.png",
        "benchmark-curves-dark.svg",
        "benchmark-curves-dark.png",
    ]
    light, dark = (tmp_path / f"benchmark-curves{suffix}.svg" for suffix in ("", "-dark"))
    for picture in (light, dark):
        text = picture.read_text(encoding="utf-8")
        for workload in registry.groups()["curves"]:
            for curve in workload.curves:
                assert f"{curve.title}, {curve.unit}" in text
    assert light.read_text(encoding="utf-8") != dark.read_text(encoding="utf-8")


def test_every_point_of_a_curve_is_a_metric_of_its_workload() -> None:
    curves = registry.groups()["curves"]
    assert [workload.name for workload in curves] == ["sizes", "durations", "clients", "agents", "calls"]
    for workload in curves:
        names = {metric.name for metric in workload.metrics}
        for curve in workload.curves:
            assert {point.metric for point in curve.points} <= names


def test_one_name_stands_for_all_curves_and_wrong_names_are_told_which_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []

    def run(workloads: list[Workload], systems: list[System], *_: object) -> list[Sample]:
        asked.append([workload.name for workload in workloads])
        asked.append([system.name for system in systems])
        return []

    def prepared(*_: object, **__: object) -> Environment:
        return Environment(Path(sys.executable), {})

    monkeypatch.setattr(runner, "run", run)
    monkeypatch.setattr(command, "prepare", prepared)
    assert command.main(["--workload", "curves", "--output", str(tmp_path / "results.json")]) == 0
    # Systems that none of these workloads is for are not even installed.
    assert asked == [["sizes", "durations", "clients", "agents", "calls"], ["scaler", "processpool", "ray"]]
    with pytest.raises(SystemExit, match=r"there is agents, .*curves"):
        command.main(["--workload", "curve"])


@pytest.mark.parametrize("workload", dask_collections.WORKLOADS, ids=lambda workload: workload.name)
def test_collections_have_the_values_that_are_checked(workload: Any) -> None:
    collection, verify = workload.make(3, quick=True)
    found = collection.compute(scheduler="synchronous")
    verify(found)
    with pytest.raises(WrongResult):
        verify(found[:-1] if isinstance(found, list) else found * 2)
