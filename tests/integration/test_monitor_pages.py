"""Every page, and scaler_top, over a real cluster that works: nothing breaks, and pictures are taken where they are wanted.

SCALER_SCREENSHOTS=docs/images pytest tests/integration/test_monitor_pages.py
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scaler import Client, ScalerFuture
from tests.integration import plain_http
from tests.integration.deployment import Deployment, Service, wait_for
from tests.integration.terminal import PICTURE_TOOLS, can_take_pictures, terminal

sys.path.insert(0, str(Path(__file__).parents[2] / "packages" / "scaler-ui" / "tests"))

from browser import SCREENSHOTS, Visit, chromium  # type: ignore[import-not-found]  # beside the tests of scaler-ui
from stage import PAGES  # type: ignore[import-not-found]

# Each starts a cluster, the pages and a browser, one after another, which takes most of a minute on a busy machine. Each wait
# has a deadline of its own.
pytestmark = pytest.mark.timeout(150)

LOAD_SECONDS = 4.0 if SCREENSHOTS else 0.0
"""How long the load goes on before anybody looks: curves and bars look better in pictures where there are some."""

UNANSWERED_MAX = 400
"""Tasks that wait, of which the workers have more than they can do in a second."""


def simulate_path(steps: int) -> float:
    """Take some hundredths of a second, and little of the processor: browsers and other tests have it."""
    value = 0.0
    for step in range(steps):
        value += (step % 7) * 0.5
    time.sleep(steps / 50_000)  # sleeps: the task takes so long
    return value


def price_option(steps: int) -> float:
    return simulate_path(steps) / max(1, steps)


def load_quotes(symbol: str, seconds: float = 0.02) -> str:
    if symbol == "XYZ":
        raise LookupError(f"no quotes for {symbol!r}")
    time.sleep(seconds)  # sleeps: the task takes so long
    return symbol


@pytest.fixture
def busy(deployment: Deployment) -> Iterator[tuple[Service, str]]:
    """A scheduler with two hosts of three workers that have more to do than they can, and the address of its pages."""
    scheduler = deployment.scheduler()
    deployment.workers(scheduler, "-pwc", "linux,cpu=3", "-his", "0.5", count=3)
    deployment.workers(scheduler, "-pwc", "linux,gpu", "-his", "0.5", count=3)
    ui = deployment.start("scaler_ui.web", str(scheduler.addresses["monitor"]), "--port=0")
    base = str(ui.addresses["webui"]).replace("tcp", "http")
    wait_for("scaler_ui hears the scheduler", lambda: overview(base)["connection"] == "live")
    client = deployment.client(scheduler)
    quotes = client.send_object(b"quotes" * 400_000, name="quotes")
    with pytest.raises(LookupError):
        client.map(load_quotes, ["ABC", "XYZ"])
    stop = threading.Event()
    load = threading.Thread(target=keep_busy, args=(client, stop), name="load")
    load.start()
    try:
        stop.wait(LOAD_SECONDS)
        yield scheduler, base
    finally:
        stop.set()
        load.join()
    quotes.release()
    client.clear()


def keep_busy(client: Client, stop: threading.Event) -> None:
    """Let a cluster have more to do than it can for as long as somebody looks at it, however slow either is."""
    unanswered: list[ScalerFuture] = []
    graph: dict[str, Any] = {f"leaf{n}": (load_quotes, "ABC") for n in range(100)}
    while not stop.wait(0.25):
        unanswered = [future for future in unanswered if not future.done()]
        if len(unanswered) < UNANSWERED_MAX:
            for number in range(60):
                unanswered.append(client.submit(simulate_path, 600 + 90 * (number % 9)))
                unanswered.append(client.submit(price_option, 1_500))
                unanswered.append(client.submit(load_quotes, "XYZ" if number == 7 else "ABC"))
            unanswered += client.get(graph, list(graph), block=False).values()


def overview(base: str) -> Any:
    return plain_http.get(base + "/api/overview").json()


def test_pages_show_a_busy_cluster(busy: tuple[Service, str]) -> None:
    _, base = busy
    with chromium() as browser:
        for scheme in ("light", "dark"):
            visit = Visit(browser, base, color_scheme=scheme, reduced_motion="reduce")
            for page in PAGES if scheme == "light" else ("overview", "stream"):
                visit.open(page)
                visit.wait("document.querySelector('.status.live') && document.querySelector('h1')")
                visit.page.wait_for_timeout(600)
                visit.picture(f"ui-{page}" if scheme == "light" else f"ui-{page}-dark")
            visit.close()


def test_top_shows_a_busy_cluster_in_a_terminal(busy: tuple[Service, str], tmp_path: Path) -> None:
    scheduler, _ = busy
    folder = Path(SCREENSHOTS) if SCREENSHOTS else tmp_path
    with terminal(tmp_path, sys.executable, "-m", "scaler_ui.top", str(scheduler.addresses["monitor"])) as screen:
        screen.wait_for("6 workers")
        screen.press("c")
        screen.wait_for("[cpu]")
        screen.wait_for("simulate_path")
        if can_take_pictures():
            screen.picture(folder / "top.png")
        screen.press("3")
        screen.wait_for("no quotes for 'XYZ'")
        screen.press("Enter")
        screen.wait_for("in load_quotes")
        screen.press("Escape")
        # Two keys in one go would be one with Alt.
        screen.wait_for("in load_quotes", gone=True)
        screen.press("2")
        screen.wait_for("failed items")
    if not can_take_pictures():
        pytest.skip(f"no pictures of the terminal were taken: one of {', '.join(PICTURE_TOOLS)} is not installed")


# A share of 24/324, as 6.25 percent is rounded to 6.2 here and to 6.3 in JavaScript.
GOOD, BAD, CANCELED, ITEMS_FAILED = 300, 24, 10, 3
OBJECT_BYTES = 3 * 1024**2


def hold(seconds: float) -> None:
    time.sleep(seconds)  # sleeps: the task takes so long


def fail_on(number: int) -> int:
    raise ValueError(f"item {number}")


def test_the_pages_say_what_the_test_has_counted(deployment: Deployment) -> None:
    scheduler = deployment.scheduler()
    deployment.workers(scheduler, "-his", "0.5", count=2)
    ui = deployment.start("scaler_ui.web", str(scheduler.addresses["monitor"]), "--port=0")
    base = str(ui.addresses["webui"]).replace("tcp", "http")
    wait_for("scaler_ui hears the scheduler", lambda: overview(base)["connection"] == "live")
    client = deployment.client(scheduler)
    quotes = client.send_object(b"q" * OBJECT_BYTES, name="quotes")
    ended = [client.submit(load_quotes, "XYZ" if number < BAD else "ABC", 0.0) for number in range(GOOD + BAD)]
    failed = sum(future.exception(60) is not None for future in ended)
    assert failed == BAD
    for number in range(ITEMS_FAILED):
        with pytest.raises(ValueError, match=f"item {number}"):
            client.map(fail_on, [number])
    held = [client.submit(hold, 60) for _ in range(CANCELED)]
    canceled = sum(future.cancel(timeout=30) for future in held)
    assert canceled == CANCELED
    good = GOOD + ITEMS_FAILED  # A chunk with a failed item is a success to the scheduler.
    with chromium() as browser:
        visit = Visit(browser, base)

        def wait_for_text(selector: str, text: str) -> None:
            visit.wait(f"document.querySelector({selector!r})?.textContent.includes({text!r})")

        def row_counts(table: str, key: str) -> str:
            at = f"[...document.querySelectorAll('[aria-label=\"{table}\"] th')].findIndex(h => h.dataset.key === '{key}')"
            rows = f"document.querySelectorAll('table[aria-label=\"{table}\"] tbody tr')"
            return f"[...{rows}].map(row => row.children[{at}]?.textContent).join()"

        visit.open("overview")
        wait_for_text("#tile-success", f"{good}")
        wait_for_text("#tile-failed", f"{BAD}")
        wait_for_text("#tile-failed + .note", f"and {ITEMS_FAILED} items of maps")
        wait_for_text("#tile-success + .note", f"{CANCELED} canceled")
        wait_for_text("#tile-objects", "3.0 MiB")
        wait_for_text("#tile-running", "0")
        visit.open("clients")
        for key, value in (
            ("finished", good),
            ("failed", BAD),
            ("failed_items", ITEMS_FAILED),
            ("object_bytes", "3.0 MiB"),
        ):
            visit.wait(f"{row_counts('Clients', key)} === '{value}'")
        visit.open("errors")
        # Items that differ in a number only are one kind of error.
        visit.wait(f"{row_counts('Errors', 'recent')} === '{ITEMS_FAILED},{BAD}'")
        visit.wait(f"{row_counts('Errors', 'items')} === '{ITEMS_FAILED},'")
        visit.open("functions?search=load_quotes")
        visit.wait(f"{row_counts('Functions', 'ended')} === '{GOOD + BAD}'")
        visit.wait(f"{row_counts('Functions', 'failed_share')} === '{100 * BAD / (GOOD + BAD):.1f} %'")
        visit.open("tasks")
        wait_for_text("main", f"{good + BAD + CANCELED}")
        visit.close()
    quotes.release()


def test_a_page_finds_the_scheduler_that_comes_after_a_killed_one(deployment: Deployment) -> None:
    # Its successor would take the port next to its own for it, which somebody may have.
    storage = deployment.storage().address
    scheduler = deployment.scheduler("-osa", storage)
    address, monitor = scheduler.address, str(scheduler.addresses["monitor"])
    deployment.workers(scheduler, "-his", "0.5", count=2)
    ui = deployment.start("scaler_ui.web", monitor, "--port=0", "--timeout=2")
    client = deployment.client(scheduler)
    with chromium() as browser:
        visit = Visit(browser, str(ui.addresses["webui"]).replace("tcp", "http"))
        success, workers, status = (
            f"document.getElementById('{name}')?.textContent"
            for name in ("tile-success", "tile-workers", "status-text")
        )

        def wait_live(finished: int) -> None:
            visit.wait(f"document.querySelector('.status.live') && {success} === '{finished}' && {workers} === '2'")

        def finish(count: int) -> None:
            for future in [client.submit(price_option, number) for number in range(count)]:
                future.result(30)

        visit.open("overview")
        wait_live(0)
        visit.page.evaluate("window.loadedOnce = true")
        finish(50)
        wait_live(50)
        scheduler.kill()
        visit.wait(
            f"document.querySelector('.status.silent') && {status}.includes('no message from the scheduler for')"
        )
        # What was known last is still there to be read.
        assert visit.page.evaluate(f"[{success}, {workers}]") == ["50", "2"]
        deployment.scheduler("-osa", storage, "--monitor-address", monitor, address=address)
        finish(7)
        wait_live(7)
        visit.wait(f"{status}.includes('the scheduler was restarted once')")
        assert visit.page.evaluate("window.loadedOnce")
        visit.close()
