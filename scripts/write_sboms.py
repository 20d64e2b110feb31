"""Write a CycloneDX list of components for each wheel in dist: `python scripts/write_sboms.py`. `nox -s build` does.

Each wheel is installed alone into an environment of its own, and what pip chose for it is listed with versions and licences.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

DIST = Path(__file__).resolve().parents[1] / "dist"


def main() -> int:
    """Returns the exit status: 1 if a list does not name its own distribution."""
    for wheel in sorted(DIST.glob("*.whl")):
        name, version, *_ = wheel.name.split("-")
        target = DIST / f"{name}-{version}.cdx.json"
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run([sys.executable, "-m", "venv", folder], check=True)
            python = str(Path(folder) / "bin" / "python")
            install = [python, "-m", "pip", "install", "--quiet", "--find-links", str(DIST), f"{name}=={version}"]
            subprocess.run(install, check=True)
            subprocess.run([python, "-m", "pip", "uninstall", "--quiet", "--yes", "setuptools", "pip"], check=True)
            subprocess.run(
                [
                    sys.executable,
                    "-m",
                    "cyclonedx_py",
                    "environment",
                    "--output-reproducible",
                    "-o",
                    str(target),
                    python,
                ],
                check=True,
            )
        document = json.loads(target.read_text(encoding="utf-8"))
        found = sorted(component["name"] for component in document["components"])
        if document["bomFormat"] != "CycloneDX" or name.replace("_", "-") not in found:
            print(f"{target.name} does not name {name}", file=sys.stderr)
            return 1
        print(f"{target.name}: {len(found)} components: {', '.join(found)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
