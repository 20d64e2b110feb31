"""The profile button in a real browser, over real clusters: where the pages have a monitor's key, and where nobody may cancel."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from scaler import Client
from scaler_protocol.testing.security_directory import make_security_directory
from tests.integration.deployment import Deployment, wait_for
from tests.integration.test_cancel_from_pages import Pages, make_copy

sys.path.insert(0, str(Path(__file__).parents[2] / "packages" / "scaler-ui" / "tests"))

from browser import Visit, chromium  # type: ignore[import-not-found]  # beside the tests of scaler-ui

if TYPE_CHECKING:
    from playwright.sync_api import Browser


def wait_in_python(seconds: float) -> None:
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        time.sleep(0.01)  # sleeps: the task takes so long


def work(client: Client, ended: threading.Event) -> None:
    """Keep two workers at work until the profile is there."""
    while not ended.is_set():
        client.map(wait_in_python, [0.5, 0.5])


def take_profile(browser: Browser, pages: Pages, client: Client, refusal: str) -> None:
    """Take a profile by the button; details of a function say why nothing is cancelled from here."""
    ended = threading.Event()
    working = threading.Thread(target=work, args=(client, ended), name="work")
    working.start()
    visit = Visit(browser, pages.base)
    try:
        wait_for("tasks run", lambda: bool(pages.get("/api/tasks?state=assigned")["tasks"]))
        page = visit.open("functions")
        page.get_by_role("button", name="Profile…").click()
        page.get_by_label("Length of the profile").select_option("5")
        page.get_by_role("button", name="Start").click()
        calls = "[...document.querySelectorAll('.flame button')].map(one => one.textContent)"
        wait_for("the flame graph", lambda: visit.page.evaluate(f"{calls}.includes('wait_in_python')"), 60)
        (function,) = {task["function"] for task in pages.get("/api/tasks")["tasks"]}
        visit.open(f"functions?show={function}")
        visit.wait(f"document.querySelector('#detail .refusal')?.textContent.includes('{refusal}')")
        assert page.get_by_role("button", name="Cancel its tasks").count() == 0
        visit.close()
    finally:
        ended.set()
        working.join()


@pytest.mark.without_keys("it chooses keys itself")
def test_with_the_key_of_a_monitor(deployment: Deployment, tmp_path: Path) -> None:
    keys = make_security_directory(tmp_path / "keys")
    scheduler = deployment.scheduler("--security-dir", str(keys))
    deployment.workers(scheduler, "--security-dir", str(keys), count=2)
    watching = make_copy(keys, tmp_path / "watching", without="operator.key")
    pages = Pages(deployment, scheduler, "--security-dir", str(watching))
    client = Client(scheduler.address, security=keys)
    deployment.clients.append(client)
    pages.hears(1)
    with chromium() as browser:
        take_profile(browser, pages, client, "needs the key of an operator")


def test_of_a_protected_scheduler(deployment: Deployment) -> None:
    scheduler = deployment.scheduler("--protected")
    deployment.workers(scheduler, count=2)
    pages = Pages(deployment, scheduler)
    client = deployment.client(scheduler)
    pages.hears(1)
    with chromium() as browser:
        take_profile(browser, pages, client, "protected")
