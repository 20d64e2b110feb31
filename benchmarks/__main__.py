"""`python -m benchmarks`: this engine and its peers, in turn, on this machine. See README.md beside this file."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TypeVar

from benchmarks import machine, registry, report, runner
from benchmarks.environments import Environment, EnvironmentFailed, prepare
from benchmarks.results import Results
from benchmarks.runner import ROOT, Sample, Settings
from benchmarks.system import System
from benchmarks.workload import Workload

Named = TypeVar("Named", System, Workload)


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _arguments(argv)
    systems, workloads = registry.systems(), registry.workloads()
    if arguments.list:
        _list(systems, workloads)
        return 0
    if arguments.show is not None:
        _show(Results.joined([Results.load(path) for path in arguments.show]), workloads, arguments)
        return 0
    chosen_workloads = _chosen(workloads, _without_groups(arguments.workload), "workload")
    chosen_systems = [
        system
        for system in _chosen(systems, arguments.system, "system")
        if any(workload.systems is None or system.name in workload.systems for workload in chosen_workloads)
    ]
    results = Results(
        date=f"{datetime.now():%Y-%m-%d %H:%M}",
        revision=machine.revision(ROOT),
        machine=machine.describe(),
        settings={},
        systems={},
        samples=[],
    )
    environments = _environments(chosen_systems, arguments, results)
    settings = Settings(
        rounds=arguments.rounds or (1 if arguments.quick else 3),
        seconds=arguments.seconds or (1.0 if arguments.quick else 3.0),
        workers=arguments.workers,
        quick=arguments.quick,
    )
    results.settings = {name: getattr(settings, name) for name in settings.__slots__}
    output = arguments.output or ROOT / "benchmarks" / "results" / f"{datetime.now():%Y-%m-%d-%H%M%S}.json"
    begin = time.monotonic()
    # Asked to end, it ends as by Ctrl-C: the running sample's processes are ended, too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        for sample in runner.run(chosen_workloads, chosen_systems, environments, settings):
            results.samples.append(sample)
            print(_line(sample, registry.find_workload(sample["workload"])), flush=True)
            results.save(output)
    except KeyboardInterrupt:
        print("interrupted: what was measured until now is kept", file=sys.stderr)
    results.save(output)
    print(f"{len(results.samples)} samples in {(time.monotonic() - begin) / 60:.1f} minutes\n")
    _show(results, workloads, arguments)
    print(f"\nraw samples: {_relative(output)}")
    return 1 if any(sample["status"] in ("failed", "wrong") for sample in results.samples) else 0


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measures this engine and its peers in turn on this machine, and checks every result.",
    )
    parser.add_argument("--quick", action="store_true", help="small samples, one round: some minutes, rough figures")
    parser.add_argument(
        "--rounds", type=int, metavar="N", help="how often everything is measured (default 3; quick: 1)"
    )
    parser.add_argument("--seconds", type=float, metavar="S", help="length of one sample (default 3; quick: 1)")
    parser.add_argument(
        "--workers", type=int, default=2, metavar="N", help="worker processes of each system (default 2)"
    )
    parser.add_argument("--workload", nargs="+", metavar="NAME", help="only these")
    parser.add_argument("--system", nargs="+", metavar="NAME", help="only these")
    parser.add_argument("--list", action="store_true", help="say what can be measured, and stop")
    parser.add_argument("--output", type=Path, metavar="FILE", help="where the raw samples go (JSON)")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table as Markdown, too")
    parser.add_argument("--plots", type=Path, metavar="FOLDER", help="draw the pictures into this folder")
    parser.add_argument(
        "--show",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="measure nothing; show the results in these files, together",
    )
    parser.add_argument(
        "--environments",
        type=Path,
        default=ROOT / ".nox" / "bench-envs",
        metavar="FOLDER",
        help="where the peers' virtual environments are kept (default .nox/bench-envs)",
    )
    parser.add_argument("--renew", action="store_true", help="install the peers anew, in their newest versions")
    return parser.parse_args(argv)


def _list(systems: Sequence[System], workloads: Sequence[Workload]) -> None:
    print("systems")
    for system in systems:
        print(f"  {system.name:15}{system.title}{'; ' + system.remarks if system.remarks else ''}")
    print("workloads")
    for workload in workloads:
        print(f"  {workload.name:15}{workload.title}")
    print("several workloads under one name")
    for name, members in registry.groups().items():
        print(f"  {name:15}{', '.join(workload.name for workload in members)}")


def _without_groups(names: Sequence[str] | None) -> list[str] | None:
    """Return the names with each group's workloads in its place."""
    if names is None:
        return None
    groups = registry.groups()
    return [
        each for name in names for each in ([workload.name for workload in groups[name]] if name in groups else [name])
    ]


def _chosen(everything: Sequence[Named], names: Sequence[str] | None, what: str) -> list[Named]:
    known = {each.name for each in everything}
    for name in names or ():
        if name not in known:
            known |= set(registry.groups()) if what == "workload" else set()
            raise SystemExit(f"--{what} {name}: there is {', '.join(sorted(known))}")
    return [each for each in everything if names is None or each.name in names]


def _environments(systems: Sequence[System], arguments: argparse.Namespace, results: Results) -> dict[str, Environment]:
    """Prepare the environments; what cannot be installed is noted in the results and left out."""
    environments: dict[str, Environment] = {}
    for system in systems:
        entry = results.systems[system.name] = {"title": system.title, "remarks": system.remarks, "versions": {}}
        try:
            environments[system.name] = prepare(system, arguments.environments, renew=arguments.renew)
        except EnvironmentFailed as error:
            entry["error"] = str(error)
            print(f"{system.title} could not be installed: {error}", file=sys.stderr)
        else:
            entry["versions"] = environments[system.name].versions
    return environments


def _line(sample: Sample, workload: Workload) -> str:
    found = sample.get("metrics", {})
    figures = ", ".join(
        f"{report.figure(found[metric.name])} {metric.unit}" for metric in workload.metrics if metric.name in found
    )
    detail = figures or f"{sample['status']}: {sample['message']}"
    return f"round {sample['round']}  {sample['workload']:14} {sample['system']:12} {sample['wall_s']:6.1f} s  {detail}"


def _show(results: Results, workloads: Sequence[Workload], arguments: argparse.Namespace) -> None:
    print(report.text(results, workloads))
    if arguments.markdown is not None:
        arguments.markdown.write_text(report.markdown(results, workloads), encoding="utf-8")
    if arguments.plots is not None:
        # Only needed here: everything else runs without matplotlib.
        from benchmarks.plots import draw

        for picture in draw(results, workloads, arguments.plots):
            print(f"picture: {_relative(picture)}")


def _relative(path: Path) -> Path:
    resolved = path.resolve()
    return resolved.relative_to(ROOT) if resolved.is_relative_to(ROOT) else path


if __name__ == "__main__":
    sys.exit(main())
