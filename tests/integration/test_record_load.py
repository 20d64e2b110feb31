"""`scripts/record_load.py`: the load of a real run, and a day of departures."""

from __future__ import annotations

import threading
import zipfile
from pathlib import Path

import pytest

from scaler import Client
from scaler_protocol.wire.messages import MonitorEvents
from scripts.record_load import Recorder, read_departures, record_job
from tests.integration.functions import sleep_and_return


@pytest.mark.timeout(90)
def test_a_job_is_recorded_as_arrivals_and_durations() -> None:
    before = threading.active_count()

    def job(client: Client) -> None:
        for _ in range(2):
            for future in [client.submit(sleep_and_return, 0.1) for _ in range(5)]:
                future.result(timeout=30)

    load = record_job(job)
    assert len(load) == 10
    assert load[0][0] == 0.0
    assert load == sorted(load)
    assert all(took >= 0.09 for _, took in load)
    # The second half was submitted when the first was done: at least as much work later as one of two workers had.
    assert load[5][0] >= 0.25
    assert threading.active_count() == before


def test_a_stream_with_gaps_is_no_recording() -> None:
    def events(dropped: int = 0, stride: int = 1) -> MonitorEvents:
        return MonitorEvents(1, [], [], (), [], [], [], (), [], (), [], dropped=dropped, stride=stride)

    recorder = Recorder()
    recorder.add(events())
    for gaps in (events(dropped=1), events(stride=2)):
        with pytest.raises(ValueError, match="record a smaller job"):
            recorder.add(gaps)


def test_a_day_of_departures(tmp_path: Path) -> None:
    archive = tmp_path / "flights.csv.zip"
    rows = [
        "month,day,dep_time,air_time",
        "2,8,105,200",
        "2,8,NA,60",
        "2,8,930,NA",
        "2,8,1430,75",
        "2,9,700,60",
        "2,8,2400.0,20.0",
    ]
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("flights.csv", "\n".join(rows))
    assert [*read_departures(archive, "2-08")] == [(65.0, 20.0), (870.0, 7.5), (1440.0, 2.0)]
