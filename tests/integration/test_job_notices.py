"""Tasks of jobs that no host can run: whoever looks at the job is told."""

from __future__ import annotations

import subprocess
import sys

from tests.integration.deployment import Deployment, wait_for


def test_a_job_says_why_its_tasks_wait(deployment: Deployment) -> None:
    scheduler = deployment.scheduler()
    deployment.workers(scheduler, count=1)
    client = deployment.client(scheduler)
    with client.job("stuck") as job:
        client.submit_verbose(abs, (-1,), capabilities={"gpu": 1})
        client.submit(abs, -2)
    wait_for("the notice", lambda: "{gpu}" in job.status().notice)
    arguments = [sys.executable, "-m", "scaler.jobs", "list", scheduler.address]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=50, check=True)
    assert "stuck: tasks wait for workers with the capabilities {gpu}" in done.stdout
    job.cancel()
    assert job.status().notice == ""
