"""Every page has a place in the site's navigation, and pages that are made from other files hold what those say."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NAVIGATION = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:\n")[2]
PAGES = set(re.findall(r": (\S+\.md)$", NAVIGATION, re.MULTILINE))


def test_every_page_has_a_place_in_the_navigation() -> None:
    assert {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")} <= PAGES


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("mkdocstrings")
    pytest.importorskip("material")
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, timeout=55, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    reference = (tmp_path / "reference/commands/index.html").read_text(encoding="utf-8")
    assert "--max-task-attempts" in reference
    assert sys.executable not in reference
    assert "send_object" in (tmp_path / "reference/python/index.html").read_text(encoding="utf-8")
    assert "map chunk" in (tmp_path / "glossary/index.html").read_text(encoding="utf-8")
