"""What monitors are told of jobs."""

from __future__ import annotations

from collections.abc import Iterable
from heapq import nlargest

from scaler_protocol.wire import messages as m
from scaler_scheduler.core.jobs.job import Job, RowState

JOBS_MAX = 1_000
"""Jobs that are told: those that changed last."""


def statuses(jobs: Iterable[Job]) -> tuple[m.JobStatus, ...]:
    """Return what is known of each job, those first that changed last."""
    return tuple(_status(job) for job in nlargest(JOBS_MAX, jobs, key=lambda job: job.changed_at))


def _status(job: Job) -> m.JobStatus:
    counts, running, expires_at = job.counts, job.client.assigned_count, job.expires_at()
    return m.JobStatus(
        name=job.name,
        owner=job.owner_name,
        client=job.id,
        waiting=max(0, counts[RowState.OPEN] - running),
        running=running,
        done=counts[RowState.DONE],
        failed=counts[RowState.FAILED],
        canceled=counts[RowState.CANCELED],
        lost=counts[RowState.LOST],
        size_bytes=job.size_bytes,
        closed=job.is_closed,
        started_seconds=job.started_at,
        expires_seconds=-1.0 if expires_at is None else expires_at,
        notice=job.notice_now(),
    )
