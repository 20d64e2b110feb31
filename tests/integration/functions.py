"""Functions that the tests' tasks run."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

from scaler import Client


def square(value: int) -> int:
    return value * value


def add(left: int, right: int) -> int:
    return left + right


def keyword_only(*, value: int = 0, **others: int) -> tuple[int, dict[str, int]]:
    return value, others


def fail(text: str) -> None:
    raise ValueError(text)


def sleep_and_return(seconds: float, value: Any = None) -> Any:
    time.sleep(seconds)  # sleeps: the task takes so long
    return value


def process_id(_: Any = None) -> int:
    return os.getpid()


def parent_process_id(_: Any = None) -> int:
    return os.getppid()


def exit_hard(status: int) -> None:
    os._exit(status)


def kill_self(_: Any = None) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def pass_on_after_death(value: Any, path: str) -> Any:
    """Return `value`, but end the process the first time."""
    if not Path(path).exists():
        Path(path).touch()
        os._exit(9)
    return value


def come_back_after_death(value: bytes) -> bytes:
    """As `pass_on_after_death`, where the value begins with the path, and a zero byte behind it."""
    result: bytes = pass_on_after_death(value, os.fsdecode(value[: value.index(0)]))
    return result


def wait_for_file(value: Any, path: str) -> Any:
    """Return `value` once the file exists."""
    while not Path(path).exists():
        time.sleep(0.01)  # sleeps: a task that polls for a file
    return value


def mark_and_sleep(path: str, seconds: float, value: object = "slept") -> object:
    """Leave a line that says which process runs this, sleep, then return `value`."""
    with Path(path).open("a") as file:
        file.write(f"{os.getpid()}\n")
    time.sleep(seconds)  # sleeps: the task takes so long
    return value


def mark_and_wait(path: str, until: str) -> int:
    """Leave a line, then wait until another file exists."""
    with Path(path).open("a") as file:
        file.write(f"{os.getpid()}\n")
    while not Path(until).exists():
        time.sleep(0.01)  # sleeps: a task that polls for a file
    return os.getpid()


def die_once(path: str) -> str:
    """Kill the process at the first attempt; the second one finds the mark."""
    mark = Path(path)
    if not mark.exists():
        mark.write_text("died")
        os.kill(os.getpid(), signal.SIGKILL)
    return "second attempt"


def fibonacci(client: Client, n: int) -> int:
    if n == 0:
        return 0
    if n == 1:
        return 1
    a = client.submit(fibonacci, client, n - 1)
    b = client.submit(fibonacci, client, n - 2)
    return int(a.result()) + int(b.result())


def parent_of_two(client: Client, value: int) -> int:
    children = [client.submit(square, value), client.submit(square, value + 1)]
    return sum(child.result() for child in children)


def use_client_without_address(value: int) -> int:
    with Client() as client:
        return int(client.submit(square, value).result())


def note_nested_error(path: str) -> None:
    """Wait for a task of its own that runs for long, and write down what became of it."""
    with Client() as client:
        future = client.submit(mark_and_sleep, f"{path}.runs", 60)
        try:
            future.result()
        except Exception as error:
            Path(f"{path}.part").write_text(f"{type(error).__name__}: {error}", encoding="utf-8")
            Path(f"{path}.part").rename(path)


def sum_in_a_child(size: int) -> float:
    """A client inside the task stores a large value and has a task use it."""
    with Client() as client:
        return float(client.submit(sum_of, random_array(1, size)).result())


def echo(value: Any) -> Any:
    return value


def add_one_in_place(array: Any) -> Any:
    array += 1
    return array


def is_writable(array: Any) -> bool:
    return bool(array.flags.writeable)


def sum_of(array: Any) -> float:
    return float(array.sum())


def add_in_place(array: Any, value: float) -> float:
    """Write to every element of an argument; return the sum."""
    array += value
    return float(array.sum())


def random_array(seed: int, size: int) -> Any:
    import numpy as np

    return np.random.default_rng(seed).random(size)


def describe_memory(array: Any) -> dict[str, Any]:
    """Say whose the memory of an array is, and how much of it was copied for this process, after all of it was read."""
    import numpy as np

    owner = array
    while isinstance(owner, np.ndarray | memoryview):
        owner = owner.base if isinstance(owner, np.ndarray) else owner.obj
    total = float(array.sum())
    address = array.__array_interface__["data"][0]
    copied = 0
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        first = line.split()[0]
        if "-" in first and not first.endswith(":"):
            start, end = (int(word, 16) for word in first.split("-"))
            inside = start <= address < end
        elif inside and first == "Anonymous:":
            copied = int(line.split()[1]) * 1024
    return {"owner": type(owner).__name__, "writeable": array.flags.writeable, "copied_bytes": copied, "sum": total}
