"""The page that `-h` prints: a command's own options first, then those that it shares with others, by purpose, then examples.

The page is written from the settings. `SECTIONS` says once for all commands where a setting stands; one that nothing here names
is an option of the command itself, and needs no entry.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Sequence

POSITIONAL = "positional arguments"
OWN = "options"
GENERAL = "general"
EXAMPLES = "examples:"
WITHOUT_EFFECT = "accepted for older command lines, without effect"

SECTIONS: tuple[tuple[str, str], ...] = (
    (OWN, ""),
    (
        "object storage",
        r"(object_)?storage(_(?!security).*)?|memory_limit_bytes|disk_limit_bytes|object_size_limit_bytes",
    ),
    ("starting and stopping workers on demand", r"scaling_.*|adapter_(?!web_).*|no_worker_timeout_seconds"),
    ("timeouts", r".*_timeout_seconds|object_retention_seconds|heartbeat_interval_seconds"),
    ("limits of the processes that run tasks", r"user|processor_.*|umask|private_temporary_folder|environment_.*"),
    ("access over HTTP", r"token|token_file|allowed_hosts|tls_.*|max_connections.*|request_header_.*"),
    ("keys and audit", r"security_dir|object_storage_security_dir|insecure|audit_log"),
    ("logging", r"logging_.*"),
    (GENERAL, r"help|version|config|event_loop"),
    (WITHOUT_EFFECT, ""),
)
"""Titles in the order of the page, each with a pattern for the names of its settings. The first that matches a name decides,
`timeouts` and `object storage` after the others."""

_DECIDE_LAST = ("object storage", "timeouts")
_INDENT = "  "


def section_of(name: str, description: str) -> str:
    """Return the title of the section for a setting of this name."""
    if "without effect" in description:
        return WITHOUT_EFFECT
    for title, pattern in sorted(SECTIONS, key=lambda section: section[0] in _DECIDE_LAST):
        if pattern and re.fullmatch(pattern, name):
            return title
    return OWN


def examples_text(examples: Sequence[tuple[str, str]]) -> str:
    """Return the last lines of the page: for each example what it does, then the command line."""
    if not examples:
        return ""
    lines = [f"{_INDENT}{meaning}:\n{_INDENT * 2}{command}" for command, meaning in examples]
    return f"\n\n{EXAMPLES}\n" + "\n".join(lines)


class HelpPageParser(argparse.ArgumentParser):
    """A parser whose help has these sections."""

    name_of: Callable[[str], str] = staticmethod(lambda dest: dest)
    """From the destination of an action to the name of its setting."""
    rank_of: Callable[[str], int] = staticmethod(lambda _name: 0)
    """For the command's own options: those with a lower rank come first."""

    def sections(self) -> list[tuple[str, list[argparse.Action]]]:
        """Return the titles of the page in their order, each with its arguments or flags; without empty ones."""
        sections: dict[str, list[argparse.Action]] = {title: [] for title in (POSITIONAL, *dict(SECTIONS))}
        for action in self._actions:
            if action.option_strings:
                name = self.name_of(action.dest if action.dest != argparse.SUPPRESS else action.option_strings[-1][2:])
                sections[section_of(name, action.help or "")].append(action)
            else:
                sections[POSITIONAL].append(action)
        sections[OWN].sort(key=lambda action: self.rank_of(self.name_of(action.dest)))
        return [(title, actions) for title, actions in sections.items() if actions]

    def format_help(self) -> str:
        """Return the page."""
        formatter = self._get_formatter()
        formatter.add_usage(self.usage, self._actions, self._mutually_exclusive_groups)
        formatter.add_text(self.description)
        for title, actions in self.sections():
            formatter.start_section(title)
            formatter.add_arguments(actions)
            formatter.end_section()
        formatter.add_text(self.epilog)
        return formatter.format_help()
