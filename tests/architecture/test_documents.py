"""What the documents point at is there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("benchmarks", "deploy", "docs", "examples", "packages", "scripts", "simulation", "tests")
DOCUMENTS = sorted(
    [
        *ROOT.glob("*.md"),
        *ROOT.glob("clients/*/*.md"),
        *(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.md")),
    ]
)

_CODE = re.compile(r"^```.*?^```|`[^`\n]*`", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)|^\[[^\]]+\]: *(\S+)", re.MULTILINE)
_HEADING = re.compile(r"^#+ +(.+?) *$", re.MULTILINE)
_ELSEWHERE = re.compile(r"[a-z]+:")


def links_in(text: str) -> Iterator[str]:
    """The places in this repository that a document links to."""
    for match in _LINK.finditer(_CODE.sub("", text)):
        target = match[1] or match[2]
        if not _ELSEWHERE.match(target):
            yield target


def anchors_in(text: str) -> set[str]:
    """The anchors that its headings have where such documents are shown."""
    headings = _HEADING.findall(re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def dead_links(document: Path) -> list[str]:
    dead = []
    for link in links_in(document.read_text(encoding="utf-8")):
        name, _, anchor = link.partition("#")
        target = document.parent / name if name else document
        if not target.exists() or (anchor and anchor not in anchors_in(target.read_text(encoding="utf-8"))):
            dead.append(link)
    return dead


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(document: Path) -> None:
    assert dead_links(document) == []


def test_links_that_lead_nowhere_are_seen(tmp_path: Path) -> None:
    (tmp_path / "other.md").write_text("# The `-x` flag, and why\n\n```bash\n# no heading\n```\n")
    document = tmp_path / "this.md"
    document.write_text(
        "[a](other.md) [b](other.md#the--x-flag-and-why) [c](other.md#no-heading) [d](gone.md) ![e](gone.png)\n"
        "[f](https://example.org/gone) [g](#there) `[h](code.md)`\n\n```\n[i](code.md)\n```\n\n## There\n\n[j]: gone.txt\n"
    )
    assert dead_links(document) == ["other.md#no-heading", "gone.md", "gone.png", "gone.txt"]
