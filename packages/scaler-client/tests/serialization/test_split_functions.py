"""Functions made anew are sent once with what they have in common, and nobody can tell.

The oracle is one cloudpickle of function and arguments together, as pools of processes send them.
"""

from __future__ import annotations

import asyncio
import functools
import pickle
from collections.abc import Callable, Sequence
from typing import Any

import cloudpickle
import pytest

from scaler.errors import SerializationError
from scaler.serialization.arguments import Packer
from scaler.serialization.pickled import Pickled
from scaler.serialization.results import load_failure, load_value
from scaler_protocol.payloads.execution import Execution, TaskPayloads
from scaler_protocol.wire.messages import Status


class NoObjects:
    """Everything here is small."""

    def store(self, buffers: Sequence[Any]) -> bytes:
        raise AssertionError("nothing here is large")

    def resolve(self, reference: Any) -> bytes:
        raise AssertionError("nothing here is a reference")

    def hold(self, object_id: bytes) -> bytes:
        raise AssertionError("nothing here is large")

    def hold_inner(self, references: Sequence[Any]) -> tuple[bytes, ...]:
        raise AssertionError("nothing here is a reference")

    def release(self, object_ids: Sequence[bytes]) -> None:
        assert not object_ids


class Worker:
    """Submits calls and runs them as a worker does, which keeps what it restored."""

    def __init__(self) -> None:
        self.packer = Packer(NoObjects())
        self.sent: list[Pickled] = []
        self._execution = Execution(lambda _: [])

    def submit(self, function: Any, *args: Any, **kwargs: Any) -> TaskPayloads:
        pickled = self.packer.called_function(function)
        if pickled.check is not None:
            pickled.check(*args, **kwargs)
        self.sent.append(pickled)
        return TaskPayloads(pickled.body, bytes(pickled.pack(function, args, kwargs).payload))

    def run(self, function: Any, *args: Any, **kwargs: Any) -> Any:
        status, outcome = self._execution.run(self.submit(function, *args, **kwargs))
        if status is not Status.SUCCESS:
            raise load_failure(outcome.payload, 1)
        return load_value(outcome.payload)

    def bodies(self) -> int:
        return len({pickled.function_id for pickled in self.sent})


@pytest.fixture
def worker() -> Worker:
    return Worker()


def expected(function: Any, *args: Any, **kwargs: Any) -> Any:
    copied, args, kwargs = pickle.loads(cloudpickle.dumps((function, args, kwargs)))
    value = copied(*args, **kwargs)
    return asyncio.run(value) if asyncio.iscoroutine(value) else value


def closure(number: Any) -> Callable[..., Any]:
    return lambda value: (value, number)


def loop_default(number: Any) -> Callable[..., Any]:
    return lambda value, number=number: (value, number)


def annotated(number: int) -> Callable[..., Any]:
    def named(value: int, /, *more: int, key: int, **rest: int) -> tuple[Any, ...]:
        """Has all kinds of parameters."""
        return value, more, key, rest, number

    return lambda value: named(value, 1, key=2, other=3)


def flat(number: int) -> Callable[..., Any]:
    def with_all(value: int, /, *more: int, key: int, **rest: int) -> tuple[Any, ...]:
        return value, more, key, rest, number

    return with_all


def coroutine(number: int) -> Callable[..., Any]:
    async def wait(value: int) -> int:
        await asyncio.sleep(0)
        return value + number

    return wait


def appending(kept: Any) -> Callable[..., Any]:
    def append(value: int) -> list[int]:
        kept.append(value)
        return list(kept)

    return append


def counting(number: int) -> Callable[..., Any]:
    def count(step: int) -> int:
        nonlocal number
        number += step
        return number

    return count


def recursive(number: int) -> Callable[..., Any]:
    def down(value: int) -> int:
        return number if value == 0 else down(value - 1)

    return down


def calling(number: int) -> Callable[..., Any]:
    inner = closure(number)
    return lambda value: inner(value)


def decorated(number: int) -> Callable[..., Any]:
    @functools.wraps(closure)
    def wrapper(value: int) -> tuple[int, int, str]:
        return value, number, wrapper.__name__

    return wrapper


def keyword_default(number: int) -> Callable[..., Any]:
    return lambda value, *, number=number: (value, number)


def nested_code(number: int) -> Callable[..., Any]:
    return lambda value: [(item, number) for item in range(value)]


def add(left: Any, right: Any, **more: Any) -> Any:
    return left, right, more


untyped: Any = add

ALIKE: list[Callable[[Any], Callable[..., Any]]] = [
    closure,
    loop_default,
    nested_code,
    coroutine,
    lambda number: functools.partial(add, number),
    lambda number: functools.partial(add, right=number, other=number),
    lambda number: functools.partial(functools.partial(add, number), other=3, right=2),
    lambda number: functools.partial(divmod, number + 100),
    lambda number: functools.partial(complex, real=number),
]


@pytest.mark.parametrize("make", ALIKE)
def test_what_they_have_in_common_is_sent_once(worker: Worker, make: Callable[[int], Callable[..., Any]]) -> None:
    for number in range(20):
        arguments = {"imag": 3} if make is ALIKE[-1] else {}
        positional = () if arguments or make is ALIKE[6] else (2,)
        assert worker.run(make(number), *positional, **arguments) == expected(make(number), *positional, **arguments)
    # The first one of its code may be the only one, and is sent as it is.
    assert worker.bodies() <= 2


def test_all_kinds_of_parameters(worker: Worker) -> None:
    for number in range(4):
        assert worker.run(flat(number), 1, 2, key=3, captured=4) == (1, (2,), 3, {"captured": 4}, number)
        assert worker.run(annotated(number), 1) == (1, (1,), 2, {"other": 3}, number)


@pytest.mark.parametrize("make", [appending, counting, recursive, calling, decorated, keyword_default, annotated])
def test_the_answers_are_those_of_a_copy(worker: Worker, make: Callable[[Any], Callable[..., Any]]) -> None:
    given = [[1], [2], [1], [3]] if make is appending else [1, 2, 1, 3]
    for number in given:
        function = make(number)
        for _ in range(3):
            assert worker.run(function, 2) == expected(function, 2)


def test_what_a_cell_holds_may_change(worker: Worker) -> None:
    held: list[int] = []
    function = closure(held)
    for number in range(5):
        held.append(number)
        assert worker.run(function, 1) == (1, list(range(number + 1)))
        assert worker.run(closure(held), 1) == (1, list(range(number + 1)))


def test_a_task_is_what_it_was_when_it_was_submitted(worker: Worker) -> None:
    held = [1]
    functions = [closure(held), closure(held), functools.partial(add, held)]
    tasks = [worker.submit(function, 2) for function in functions]
    held.append(2)
    values = [load_value(Execution(lambda _: []).run(task)[1].payload) for task in tasks]
    assert values == [(2, [1]), (2, [1]), ([1], 2, {})]


def test_a_changed_global_shows(worker: Worker) -> None:
    namespace: dict[str, Any] = {"__name__": "__main__", "factor": 2}
    exec("def make(n):\n return lambda x: x * factor + n", namespace)
    for factor in (2, 2, 3, 3, 3, 2):
        namespace["factor"] = factor
        for number in range(3):
            assert worker.run(namespace["make"](number), 5) == 5 * factor + number


def test_a_global_that_can_change_inside_is_sent_each_time(worker: Worker) -> None:
    namespace: dict[str, Any] = {"__name__": "__main__", "seen": []}
    exec("def make(n):\n return lambda x: seen + [x, n]", namespace)
    for number in range(5):
        namespace["seen"].append(number)
        assert worker.run(namespace["make"](number), 7) == [*range(number + 1), 7, number]


def test_functions_of_one_code_and_other_globals(worker: Worker) -> None:
    source = compile("def make(n):\n return lambda x: (x, n, name)", "<text>", "exec")
    namespaces: list[dict[str, Any]] = [{"__name__": "__main__", "name": name} for name in "abc"]
    makers = []
    for namespace in namespaces:
        exec(source, namespace)
        makers.append(namespace["make"])
    for number in range(4):
        for make, name in zip(makers, "abc", strict=True):
            assert worker.run(make(number), 1) == (1, number, name)


def test_changed_defaults_attributes_and_parameters(worker: Worker) -> None:
    def make(number: int) -> Any:
        def work(value: Any, more: Any = number, /) -> Any:
            return value, more

        return work

    for number in range(3):
        assert worker.run(make(number), 1) == (1, number)
    other = make(9)
    other.__defaults__ = (1, 2)
    assert worker.run(other) == (1, 2)
    none = make(9)
    none.__defaults__ = None
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        worker.run(none, 1)
    with_attribute = make(9)
    with_attribute.kept = [1]
    assert worker.run(with_attribute, 1) == (1, 9)


def test_large_values_are_sent_with_the_function(worker: Worker) -> None:
    text = "x" * 5_000
    for _ in range(3):
        for function in (closure(text), functools.partial(add, text)):
            task = worker.submit(function, 1)
            assert len(task.arguments) < 100
            assert worker.run(function, 1) == expected(function, 1)


def test_arguments_that_do_not_fit_are_refused_at_once(worker: Worker) -> None:
    for number in range(3):
        for function in (closure(number), loop_default(number), functools.partial(untyped, 1, 2, 3)):
            with pytest.raises(TypeError, match="positional argument"):
                worker.submit(function, 1, 2, 3)


def test_errors_count_the_arguments_of_the_call(worker: Worker) -> None:
    bad = (item for item in [1])
    for number in range(3):
        for function in (closure(number), functools.partial(add, number)):
            with pytest.raises(SerializationError, match="argument 1 of "):
                worker.submit(function, bad)


def test_tracebacks_begin_with_the_users_own_line(worker: Worker) -> None:
    def make(number: int) -> Callable[..., Any]:
        def divide(value: int) -> float:
            return value / number

        return divide

    for _ in range(3):
        with pytest.raises(ZeroDivisionError) as caught:
            worker.run(make(0), 1)
        frames = caught.value.__traceback__
        names = []
        while frames is not None:
            names.append(frames.tb_frame.f_code.co_name)
            frames = frames.tb_next
        assert names[-1] == "divide"
        assert "__call__" not in names


def test_names_for_people_are_those_of_the_functions(worker: Worker) -> None:
    for number in range(3):
        worker.submit(closure(number), 1)
        assert worker.sent[-1].name.endswith("closure.<locals>.<lambda>")


def test_a_module_pickled_by_value_is_not_taken_apart(worker: Worker) -> None:
    import tests_module_by_value as module  # type: ignore[import-not-found]

    cloudpickle.register_pickle_by_value(module)
    try:
        for number in range(3):
            assert worker.run(functools.partial(module.work, number), 1) == (number, 1, 1)
            assert worker.run(module.make(number), 1) == (number, 1, 1)
    finally:
        cloudpickle.unregister_pickle_by_value(module)


@pytest.fixture(autouse=True)
def module_by_value(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    source = "K = 1\ndef work(n, x):\n    return n, x, K\ndef make(n):\n    return lambda x: (n, x, K)\n"
    (tmp_path / "tests_module_by_value.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
