"""The scheduler's jobs as data for JSON and pages."""

from __future__ import annotations

from typing import Any

from scaler_protocol.wire.messages import JobStatus
from scaler_ui.model.cluster import ClusterModel, readable_name

STATES = ("waiting", "running", "done", "failed", "canceled", "lost")
"""What becomes of the tasks of a job, by the names of the fields."""


def jobs(model: ClusterModel) -> list[dict[str, Any]]:
    """Return the jobs that changed last, with times as Unix times."""
    return [_job(model, job) for job in (model.snapshot.jobs if model.snapshot is not None else ())]


def _job(model: ClusterModel, job: JobStatus) -> dict[str, Any]:
    progress = model.client_progress.of(job.client)
    seconds = progress.seconds_left if job.waiting + job.running else 0.0
    return {
        "name": job.name,
        "owner": readable_name(job.owner),
        "client": job.client.hex(),
        "tasks": task_count(job),
        **{state: getattr(job, state) for state in STATES},
        "per_second": round(progress.per_second, 3),
        "seconds_left": None if seconds is None else round(seconds, 1),
        "size_bytes": job.size_bytes,
        "closed": job.closed,
        "started_at": job.started_seconds,
        "expires_at": None if job.expires_seconds < 0 else job.expires_seconds,
        "notice": job.notice,
    }


def task_count(job: JobStatus) -> int:
    """Return how many tasks a job has."""
    return sum(int(getattr(job, state)) for state in STATES)
