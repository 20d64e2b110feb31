"""The roads of the table: every way in which a call reaches a worker, and its value or exception comes back."""

from __future__ import annotations

import contextlib
import functools
import pickle
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, NamedTuple

from scaler import Client, Serializer
from scaler_protocol.payloads.by_value import dumps
from tests.conformance.describing import Description, renumbered
from tests.conformance.outcomes import error_outcome, outcome_of, settled, value_outcome


class Call(NamedTuple):
    """One cell's call on one road."""

    function: Any
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = {}


@dataclass(frozen=True)
class Clients:
    """One client of each kind, all connected."""

    address: str
    in_process_address: str
    plain: Client
    serializing: Client
    streaming: Client
    profiling: Client
    in_process: Client

    def fresh(self) -> dict[str, Callable[[], Client]]:
        """Return what makes a client of its own for one story, by road."""
        return {
            "submit": lambda: Client(self.address),
            "stream_output and profiling": lambda: Client(self.address, stream_output=True, profiling=True),
            "in process": lambda: Client(self.in_process_address),
        }


Road = Callable[[Clients, list[Call]], list[Description]]
"""Makes all calls, as many at once as it can, and describes what each came to."""


class PickleSerializer(Serializer):
    """A serializer of the user's."""

    @staticmethod
    def serialize(obj: Any) -> bytes:
        return b"own" + dumps(obj)

    @staticmethod
    def deserialize(payload: bytes) -> Any:
        assert payload[:3] == b"own"
        return pickle.loads(payload[3:])


# --- what runs on workers


def identity(value: Any) -> Any:
    return value


def call_with_padding(function: Any, padded: tuple[tuple[Any, ...], dict[str, Any], bytes]) -> tuple[Any, bytes]:
    args, kwargs, padding = padded
    return function(*args, **kwargs), padding


def call_nested(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Make the call in a task of this task."""
    return Client().submit(function, *args, **kwargs).result()


def map_nested(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return Client().starmap(functools.partial(function, **kwargs) if kwargs else function, [args])[0]


# --- roads


def submitted(calls: list[Call], submit: Callable[[Call], Future[Any]]) -> list[Description]:
    """Submit all, then wait for each."""
    futures: list[Future[Any] | Description] = []
    for call in calls:
        try:
            futures.append(submit(call))
        except Exception as error:
            futures.append(error_outcome(error))
    outcomes = iter(settled([future for future in futures if isinstance(future, Future)]))
    return [next(outcomes) if isinstance(future, Future) else future for future in futures]


def first_of(outcome: Description) -> Description:
    """Return the outcome of the first item, where the value is a list or tuple."""
    if outcome[0] != "value":
        return outcome
    return "value", renumbered(outcome[1][1], 1)


def _submit_with(client: Client) -> Callable[[Call], Future[Any]]:
    return lambda call: client.submit(call.function, *call.args, **call.kwargs)


def by_submit(clients: Clients, calls: list[Call]) -> list[Description]:
    return submitted(calls, _submit_with(clients.plain))


def by_submit_verbose(clients: Clients, calls: list[Call]) -> list[Description]:
    return submitted(calls, lambda call: clients.plain.submit_verbose(call.function, call.args, call.kwargs))


def by_keyword(clients: Clients, calls: list[Call]) -> list[Description]:
    return submitted(calls, lambda call: clients.plain.submit(call.function, value=call.args[0]))


def by_serializer(clients: Clients, calls: list[Call]) -> list[Description]:
    return submitted(calls, _submit_with(clients.serializing))


def by_streaming(clients: Clients, calls: list[Call]) -> list[Description]:
    return submitted(calls, _submit_with(clients.streaming))


def by_profiling(clients: Clients, calls: list[Call]) -> list[Description]:
    return submitted(calls, _submit_with(clients.profiling))


def by_in_process(clients: Clients, calls: list[Call]) -> list[Description]:
    return submitted(calls, _submit_with(clients.in_process))


def by_nested(clients: Clients, calls: list[Call]) -> list[Description]:
    return submitted(calls, lambda call: clients.plain.submit(call_nested, *call))


def by_nested_map(clients: Clients, calls: list[Call]) -> list[Description]:
    return submitted(calls, lambda call: clients.plain.submit(map_nested, *call))


def by_reference(clients: Clients, calls: list[Call]) -> list[Description]:
    def submit(call: Call) -> Future[Any]:
        references = [clients.plain.send_object(value) for value in call.args]
        return clients.plain.submit(call.function, *references, **call.kwargs)

    return submitted(calls, submit)


def _padded(clients: Clients, calls: list[Call], size: int) -> list[Description]:
    padding = bytes(size)
    return [
        first_of(outcome)
        for outcome in submitted(
            calls,
            lambda call: clients.plain.submit(call_with_padding, call.function, (call.args, call.kwargs, padding)),
        )
    ]


def by_object(clients: Clients, calls: list[Call]) -> list[Description]:
    """Arguments and result are over what travels inline."""
    return _padded(clients, calls, 64 * 1024)


def by_segment(clients: Clients, calls: list[Call]) -> list[Description]:
    """Arguments and result lie in segments of shared memory."""
    return _padded(clients, calls, 300 * 1024)


# --- maps


def _map_together(calls: list[Call], run: Callable[[list[Call]], list[Any]]) -> list[Description]:
    """Make one map of all calls; where that fails, one of each."""
    with contextlib.suppress(BaseException):
        return [value_outcome(value) for value in run(calls)]
    # Not while the failure is handled: it would become the context of what is raised now.
    return [first_of(outcome_of(functools.partial(run, [call]))) for call in calls]


def by_map(clients: Clients, calls: list[Call]) -> list[Description]:
    return _map_together(calls, lambda some: clients.plain.map(some[0].function, [call.args[0] for call in some]))


def by_starmap(clients: Clients, calls: list[Call]) -> list[Description]:
    return _map_together(calls, lambda some: clients.plain.starmap(some[0].function, [call.args for call in some]))


def by_in_process_map(clients: Clients, calls: list[Call]) -> list[Description]:
    return _map_together(calls, lambda some: clients.in_process.map(some[0].function, [call.args[0] for call in some]))


# --- graphs


def _key(number: int) -> tuple[str, int]:
    return "conformance", number


def _row(call: Call) -> tuple[Any, ...]:
    function = functools.partial(call.function, **call.kwargs) if call.kwargs else call.function
    return (function, *call.args)


def by_row(clients: Clients, calls: list[Call]) -> list[Description]:
    """A row of a graph, waited for by `get`."""
    key = _key(0)

    def get(call: Call) -> Any:
        return clients.plain.get({key: _row(call)}, [key])[key]

    return [outcome_of(functools.partial(get, call)) for call in calls]


def _rows(client: Client, calls: list[Call], nodes: Callable[[Call, int], dict[Any, Any]]) -> list[Description]:
    """Get one graph for all calls, without blocking; where that is refused, one for each."""
    graph: dict[Any, Any] = {}
    for number, call in enumerate(calls):
        graph |= nodes(call, number)
    keys = [_key(number) for number in range(len(calls))]
    try:
        futures = client.get(graph, keys, block=False)
    except Exception as error:
        refused = error_outcome(error)
    else:
        return settled([futures[key] for key in keys])
    # Not while the refusal is handled: it would become the context of what is raised now.
    return [refused] if len(calls) == 1 else [outcome for call in calls for outcome in _rows(client, [call], nodes)]


def by_rows(clients: Clients, calls: list[Call]) -> list[Description]:
    return _rows(clients.plain, calls, lambda call, number: {_key(number): _row(call)})


def by_expression(clients: Clients, calls: list[Call]) -> list[Description]:
    """A task inside a list inside a task."""
    return [
        first_of(outcome)
        for outcome in _rows(clients.plain, calls, lambda call, number: {_key(number): (identity, [_row(call)])})
    ]


def by_following_row(clients: Clients, calls: list[Call]) -> list[Description]:
    """What a row returns goes through another row."""
    return _rows(
        clients.plain,
        calls,
        lambda call, number: {("before", number): _row(call), _key(number): (identity, ("before", number))},
    )


def by_data_node(clients: Clients, calls: list[Call]) -> list[Description]:
    """The argument is a node of its own."""
    return _rows(
        clients.plain,
        calls,
        lambda call, number: {("data", number): call.args[0], _key(number): (call.function, ("data", number))},
    )


def by_in_process_rows(clients: Clients, calls: list[Call]) -> list[Description]:
    return _rows(clients.in_process, calls, lambda call, number: {_key(number): _row(call)})


EVERY_CALL: dict[str, Road] = {
    "submit": by_submit,
    "submit_verbose": by_submit_verbose,
    "serializer": by_serializer,
    "stream_output": by_streaming,
    "profiling": by_profiling,
    "nested": by_nested,
    "nested starmap": by_nested_map,
    "object": by_object,
    "segment": by_segment,
    "get": by_row,
    "get block=False": by_rows,
    "get expression": by_expression,
    "get following row": by_following_row,
    "in process": by_in_process,
    "in process get": by_in_process_rows,
}
"""Roads that take any call."""

ONE_ARGUMENT: dict[str, Road] = {
    "keyword": by_keyword,
    "send_object": by_reference,
    "map": by_map,
    "starmap": by_starmap,
    "in process map": by_in_process_map,
    "get data node": by_data_node,
}
"""Roads of values alone: one function of one argument, which is called `value`."""
