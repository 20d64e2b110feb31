"""What is written about metrics, and what there is, are the same: dashboard, alerts, documents."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from synthetic_cluster import ALICE, snapshot

from scaler_protocol.wire.messages import AdapterStatus
from scaler_ui.model import ClusterModel
from scaler_ui.model.metrics import render_metrics

ROOT = Path(__file__).resolve().parents[3]
DASHBOARD = ROOT / "deploy" / "grafana" / "scaler.json"
ALERTS = ROOT / "deploy" / "prometheus" / "scaler-alerts.yml"
RUNBOOK = "docs/alerts.md"
DOCUMENT = ROOT / "docs" / "monitoring.md"

pytestmark = pytest.mark.skipif(not DASHBOARD.exists(), reason="documents are not part of an installed package")


def metric_names() -> set[str]:
    model = ClusterModel()
    model.accept(snapshot(1, adapters=(AdapterStatus("http://a/"),)), 0.0)
    families = text_string_to_metric_families(render_metrics(model, 0.0).decode())
    samples = {sample.name for family in families for sample in family.samples}
    return {name for name in samples if not name.endswith("_created")}


def test_the_dashboard_asks_for_metrics_that_exist() -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    asked = {
        name
        for panel in dashboard["panels"]
        for target in panel["targets"]
        for name in re.findall(r"scaler_\w+", target["expr"])
    }
    assert asked
    assert asked <= metric_names()


def test_every_metric_is_documented() -> None:
    text = DOCUMENT.read_text().replace("`…_received_total`", "`scaler_scheduler_messages_received_total`")
    documented = set(re.findall(r"`(scaler_\w+)`", text))
    assert metric_names() <= documented


def alerts() -> list[dict[str, Any]]:
    rules: list[dict[str, Any]] = yaml.safe_load(ALERTS.read_text())["groups"][0]["rules"]
    return rules


def test_the_alerts_ask_for_metrics_that_exist() -> None:
    names = metric_names()
    for rule in alerts():
        asked = set(re.findall(r"scaler_\w+", rule["expr"]))
        assert asked, rule["alert"]
        assert asked <= names, rule["alert"]


def test_every_alert_has_its_section_in_the_runbook_and_every_section_its_alert() -> None:
    sections = re.findall(r"^## (\w+)$", (ROOT / RUNBOOK).read_text(), re.MULTILINE)
    assert [rule["alert"] for rule in alerts()] == sections
    for rule in alerts():
        assert rule["annotations"]["runbook_url"] == f"{RUNBOOK}#{rule['alert'].lower()}"
        assert rule["annotations"]["summary"]
        assert rule["labels"]["severity"] in ("critical", "warning", "info")


def promtool(*arguments: str) -> str:
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("promtool is not installed: apt-get install prometheus")
    run = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=50)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


def test_prometheus_understands_the_alerts() -> None:
    assert f"{len(alerts())} rules found" in promtool("check", "rules", str(ALERTS))


SERIES = {
    "ScalerSchedulerSilent": {"scaler_monitor_silence_seconds": "45x30"},
    "ScalerNoWorkers": {"scaler_workers": "0x30", 'scaler_tasks{state="unassigned"}': "7x30"},
    "ScalerTasksWaitLong": {"scaler_oldest_waiting_task_seconds": "1000x30"},
    "ScalerTasksFail": {
        'scaler_tasks_finished_total{result="failed"}': "0+10x30",
        'scaler_tasks_finished_total{result="success"}': "0+90x30",
    },
    "ScalerMapItemsFail": {"scaler_items_failed_total": "0+1x30"},
    "ScalerHostMemoryLow": {'scaler_agent_host_memory_free_bytes{agent="a",host="h"}': "1000x30"},
    "ScalerObjectStorageFull": {"scaler_object_memory_bytes": "95x30", "scaler_object_memory_limit_bytes": "100x30"},
    "ScalerSchedulerRestarted": {"scaler_scheduler_start_time_seconds": "1x18 2x12"},
    "ScalerAgentSilent": {'scaler_agent_silence_seconds{agent="a",host="h"}': "40x30"},
    "ScalerSchedulerBusy": {"scaler_scheduler_cpu_percent": "99x30"},
}
"""For each alert what raises it, a value each minute as promtool writes it."""

QUIET = {
    "scaler_monitor_silence_seconds": "1x30",
    "scaler_workers": "4x30",
    'scaler_tasks{state="unassigned"}': "700x30",
    "scaler_oldest_waiting_task_seconds": "60x30",
    'scaler_tasks_finished_total{result="failed"}': "0x30",
    'scaler_tasks_finished_total{result="success"}': "0+90x30",
    "scaler_items_failed_total": "3x30",
    'scaler_agent_host_memory_free_bytes{agent="a",host="h"}': "8000000000x30",
    "scaler_object_memory_bytes": "95x30",
    "scaler_object_memory_limit_bytes": "0x30",
    "scaler_scheduler_start_time_seconds": "1x30",
    'scaler_agent_silence_seconds{agent="a",host="h"}': "2x30",
    "scaler_scheduler_cpu_percent": "50x30",
}


def test_each_alert_is_raised_by_its_trouble_alone(tmp_path: Path) -> None:
    def case(series: dict[str, str], raised: str | None) -> dict[str, Any]:
        tests = []
        for rule in alerts():
            name = rule["alert"]
            found = [{"exp_labels": {"severity": rule["labels"]["severity"]}}] if name == raised else []
            if found and any("host=" in key for key in series):
                found[0]["exp_labels"] |= {"agent": "a", "host": "h"}
            tests.append({"eval_time": "25m", "alertname": name, "exp_alerts": found})
        return {
            "interval": "1m",
            "input_series": [{"series": key, "values": values} for key, values in series.items()],
            "alert_rule_test": tests,
        }

    # What is asked for is the alert with its labels, not the sentence in its annotations.
    rules = yaml.safe_load(ALERTS.read_text())
    for rule in rules["groups"][0]["rules"]:
        del rule["annotations"]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump(rules))
    assert sorted(SERIES) == sorted(rule["alert"] for rule in alerts())
    cases = [case(QUIET, None), *(case(series, name) for name, series in SERIES.items())]
    file = tmp_path / "cases.yml"
    file.write_text(yaml.safe_dump({"rule_files": ["rules.yml"], "tests": cases}))
    promtool("test", "rules", str(file))


def test_the_oldest_waiting_task_is_one_that_no_worker_has() -> None:
    model = ClusterModel()
    model.accept(snapshot(1, time_seconds=130.0), 0.0)
    assert b"scaler_oldest_waiting_task_seconds 0.0" in render_metrics(model, 0.0)
    for number, (state, submitted_at) in enumerate((("submitted", 100.0), ("assigned", 50.0), ("success", 10.0))):
        row = model.tasks.row(ALICE, number, "f", "")
        row.submitted_at = submitted_at
        model.tasks.enter(row, state)
    assert b"scaler_oldest_waiting_task_seconds 30.0" in render_metrics(model, 0.0)


def test_grafana_understands_every_key_of_the_dashboard() -> None:
    models = pytest.importorskip(
        "grafana_foundation_sdk.models.dashboard", reason="grafana-foundation-sdk is not installed"
    )
    encoder = pytest.importorskip("grafana_foundation_sdk.cog.encoder")

    def understood_of(given: Any) -> Any:
        return json.loads(json.dumps(models.Dashboard.from_json(given), cls=encoder.JSONEncoder))

    given = json.loads(DASHBOARD.read_text())
    assert _lost(given, understood_of(given), "dashboard") == []
    # It would tell: what its schema does not have is lost.
    misspelt = {"titel": ""}
    assert _lost(misspelt, understood_of(misspelt), "dashboard") == ["dashboard.titel"]


def _lost(given: Any, understood: Any, place: str) -> list[str]:
    """Return the places of what the second value lacks of the first, or has otherwise."""
    if isinstance(given, dict) and isinstance(understood, dict):
        return [lost for key, value in given.items() for lost in _lost(value, understood.get(key), f"{place}.{key}")]
    if isinstance(given, list) and isinstance(understood, list) and len(given) == len(understood):
        return [
            lost for n, pair in enumerate(zip(given, understood, strict=True)) for lost in _lost(*pair, f"{place}[{n}]")
        ]
    return [] if given == understood else [place]
