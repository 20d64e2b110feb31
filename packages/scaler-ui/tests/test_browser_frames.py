"""The pages in a frame of a notebook: only where that is allowed, and live."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from browser import chromium
from synthetic_cluster import SyntheticScheduler, snapshot

from scaler_protocol.service.child import ChildService


@contextmanager
def page_with_frame(url: str) -> Iterator[str]:
    """A site of its own, whose page shows `url` in a frame; gives its address."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.end_headers()
            self.wfile.write(f'<iframe src="{url}" width="900" height="600"></iframe>'.encode())

        def log_message(self, *_: object) -> None:
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, name="page", daemon=True).start()
        yield f"http://localhost:{server.server_port}"
        server.shutdown()


def shown_in_frame(scheduler: SyntheticScheduler, *arguments: str) -> bool:
    """Say whether the frame shows the cluster."""
    child = ChildService.start("scaler_ui.web", [scheduler.address, "--port=0", "--timeout=600", *arguments])
    try:
        base = str(child.wait_ready(30)["webui"]).replace("tcp", "http")
        scheduler.wait_for_monitor()
        scheduler.publish(snapshot(1))
        with chromium() as browser, page_with_frame(base) as site:
            page = browser.new_page()
            answers: list[int] = []
            page.on("response", lambda answer: answers.append(answer.status) if answer.url.startswith(base) else None)
            page.goto(site, wait_until="load")
            frame = page.frames[1]
            if answers[0] != 200:
                return False
            frame.wait_for_selector(".status.live", timeout=40_000)
            return True
    finally:
        child.terminate(5)


def test_a_notebook_that_is_allowed_shows_the_pages(scheduler: SyntheticScheduler) -> None:
    assert shown_in_frame(scheduler, "--allowed-frames=http://localhost:*")


def test_nobody_else_does(scheduler: SyntheticScheduler) -> None:
    assert not shown_in_frame(scheduler)
