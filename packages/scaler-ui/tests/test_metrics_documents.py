"""What is written about metrics, and what there is, are the same."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from synthetic_cluster import snapshot

from scaler_protocol.wire.messages import AdapterStatus
from scaler_ui.model import ClusterModel
from scaler_ui.model.metrics import render_metrics

ROOT = Path(__file__).resolve().parents[3]
DASHBOARD = ROOT / "deploy" / "grafana" / "scaler.json"
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
