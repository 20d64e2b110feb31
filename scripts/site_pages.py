"""Pages of the documentation site that are made from other files. mkdocs calls the functions, see `hooks` in mkdocs.yml.

Documents outside `docs` become pages, the glossary is taken out of ARCHITECTURE.md, and the reference of the commands is written
from their settings. Links to what is no page of the site become plain text.
"""

from __future__ import annotations

import argparse
import os
import posixpath
import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

# mkdocs loads this file by its path: `scripts` is found from the root of the repository.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from scaler_protocol.service.help_page import EXAMPLES, OWN, POSITIONAL, HelpPageParser
from scripts.write_completions import parsers

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = {
    "deploy/README.md": "deploying.md",
    "ARCHITECTURE.md": "project/architecture.md",
    "CHANGELOG.md": "project/changelog.md",
    "clients/node/README.md": "node.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "SECURITY.md": "project/security.md",
}
"""Documents outside `docs`, and their pages."""
MAY_BE_ABSENT = ("migration.md", "workers.md")
"""Pages with a place in the navigation that need not be there."""

COMMANDS_TEXT = """Every command has `-h`, `--version` and `--config FILE`. A flag is a key of the command's section in a TOML
file, with `_` for `-`; the command line wins over the file. `python -m scaler` checks an installation and a cluster."""

_FENCE = re.compile(r"^```.*?^```\n?", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")
_OWN_DEFAULT = re.compile(r" \(default: [^)]*/bin/python[^)]*\)")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Drop pages from the navigation that are not there."""
    absent = {name for name in MAY_BE_ABSENT if not (ROOT / "docs" / name).exists()}
    config.nav = _without(config.nav or [], absent)
    return config


def _without(items: list[Any], absent: set[str]) -> list[Any]:
    kept = []
    for item in items:
        ((title, content),) = item.items()
        if isinstance(content, list):
            kept.append({title: _without(content, absent)})
        elif content not in absent:
            kept.append(item)
    return kept


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made here."""
    for source, page in DOCUMENTS.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=linked(text, ROOT / source, page)))
    files.append(File.generated(config, "glossary.md", content=glossary()))
    files.append(File.generated(config, "reference/commands.md", content=commands()))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Turn links that leave `docs` into links to their pages, or into text."""
    if page.file.generated_by:
        return markdown
    return linked(markdown, ROOT / "docs" / page.file.src_uri, page.file.src_uri)


def linked(text: str, source: Path, page: str) -> str:
    """Return the text of a document with links that hold on the site. `page`: its own place there."""
    pieces, end = [], 0
    for fence in _FENCE.finditer(text):
        pieces += [_LINK.sub(lambda match: _link(match, source, page), text[end : fence.start()]), fence[0]]
        end = fence.end()
    return "".join([*pieces, _LINK.sub(lambda match: _link(match, source, page), text[end:])])


def _link(match: re.Match[str], source: Path, page: str) -> str:
    image, label, target = match.groups()
    name, hash_sign, anchor = target.partition("#")
    if not name or re.match(r"[a-z]+:", name):
        return match[0]
    path = os.path.relpath(os.path.normpath(source.parent / name), ROOT).replace(os.sep, "/")
    place = DOCUMENTS.get(path) or (path.removeprefix("docs/") if path.startswith("docs/") else None)
    if place is None:
        # A file of the repository that is no page, such as a program.
        return label
    relative = posixpath.relpath(place, posixpath.dirname(page) or ".")
    return f"{image}[{label}]({relative}{hash_sign}{anchor})"


def glossary() -> str:
    """Return the page with the glossary of ARCHITECTURE.md."""
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    section = text.partition("\n## Glossary\n")[2].partition("\n## ")[0]
    return f"# Glossary\n\nOne thing has one word everywhere: here, in the code and in messages.\n{section}"


def commands() -> str:
    """Return the page with all commands, their arguments and their flags."""
    parts = [
        "# Commands",
        COMMANDS_TEXT,
    ]
    for command, (_, parser, _) in sorted(parsers().items()):
        parts += [f"## {command}", parser.description or "", *_described(parser)]
    return "\n\n".join(parts) + "\n"


def _described(parser: argparse.ArgumentParser) -> list[str]:
    told = ""
    inner = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    sections = parser.sections() if isinstance(parser, HelpPageParser) else [("", parser._actions)]
    rows = ["| argument or flag | meaning |", "|---|---|"]
    for title, action in ((title, action) for title, actions in sections for action in actions):
        if action in inner or action.dest in ("help", "version"):
            continue
        if title not in ("", POSITIONAL, OWN, told):
            told = title
            rows.append(f"| **{title}** | |")
        names = ", ".join(f"`{name}`" for name in action.option_strings) or f"`{action.metavar or action.dest}`"
        rows.append(f"| {names} | {_cell(action.help or '')} |")
    parts = ["\n".join(rows)] if len(rows) > 2 else []
    if parser.epilog and EXAMPLES in parser.epilog:
        parts.append(f"```text\n{parser.epilog[parser.epilog.index(EXAMPLES) :]}\n```")
    for action in inner:
        for name, command in action.choices.items():
            parts += [f"### {parser.prog} {name}", command.description or "", *_described(command)]
    return parts


def _cell(text: str) -> str:
    escaped = _OWN_DEFAULT.sub("", text).replace("%%", "%").replace("|", "\\|")
    return escaped.replace("<", "&lt;").replace("*", "\\*")
