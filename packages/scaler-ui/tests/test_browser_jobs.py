"""The page of jobs in a real browser."""

from __future__ import annotations

from browser import Visit, chromium
from stage import Stage
from synthetic_cluster import snapshot


def test_jobs_have_a_page() -> None:
    stage = Stage()
    try:
        stage.scheduler.publish(snapshot(1))
        with chromium() as browser:
            visit = Visit(browser, stage.base)
            page = visit.open("jobs")
            rows = "document.querySelectorAll('table[aria-label=Jobs] tbody tr').length"
            visit.wait(f"{rows} === 2")

            def column(label: str) -> list[str]:
                return page.locator(f"table[aria-label=Jobs] td[data-label='{label}']").all_inner_texts()

            assert column("job") == ["<b>bold</b>", "overnight"]
            assert column("ended") == ["7 of 7", "95 of 100"]
            assert column("time left") == ["", "not known"]
            assert column("kept") == ["0 B", "5.0 MiB"]
            assert column("submitted") == ["open", "all"]
            assert column("forgotten")[1] == ""
            assert column("owner") == ["bob", "desk (pid 812)"]
            assert "{gpu}" in column("cannot run")[1]
            page.get_by_role("button", name="job", exact=True).click()
            visit.wait("location.hash.includes('sort=')")
            page.locator("input[type=search]").fill("pid 812")
            visit.wait(f"{rows} === 1")
            page.locator("table[aria-label=Jobs] tbody tr").first.click()
            visit.wait("location.hash.includes('show=overnight')")
            assert page.get_by_role("link", name="its tasks").get_attribute("href") == (
                f"#tasks?client={b'overnight'.ljust(16, b'.').hex()}"
            )
            assert visit.accessibility_findings() == []
            stage.scheduler.publish(snapshot(2, jobs=(), job_count=0))
            visit.wait(f"{rows} === 0")
            visit.open("jobs?show=gone")
            visit.wait("document.body.innerText.includes('there is no job of this name now')")
            assert visit.complaints == []
            visit.close()
    finally:
        stage.close()
