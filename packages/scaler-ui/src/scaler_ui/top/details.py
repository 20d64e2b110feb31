"""What `scaler_top` shows of one row in full: every figure with its unit."""

from __future__ import annotations

import time
from typing import cast

from scaler_ui.model import ClusterModel, figures
from scaler_ui.model.blocks import sorted_workers
from scaler_ui.top.speed import Key
from scaler_ui.top.tables import Looking, duration_text, sorted_clients, sorted_functions, sorted_labels

_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")


def describe_row(model: ClusterModel, view: str, row: int, looking: Looking) -> str | None:
    """Return a row of a table in full, as text; None if the row no longer exists, or its table has no details."""
    if view == "failures":
        failures = figures.failures(model)
        return _describe_failure(failures[row]) if row < len(failures) else None
    if view == "clients":
        clients = sorted_clients(model)
        return _describe_client(clients[row], looking) if row < len(clients) else None
    if view == "labels":
        labels = sorted_labels(model)
        if row >= len(labels):
            return None
        tally = labels[row]
        counts = {"unfinished": tally.unfinished, "success": tally.succeeded, "failed": tally.failed}
        return lines({"label": tally.name, **counts, **_speed(tally.name, looking)})
    if view == "functions":
        functions = sorted_functions(model.snapshot)
        return _describe_function(model, functions[row]) if row < len(functions) else None
    if view == "groups":
        groups = figures.groups(model)
        return _describe_group(groups[row]) if row < len(groups) else None
    return _describe_worker(model, row, looking.sort_key) if view == "workers" else None


def _describe_worker(model: ClusterModel, row: int, sort_key: str) -> str | None:
    snapshot = model.snapshot
    workers = sorted_workers(snapshot, sort_key) if snapshot is not None else []
    if row >= len(workers):
        return None
    worker = workers[row]
    data = figures.worker_data(worker)
    agent: dict[str, object] = next((a for a in figures.workers(model)["agents"] if a["name"] == worker.agent), {})
    return f"{lines(data)}\n\nagent\n\n{lines(agent)}"


def _describe_client(client: dict[str, object], looking: Looking) -> str:
    # Tasks that workers have, begun or not: nobody counts by client which of them run.
    shown = {"at_workers" if key == "running" else key: value for key, value in client.items()}
    return lines({**shown, **_speed(bytes.fromhex(str(client["id"])), looking)})


def _describe_group(group: dict[str, object]) -> str:
    # Core seconds are what shares are counted in, so they stay a number of seconds.
    seconds = f"{cast(float, group['used_core_seconds']):,.3f}"
    return lines(
        {name: value for name, value in group.items() if name != "used_core_seconds"} | {"core seconds used": seconds}
    )


def _speed(key: Key, looking: Looking) -> dict[str, object]:
    rate, left = looking.speeds.shown(key)
    return {"rate": f"{rate} tasks/s", "time left": left or "not known"}


def _describe_function(model: ClusterModel, row: tuple[str, int, int, int]) -> str:
    name, running, unfinished, failed = row
    workers = [w.name for w in (model.snapshot.workers if model.snapshot is not None else ()) if w.function == name]
    facts = {
        "function": name,
        "running": running,
        "unfinished": unfinished,
        "failed": failed,
        "workers": ", ".join(workers),
    }
    found = [failure for failure in figures.failures(model) if failure["function"] == name]
    last = f"\n\nlast failure\n\n{_describe_failure(found[0])}" if found else ""
    return f"{lines(facts)}{last}"


def _describe_failure(failure: dict[str, object]) -> str:
    facts = {key: value for key, value in failure.items() if key not in ("text", "traceback", "at", "duration_seconds")}
    facts["at"] = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(cast(float, failure["at"])))
    facts["ran for"] = duration_text(cast(float, failure["duration_seconds"]))
    if not facts["items"]:
        del facts["items"]
    return f"{lines(facts)}\n\n{failure['text']}\n\n{failure['traceback']}"


def lines(data: dict[str, object]) -> str:
    """Return names and values, one a line; a value has the unit that its name ends with."""
    shown = [_with_unit(key, value) for key, value in data.items()]
    width = max((len(name) for name, _ in shown), default=0)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in shown)


def _with_unit(key: str, value: object) -> tuple[str, object]:
    if key == "task_seconds":
        key = "running_for_seconds"
    if isinstance(value, int | float):
        if key.endswith("_bytes"):
            return key.replace("_", " "), size_text(value)
        if key.endswith("_percent"):
            return key.removesuffix("_percent").replace("_", " "), f"{value:g} % of a core"
        if key.endswith("_seconds"):
            return key.removesuffix("_seconds").replace("_", " "), duration_text(value)
    if isinstance(value, dict):
        value = ", ".join(f"{name} {count:,}" for name, count in value.items())
    elif isinstance(value, bool):
        value = "yes" if value else "no"
    return key.replace("_", " "), value


def size_text(size: float) -> str:
    """Return a number of bytes in words: `812 bytes`, `37.1 MiB`."""
    for unit in _UNITS[:-1]:
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} {_UNITS[-1]}"
