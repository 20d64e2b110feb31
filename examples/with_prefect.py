"""A Prefect flow whose tasks compute on a cluster. Needs prefect. `python examples/with_prefect.py`.

Prefect orders the tasks, keeps their states and tries them again; its threads wait for the cluster. The workers do not need
Prefect, as only the function below the decorator travels.
"""

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from prefect import flow, task
from prefect.task_runners import ThreadPoolTaskRunner

from scaler import ScalerExecutor

P = ParamSpec("P")
R = TypeVar("R")
executor: ScalerExecutor


def on_cluster(function: Callable[P, R]) -> Callable[P, R]:
    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        return executor.submit(function, *args, **kwargs).result()

    return call


@task(retries=1)
@on_cluster
def square(value: int) -> int:
    return value * value


@task
@on_cluster
def total(values: list[int]) -> int:
    return sum(values)


# As many threads as tasks should be on the cluster at once.
@flow(task_runner=ThreadPoolTaskRunner(max_workers=8))
def sum_of_squares(count: int) -> Any:
    return total(square.map(range(count)).result())


if __name__ == "__main__":
    with ScalerExecutor(n_workers=2) as executor:
        print("sum of squares:", sum_of_squares(10))
