"""Checks that the seven packages carry one version and require each other in exactly that version.

They are released together and tested together; a mix of versions is not something anybody has run.
Prints one line per deviation and exits with status 1 if there is one.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent

_REQUIREMENT = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)(\[[^]]*\])?\s*(?P<pin>[^;]*)")


def load_projects(packages: Path) -> dict[str, dict[str, Any]]:
    """The `[project]` tables of all packages, by the name of their folder."""
    return {
        path.parent.name: tomllib.loads(path.read_text(encoding="utf-8"))["project"]
        for path in sorted(packages.glob("*/pyproject.toml"))
    }


def find_deviations(projects: dict[str, dict[str, Any]]) -> Iterator[str]:
    """One sentence for each name, version or pin that is not in step with the others."""
    versions = {project["version"] for project in projects.values()}
    if len(versions) > 1:
        listed = ", ".join(f"{name} {project['version']}" for name, project in projects.items())
        yield f"versions differ: {listed}"
    for folder, project in projects.items():
        if project["name"] != folder:
            yield f"packages/{folder}: the project is called {project['name']}"
        for requirement in _requirements(project):
            match = _REQUIREMENT.match(requirement)
            if match and match["name"] in projects and match["pin"].strip() != f"=={project['version']}":
                yield f"packages/{folder}: {requirement!r} does not pin =={project['version']}"


def _requirements(project: dict[str, Any]) -> Iterator[str]:
    yield from project.get("dependencies", ())
    for extra in project.get("optional-dependencies", {}).values():
        yield from extra


def main() -> int:
    """Prints the deviations of this repository; returns the exit status."""
    projects = load_projects(ROOT / "packages")
    deviations = list(find_deviations(projects))
    for deviation in deviations:
        print(deviation, file=sys.stderr)
    if not deviations:
        print(f"{len(projects)} packages, one version: {next(iter(projects.values()))['version']}")
    return 1 if deviations else 0


if __name__ == "__main__":
    sys.exit(main())
