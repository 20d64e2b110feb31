"""Jobs as a client sees them, before the scheduler is asked."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from scaler import errors
from scaler.client.jobs import Jobs


@pytest.mark.parametrize("name", [3, None, "", "\ud800", "two\nlines", b"job", "x" * 10_000])
def test_what_is_no_name_names_no_job(name: Any) -> None:
    # The scheduler is not asked: there is none.
    operations = SimpleNamespace(client_jobs=SimpleNamespace)
    jobs = Jobs(cast("Any", SimpleNamespace(operations=operations)))
    assert name not in jobs
    with pytest.raises(errors.JobNotFoundError, match="there is no job"):
        jobs[name]
