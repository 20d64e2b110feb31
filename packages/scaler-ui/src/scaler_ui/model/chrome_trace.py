"""The task stream as a Chrome trace (see `scaler_protocol.monitoring.timeline`)."""

from __future__ import annotations

from collections.abc import Iterator

from scaler_protocol.monitoring import timeline
from scaler_ui.model.bars import FAILED, SUCCESS
from scaler_ui.model.cluster import ClusterModel

_STATES = {SUCCESS: "success", FAILED: "failed"}


def chrome_trace(model: ClusterModel) -> Iterator[str]:
    """Return the trace as pieces of one JSON document."""
    spans = [
        timeline.TaskSpan(
            bar.start,
            bar.duration_s,
            bar.lane.agent,
            bar.lane.slot,
            bar.function,
            _STATES.get(bar.state, "canceled"),
            {
                "task": bar.number,
                "client": model.client_name(bar.client),
                "capabilities": bar.capabilities,
                **({"label": bar.label} if bar.label else {}),
            },
        )
        for bar in model.bars.bars()
    ]
    names = {(lane.agent, lane.slot): name for lane, name in model.worker_names().items()}
    return timeline.chrome_trace(spans, names, {"stride": model.stride})
