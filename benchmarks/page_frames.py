"""How smooth the task stream is, and how heavy the pages are: `python -m benchmarks.page_frames [--bars N] [--output FILE]`.

A hundred thousand bars of 500 workers, in a real Chromium without a graphics processor (needs chromium and playwright; Linux).
The times are those between frames as the browser gives them (requestAnimationFrame), while the view is zoomed and moved at every
frame: what a person sees, painting and compositing included. Beside them, what the page's own painting took. The weight of a page
is what the server sends for it, compressed, the first time.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scaler_protocol.monitoring.topics import EVENTS, FIGURES
from scaler_protocol.service.child import ChildService
from scaler_protocol.transport.publisher import Publisher
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.codec import encode

sys.path.insert(0, str(Path(__file__).parents[1] / "packages" / "scaler-ui" / "tests"))

from stage import PAGES  # type: ignore[import-not-found]  # beside the tests of scaler-ui

if TYPE_CHECKING:
    from playwright.sync_api import Page

BARS = 100_000
HOSTS, WORKERS = 50, 10
PART = 20_000
FRAMES = 600
"""Frames of each movement: ten seconds, if they are smooth."""

SECONDS = 120.0
FUNCTIONS = ("pricing.simulate", "risk.aggregate", "features.extract", "models.fit_tree", "io.load_block")
INCARNATION = b"page frames.".ljust(16)
CLIENT = b"client".ljust(16, b".")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
MOVEMENTS = {
    "zoom": "stream.zoom(frame % 120 < 60 ? 0.96 : 1 / 0.96)",
    "move": "stream.move((frame % 120 < 60 ? -1 : 1) * stream.span / 150)",
    "move, one second shown": (
        "frame || (stream.span = 1, stream.following = false); stream.move((frame % 120 < 60 ? -1 : 1) / 100)"
    ),
    "lanes up and down": "frame || stream.showAll(); stream.moveLanes(frame % 120 < 60 ? 6 : -6)",
}

SCRIPT = """frames => new Promise(done => {
    const stream = scaler.page().stream;
    stream.showAll();
    stream.frameTimes.length = 0;
    const times = [], painted = [];
    let frame = 0, last = null;
    const step = now => {
        if (last !== null) times.push(now - last);
        last = now;
        painted.push(...stream.frameTimes.splice(0));
        if (frame === frames) { done([times, painted]); return; }
        MOVEMENT;
        frame += 1;
        requestAnimationFrame(step);
    };
    requestAnimationFrame(step);
})"""


def snapshot(sequence: int, at: float) -> m.MonitorSnapshot:
    """Return a cluster of 50 hosts."""
    return m.MonitorSnapshot(
        sequence=sequence,
        time_seconds=at,
        incarnation=INCARNATION,
        workers=tuple(
            m.WorkerStatus(name=f"host{host:02}-{slot}", agent=f"host{host:02}", hostname=f"host{host:02}", pid=slot)
            for host in range(HOSTS)
            for slot in range(WORKERS)
        ),
        agents=tuple(m.AgentStatus(name=f"host{host:02}", hostname=f"host{host:02}", pid=1) for host in range(HOSTS)),
    )


def events(count: int, began: float) -> list[m.MonitorEvents]:
    """Return so many tasks that ended, one after another on each worker."""
    dice = random.Random(7)
    ends = [began] * (HOSTS * WORKERS)
    rows = []
    for number in range(1, count + 1):
        place = number % len(ends)
        seconds = dice.expovariate(2.0) + 0.001
        ends[place] += seconds + 0.002
        state = m.TaskEvent.FAILED if dice.random() < 0.005 else m.TaskEvent.SUCCESS
        rows.append((ends[place], number, int(state), place, dice.randrange(len(FUNCTIONS)), int(seconds * 1e6)))
    rows.sort()
    return [
        m.MonitorEvents(
            sequence=index + 1,
            incarnation=INCARNATION,
            time_seconds=[row[0] for row in part],
            clients=[0] * len(part),
            client_table=(CLIENT,),
            numbers=[row[1] for row in part],
            states=[row[2] for row in part],
            workers=[row[3] // WORKERS for row in part],
            worker_table=tuple(f"host{host:02}" for host in range(HOSTS)),
            functions=[row[4] for row in part],
            function_table=FUNCTIONS,
            durations=[row[5] for row in part],
            slots=[row[3] % WORKERS for row in part],
        )
        for index, part in enumerate(rows[start : start + PART] for start in range(0, len(rows), PART))
    ]


def figures(times: Sequence[float]) -> dict[str, float]:
    """Return p50, p99 and the worst, in milliseconds."""
    ordered = sorted(times)
    return {
        "p50": statistics.median(ordered),
        "p99": ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))],
        "worst": ordered[-1],
    }


def wait(page: Page, expression: str) -> None:
    """Wait until an expression is true on the page."""
    until = time.monotonic() + SECONDS
    while not page.evaluate(expression):
        if time.monotonic() > until:
            raise TimeoutError(f"not in time: {expression}")
        page.wait_for_timeout(50)


def weight(page: Page, base: str, name: str) -> dict[str, int]:
    """Return how many requests and bytes a page takes that is opened for the first time."""
    sizes: list[int] = []
    page.on("requestfinished", lambda request: sizes.append(request.sizes()["responseBodySize"]))
    page.goto(f"{base}/#{name}")
    page.wait_for_timeout(1500)
    return {"requests": len(sizes), "bytes": sum(sizes)}


def measure(bars: int, frames: int) -> dict[str, Any]:
    """Run everything. Returns what is printed and written."""
    from playwright.sync_api import sync_playwright

    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        raise SystemExit("chromium is not installed")
    began = time.time() - 200
    publisher = Publisher("tcp://127.0.0.1:0", queue_messages=10_000)
    child = ChildService.start("scaler_ui.web", [publisher.address, "--port=0", "--timeout=600"])
    found: dict[str, Any] = {"bars": bars, "workers": HOSTS * WORKERS, "frames": {}, "painting": {}, "weight": {}}
    try:
        base = str(child.wait_ready(30)["webui"]).replace("tcp", "http")
        until = time.monotonic() + SECONDS
        while not publisher.wanted(EVENTS):
            publisher.update_subscribers()
            if time.monotonic() > until:
                raise TimeoutError("scaler_ui does not subscribe")
            time.sleep(0.05)
        publisher.send([FIGURES, *encode(snapshot(1, began + 200))])
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
            for sequence, name in enumerate(PAGES, 2):
                context = browser.new_context(viewport={"width": 1440, "height": 900})
                found["weight"][name] = weight(context.new_page(), base, name)
                context.close()
                # A scheduler that says nothing for long is asked for its streams anew.
                publisher.update_subscribers()
                publisher.send([FIGURES, *encode(snapshot(sequence, began + 200))])
            for message in events(bars, began):
                publisher.send([EVENTS, *encode(message)])
            page = browser.new_context(viewport={"width": 1440, "height": 900}).new_page()
            page.goto(f"{base}/#stream")
            wait(page, f"scaler.page()?.stream?.bars.length >= {bars} && scaler.frameTimes().length > 0")
            for name, movement in MOVEMENTS.items():
                publisher.send([FIGURES, *encode(snapshot(100, began + 201))])
                times, painted = page.evaluate(SCRIPT.replace("MOVEMENT", movement), frames)
                found["frames"][name], found["painting"][name] = figures(times), figures(painted)
            browser.close()
    finally:
        child.terminate(10)
        publisher.close()
    return found


def main() -> int:
    """Measure, print, and write what was found."""
    parser = argparse.ArgumentParser(
        description="Frames of the task stream and weight of the pages, in a real browser."
    )
    parser.add_argument("--bars", type=int, default=BARS, help="tasks that are drawn (default: %(default)s)")
    parser.add_argument("--frames", type=int, default=FRAMES, help="frames of each movement (default: %(default)s)")
    parser.add_argument("--output", type=Path, help="also write everything to this file, as JSON")
    arguments = parser.parse_args()
    found = measure(arguments.bars, arguments.frames)
    print(f"{found['bars']:,} bars of {found['workers']} workers; milliseconds between frames (and of painting)")
    for name, times in found["frames"].items():
        painted = found["painting"][name]
        print(f"  {name:24}" + "".join(f"  {one} {times[one]:6.1f} ({painted[one]:5.1f})" for one in times))
    print("weight of a page that is opened for the first time")
    for name, one in found["weight"].items():
        print(f"  {name:24}  {one['bytes'] / 1024:6.1f} KiB in {one['requests']} requests")
    if arguments.output:
        arguments.output.write_text(json.dumps(found, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
