"""What tasks, workers and visitors may send to a browser: markup in every name, wrong tokens, pages without JavaScript."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from browser import Visit
from stage import PAGES
from synthetic_cluster import ALICE, UNIX, SyntheticScheduler, events, failure_payload, failures, log, snapshot, worker

from scaler_protocol.service.child import ChildService
from scaler_protocol.wire import messages as m
from scaler_protocol.wire.columns import Packed

if TYPE_CHECKING:
    from playwright.sync_api import Browser

EVIL = (
    '<script>window.pwned = 1</script>"><img src=x onerror="window.pwned = 2">\'<svg onload=window.pwned=3>'
    "\u202egnp.exe\u2066\nsecond line\r\n{{7*7}}</td></table><style>*{display:none}</style>javascript:window.pwned=4"
)


def publish_evil(scheduler: SyntheticScheduler) -> None:
    """Tell of a cluster in which every text is markup."""
    agent = snapshot(1).agents[0]
    client = snapshot(1).clients[0]
    made = dataclasses.replace(
        snapshot(1),
        workers=(
            dataclasses.replace(worker(0, 0), name=EVIL, agent=EVIL, hostname=EVIL, capabilities=EVIL, function=EVIL),
        ),
        agents=(
            dataclasses.replace(agent, name=EVIL, hostname=EVIL, capabilities=EVIL, functions=(m.Counter(EVIL, 3),)),
        ),
        clients=(dataclasses.replace(client, name=EVIL, hostname=EVIL),),
        functions=(m.Counter(EVIL, 5),),
        failed_functions=(m.Counter(EVIL, 5),),
        sent=(m.Counter(EVIL, 1),),
        received=(m.Counter(EVIL, 1),),
        adapters=(m.AdapterStatus(EVIL, EVIL, 4, 10, 4, 5, 1, EVIL),),
        scaling_strategy=EVIL,
        scaling_events=(m.ScalingEvent(1, UNIX, EVIL, EVIL, 1, EVIL),),
        jobs=(m.JobStatus(name=EVIL, owner=EVIL, client=ALICE, running=1, notice=EVIL),),
        job_count=1,
        progress=(m.ProgressStatus(ALICE, 1, 1.0, 2.0, EVIL, 0.0, EVIL, EVIL),),
        objects=(m.StoredObjectStatus(b"o" * 16, ALICE, EVIL, 2000, 12.5, EVIL, tasks=7, homes=(EVIL,)),),
    )
    rows = [
        (UNIX + number, ALICE, number, state, "" if state is m.TaskEvent.SUBMITTED else EVIL, EVIL, 900_000, slot)
        for number, (state, slot) in enumerate(
            [(m.TaskEvent.SUBMITTED, -1), (m.TaskEvent.SUCCESS, 0), (m.TaskEvent.FAILED, 0)], start=1
        )
    ]
    failed = failures(
        1, 1, functions=(EVIL,), workers=(EVIL,), payloads=Packed.of([failure_payload(EVIL.splitlines()[0], EVIL)])
    )
    scheduler.publish(made, events(1, rows), failed, log(1, (40, EVIL), (20, EVIL)))


def test_nothing_of_a_task_becomes_markup(browser: Browser) -> None:
    with SyntheticScheduler() as scheduler:
        child = ChildService.start("scaler_ui.web", [scheduler.address, "--port=0", "--timeout=600"])
        visit = Visit(browser, str(child.wait_ready(30)["webui"]).replace("tcp", "http"))
        scheduler.wait_for_monitor()
        publish_evil(scheduler)
        for page in PAGES:
            visit.open(page)
            visit.wait(f"document.querySelector('nav a[aria-current=page]')?.hash === '#{page}'")
            visit.wait("document.querySelector('.status.live') && document.querySelector('h1')")
            visit.wait("document.querySelector('main').innerText.includes('<script>window.pwned = 1</script>')")
            if page in ("tasks", "errors"):
                visit.page.locator("main table.data tbody tr").first.click()
                visit.wait("document.querySelector('#detail').open")
                assert not foreign_elements(visit), page
                visit.page.keyboard.press("Escape")
            assert not foreign_elements(visit), page
            assert visit.page.evaluate("getComputedStyle(document.body).display") != "none"
        # Also fails when the console told of a violation of the security policy.
        visit.close()
        assert child.terminate(40) == 0


def foreign_elements(visit: Visit) -> object:
    """What has come from a name: a global variable, or an element that pages do not have."""
    return visit.page.evaluate(
        "[window.pwned, ...[...document.querySelectorAll("
        '\'body script, body style, img[onerror], svg[onload], img[src$="x"], a[href^="javascript:"]\''
        ")].map(e => e.outerHTML)].filter(Boolean)"
    )


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a `scaler_ui` with the token `s3cret`."""
    file: Path = tmp_path_factory.mktemp("token") / "token"
    file.write_text("s3cret\n")
    file.chmod(0o600)
    with SyntheticScheduler() as scheduler:
        child = ChildService.start("scaler_ui.web", [scheduler.address, "--port=0", "--token-file", str(file)])
        yield str(child.wait_ready(30)["webui"]).replace("tcp", "http")
        assert child.terminate(40) == 0


@pytest.mark.parametrize(("scheme", "width"), [("light", 1440), ("dark", 1440), ("light", 390), ("dark", 390)])
@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no scripts"])
def test_a_visitor_signs_in_and_out(browser: Browser, guarded: str, scheme: str, width: int, scripts: bool) -> None:
    visit = Visit(
        browser,
        guarded,
        viewport={"width": width, "height": 800},
        color_scheme=scheme,
        java_script_enabled=scripts,
    )
    page = visit.page
    page.goto(guarded)
    if scripts:
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        visit.picture(f"ui-sign-in-{scheme}-{width}")
    page.get_by_label("Token").fill("s3cret")
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("button", name="Sign out").wait_for()
    assert page.url == f"{guarded}/"
    (cookie,) = visit.context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"], "s3cret" in cookie["value"]) == (True, "Strict", False)
    page.get_by_role("button", name="Sign out").click()
    page.get_by_role("button", name="Sign in").wait_for()
    assert not visit.context.cookies()
    # The browser itself reports the 401 of the first page.
    visit.complaints = [text for text in visit.complaints if "status of 401" not in text]
    visit.close()


def test_signing_out_shows_the_form_in_the_other_windows_too(browser: Browser, guarded: str) -> None:
    visit = Visit(browser, guarded)
    visit.page.goto(f"{guarded}/?token=s3cret")
    visit.page.get_by_role("button", name="Sign out").wait_for()
    other = visit.context.new_page()
    other.goto(guarded)
    other.get_by_role("button", name="Sign out").click()
    other.get_by_role("button", name="Sign in").wait_for()
    visit.page.get_by_role("button", name="Sign in").wait_for(timeout=40_000)
    # The browser itself reports the 401 by which the page learns that its session is over.
    visit.complaints = [text for text in visit.complaints if "status of 401" not in text]
    visit.close()


def test_a_wrong_token_is_said(browser: Browser, guarded: str) -> None:
    visit = Visit(browser, guarded)
    visit.page.goto(f"{guarded}/sign-in")
    visit.page.get_by_label("Token").fill("guess")
    visit.page.get_by_role("button", name="Sign in").click()
    visit.page.get_by_role("alert").wait_for()
    visit.picture("ui-sign-in-wrong")
    visit.complaints = [text for text in visit.complaints if "status of 401" not in text]
    visit.close()


def test_the_openapi_page_works_under_the_security_policy(browser: Browser, guarded: str) -> None:
    visit = Visit(browser, guarded)
    visit.page.goto(f"{guarded}/?token=s3cret")
    visit.wait("location.search === ''")
    foreign: list[str] = []
    visit.page.on("request", lambda request: foreign.append(request.url))
    visit.page.goto(f"{guarded}/api/docs")
    visit.page.get_by_text("/api/overview").first.wait_for()
    visit.picture("ui-api")
    assert [url for url in foreign if not url.startswith((guarded, "data:"))] == []
    visit.close()
