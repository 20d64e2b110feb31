"""What joblib's callback has raised, on a thread that the program does not see: the call of `Parallel` raises it."""

from __future__ import annotations

from typing import Any

from joblib.parallel import TASK_ERROR, BatchCompletionCallBack


def raise_in_call(callback: Any, error: BaseException) -> bool:
    """Have the call of `Parallel` that `callback` belongs to raise `error`. Returns False where it does not wait for anything.

    As joblib does when the iterator it takes calls from raises: with one more job, whose outcome the error is. The batch itself
    has an outcome, as a rule.
    """
    if not isinstance(callback, BatchCompletionCallBack):
        return False
    parallel = callback.parallel
    with parallel._lock:
        if not parallel._running or parallel._call_id != callback.parallel_call_id:
            return False
        if parallel._original_iterator is None and not parallel._wait_retrieval():
            # All results are there, and may be under way to the program.
            return False
        job = BatchCompletionCallBack(0, 0, parallel)
        if hasattr(parallel, "_register_new_job"):
            parallel._register_new_job(job)
        else:
            # joblib 1.4.
            parallel._jobs.append(job)
        job._register_outcome({"status": TASK_ERROR, "result": error})
    return True
