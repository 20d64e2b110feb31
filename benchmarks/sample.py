"""One sample: one workload with one system, in a fresh process of that system's environment. Started by the runner.

    python -m benchmarks.sample --system NAME --workload NAME --output FILE

The output is a JSON object with `status` (ok, unsupported, wrong, failed) and `metrics` or `message`.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import os
import signal
import traceback
from pathlib import Path
from typing import Any

from benchmarks.registry import find_system, find_workload
from benchmarks.system import NotSupported
from benchmarks.workload import Run, WrongResult


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sample", description=__doc__.splitlines()[0])
    parser.add_argument("--system", required=True)
    parser.add_argument("--workload", required=True)
    parser.add_argument("--output", required=True, type=Path)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    # A sample that is stuck is sent this signal before it is killed: its log then says where.
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    outcome = _outcome(arguments)
    # Written whole or not at all: the runner takes a missing file for a sample that died.
    arguments.output.with_suffix(".tmp").write_text(json.dumps(outcome), encoding="utf-8")
    os.replace(arguments.output.with_suffix(".tmp"), arguments.output)


def _outcome(arguments: argparse.Namespace) -> dict[str, Any]:
    system, workload = find_system(arguments.system), find_workload(arguments.workload)
    run = Run(system, workers=arguments.workers, seconds=arguments.seconds, quick=arguments.quick)
    try:
        return {"status": "ok", "metrics": workload.run(run)}
    except NotSupported as reason:
        return {"status": "unsupported", "message": str(reason)}
    except WrongResult as error:
        return {"status": "wrong", "message": str(error)}
    except Exception as error:
        traceback.print_exc()
        return {"status": "failed", "message": f"{type(error).__name__}: {error}"}


if __name__ == "__main__":
    main()
