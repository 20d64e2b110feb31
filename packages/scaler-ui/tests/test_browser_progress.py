"""Progress that running tasks report, in the table of tasks and in their details."""

from __future__ import annotations

from browser import Visit, chromium
from stage import Stage
from synthetic_cluster import ALICE, UNIX, events, snapshot

from scaler_protocol.wire.messages import ProgressStatus, TaskEvent


def test_tasks_show_how_far_they_are() -> None:
    rows = [(UNIX, ALICE, number, TaskEvent.ASSIGNED, "node00", "risk.<b>", 0, -1) for number in (1, 2, 3)]
    said = (
        ProgressStatus(ALICE, 1, 50.0, 200.0, "epoch <i>2</i>", 0.5, "risk.<b>", "node00"),
        ProgressStatus(ALICE, 2, 1.5, -1.0, "", 0.5, "risk.<b>", "node00"),
    )
    stage = Stage()
    try:
        stage.scheduler.publish(snapshot(1, progress=said), events(1, rows))
        with chromium() as browser:
            visit = Visit(browser, stage.base)
            visit.open("tasks")
            cells = "[...document.querySelectorAll('td[data-label=progress]')].map((cell) => cell.innerText).sort()"
            visit.wait(f"JSON.stringify({cells}) === JSON.stringify(['', '1.5', '50 of 200, epoch <i>2</i>'])")
            assert visit.page.locator("td[data-label=progress] .meter i").get_attribute("style") == "width: 25%;"
            visit.open(f"tasks?show={ALICE.hex()}/1")
            visit.wait(
                "document.querySelector('dialog, aside, .detail')?.innerText.includes('50 of 200, epoch <i>2</i>')"
            )
            assert visit.accessibility_findings() == []
            # The task has ended, and nothing more is known of it.
            stage.scheduler.publish(
                snapshot(2), events(2, [(UNIX + 2, ALICE, 1, TaskEvent.SUCCESS, "node00", "risk.<b>", 9, 0)])
            )
            visit.wait(f"JSON.stringify({cells}) === JSON.stringify(['', '', ''])")
            assert visit.complaints == []
            visit.close()
    finally:
        stage.close()
