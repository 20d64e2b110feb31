"""Runs the table in this process and writes one record for each cell.

python -m tests.conformance.program --output records.json          # classes in a module
python tests/conformance/user_code.py --output records.json        # the same classes in __main__
… --items 'frozen*' --roads submit,map                             # a part, for people: differences are printed
"""

from __future__ import annotations

import argparse
import faulthandler
import fnmatch
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from scaler import Client, SchedulerClusterCombo
from scaler.testing import InProcessCluster
from tests.conformance import describing
from tests.conformance.callables import callables
from tests.conformance.describing import Description, first_difference
from tests.conformance.exceptions import exceptions
from tests.conformance.interruptions import INTERRUPTIONS, SAFE_IN_PROCESS, Story, kill_itself
from tests.conformance.oracle import Oracle, in_this_process
from tests.conformance.outcomes import error_outcome, outcome_of, raised_text
from tests.conformance.roads import EVERY_CALL, ONE_ARGUMENT, Call, Clients, PickleSerializer, Road
from tests.conformance.values import values

DEADLINE_SECONDS = 540.0
"""After this the program prints what every thread does, and ends."""

ROUNDS = 4
Record = dict[str, Any]


class Selection:
    """Which cells are run."""

    def __init__(self, items: str, without: str, roads: str) -> None:
        self._items = items.split(",")
        self._without = without.split(",")
        self._roads = roads.split(",")

    def has_item(self, name: str) -> bool:
        return _matches(name, self._items) and not _matches(name, self._without)

    def of(self, roads: dict[str, Any]) -> dict[str, Any]:
        return {name: road for name, road in roads.items() if _matches(name, self._roads)}


def _matches(name: str, patterns: list[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


class Table:
    """The cells of one home of the user's classes. First the oracle is asked, then the cluster."""

    def __init__(self, user: ModuleType, selection: Selection) -> None:
        self._user = user
        self._selection = selection
        self._values = self._selected("values", values(user))
        self._exceptions = self._selected("exceptions", exceptions(user))
        self._callables = self._selected("callables", callables(user))
        # These need nothing of the user's.
        once = user.__name__ != "__main__"
        self._deaths = self._selected("deaths", {"SIGKILL": (kill_itself, ())} if once else {})
        self._interruptions = self._selected("interruptions", INTERRUPTIONS if once else {})
        self._pool: dict[tuple[str, str], Description] = {}
        self._original: dict[tuple[str, str], Description] = {}
        self.records: list[Record] = []

    def _selected(self, kind: str, items: dict[str, Any]) -> dict[str, Any]:
        return {name: item for name, item in items.items() if self._selection.has_item(f"{kind}/{name}")}

    # --- the oracle

    def ask_oracle(self, oracle: Oracle) -> None:
        identity = self._user.identity
        calls = [Call(identity, (make(),)) for make in self._values.values()]
        self._expect(
            "values", self._values, oracle.answers(calls), [outcome_of(make) for make in self._values.values()]
        )
        calls = [Call(function, args) for function, args in self._exceptions.values()]
        self._expect(
            "exceptions",
            self._exceptions,
            oracle.answers(calls),
            [outcome_of(partial(call.function, *call.args)) for call in calls],
        )
        made = [Call(*make()) for make in self._callables.values()]
        rounds = [oracle.answers(made) for _ in range(ROUNDS)]
        self._expect(
            "callables",
            self._callables,
            list(zip(*rounds, strict=True)),
            [tuple(in_this_process(call) for _ in range(ROUNDS)) for call in made],
        )

        deaths = [Call(*task) for task in self._deaths.values()]
        died = oracle.answers(deaths)
        self._expect("deaths", self._deaths, died, died)
        stories = [outcome_of(partial(oracle.tells, story)) for story in self._interruptions.values()]
        self._expect("interruptions", self._interruptions, stories, stories)

    def _expect(self, kind: str, names: dict[str, Any], pool: list[Description], original: list[Description]) -> None:
        for name, from_pool, from_here in zip(names, pool, original, strict=True):
            self._pool[kind, name] = from_pool
            self._original[kind, name] = from_here

    # --- the cluster

    def run(self, clients: Clients) -> None:
        for road_name, road in self._selection.of({**EVERY_CALL, **ONE_ARGUMENT}).items():
            calls = [Call(self._user.identity, (make(),)) for make in self._values.values()]
            self._note("values", road_name, self._values, partial(road, clients, calls))
        for road_name, road in self._selection.of({**EVERY_CALL, **_item_of_map(self._user)}).items():
            calls = [Call(*task) for task in self._exceptions.values()]
            self._note("exceptions", road_name, self._exceptions, partial(road, clients, calls))
        self._run_callables(clients)
        for road_name, road in self._selection.of(EVERY_CALL).items():
            # In process it would be this program that dies.
            if not road_name.startswith("in process"):
                calls = [Call(*task) for task in self._deaths.values()]
                self._note("deaths", road_name, self._deaths, partial(road, clients, calls))
        for road_name, connect in self._selection.of(clients.fresh()).items():
            stories = {
                name: story
                for name, story in self._interruptions.items()
                if not road_name.startswith("in process") or name in SAFE_IN_PROCESS
            }
            self._note("interruptions", road_name, stories, partial(_tell_all, connect, list(stories.values())))

    def _run_callables(self, clients: Clients) -> None:
        for road_name, road in self._selection.of(EVERY_CALL).items():
            calls = [Call(*make()) for make in self._callables.values()]
            self._note("callables", road_name, self._callables, partial(_four_rounds, road, clients, calls))
        made = {name: Call(*make()) for name, make in self._callables.items()}
        without_keywords = {name: call for name, call in made.items() if not call.kwargs}
        of_one_argument = {name: call for name, call in without_keywords.items() if len(call.args) == 1}
        for road_name, road in self._selection.of(FOUR_ITEMS).items():
            chosen = without_keywords if road_name.endswith("starmap") else of_one_argument
            calls = [Call(*self._callables[name]()) for name in chosen]
            self._note("callables", road_name, chosen, partial(road, clients, calls))

    def _note(self, kind: str, road: str, items: dict[str, Any], run: Callable[[], list[Description]]) -> None:
        began = time.monotonic()
        outcomes = run() if items else []
        for name, ours in zip(items, outcomes, strict=True):
            pool, original = self._pool[kind, name], self._original[kind, name]
            self.records.append(
                {
                    "kind": kind,
                    "item": name,
                    "road": road,
                    "equal": ours == pool,
                    "original": ours == original,
                    "ours": _raised(ours),
                    "pool": _raised(pool),
                    "against pool": first_difference(ours, pool),
                    "against original": first_difference(ours, original),
                }
            )
        if items:
            print(f"{kind} by {road}: {time.monotonic() - began:.2f} s", file=sys.stderr, flush=True)


def _four_rounds(road: Road, clients: Clients, calls: list[Call]) -> list[Description]:
    """Make all calls four times, one round after another."""
    rounds = [road(clients, calls) for _ in range(ROUNDS)]
    return list(zip(*rounds, strict=True))


def _tell_all(connect: Callable[[], Client], stories: list[Story]) -> list[Description]:
    return [_told(connect, story) for story in stories]


def _told(connect: Callable[[], Client], story: Story) -> Description:
    def tell() -> Any:
        with connect() as client, tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            return story(client, Path(folder))

    return outcome_of(tell)


def _raised(outcome: Description) -> str:
    """Return "Type: text" of the first exception of an outcome, or of several."""
    if outcome and type(outcome[0]) is tuple:
        return next(filter(None, map(raised_text, outcome)), "")
    return raised_text(outcome)


def _item_of_map(user: ModuleType) -> dict[str, Road]:
    """Roads on which an exception is raised by one item among good ones."""

    def tasks(call: Call) -> list[Any]:
        return [None, (call.function, call.args), None, None]

    def by(run: Callable[[Clients, Call], Any]) -> Road:
        return lambda clients, calls: [outcome_of(partial(run, clients, call)) for call in calls]

    function = user.raise_or_return
    return {
        "map": by(lambda clients, call: clients.plain.map(function, range(4), tasks(call))),
        "starmap": by(lambda clients, call: clients.plain.starmap(function, enumerate(tasks(call)))),
        "in process map": by(lambda clients, call: clients.in_process.map(function, range(4), tasks(call))),
    }


def _four_items(run: Callable[[Clients, Call], list[Any]]) -> Road:
    """A road on which the four calls are four items of a map."""

    def one(clients: Clients, call: Call) -> Description:
        raised: BaseException
        try:
            values = run(clients, call)
        except BaseException as error:
            raised = error
        else:
            return tuple(("value", describing.describe(value)) for value in values)
        return (error_outcome(raised),) * ROUNDS

    return lambda clients, calls: [one(clients, call) for call in calls]


FOUR_ITEMS: dict[str, Road] = {
    "map": _four_items(lambda clients, call: clients.plain.map(call.function, [call.args[0]] * ROUNDS)),
    "starmap": _four_items(lambda clients, call: clients.plain.starmap(call.function, [call.args] * ROUNDS)),
    "in process map": _four_items(lambda clients, call: clients.in_process.map(call.function, [call.args[0]] * ROUNDS)),
    "in process starmap": _four_items(
        lambda clients, call: clients.in_process.starmap(call.function, [call.args] * ROUNDS)
    ),
}


@contextmanager
def connected() -> Iterator[Clients]:
    """A cluster of two workers and one in this process, with a client of each kind."""
    with (
        SchedulerClusterCombo(n_workers=2, max_task_attempts=1) as combo,
        InProcessCluster() as in_process,
        Client(combo.get_address()) as plain,
        Client(combo.get_address(), serializer=PickleSerializer) as serializing,
        Client(combo.get_address(), stream_output=True) as streaming,
        Client(combo.get_address(), profiling=True) as profiling,
        Client(in_process.address) as inside,
    ):
        yield Clients(combo.get_address(), in_process.address, plain, serializing, streaming, profiling, inside)


def main(user: ModuleType, arguments: list[str]) -> int:
    """Run the table for the classes of `user`; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", help="write the records to this file instead of printing the differences")
    parser.add_argument("--items", default="*", help="patterns of kind/name, with commas")
    parser.add_argument("--without", default="", help="patterns of items to leave out, with commas")
    parser.add_argument("--roads", default="*", help="patterns, with commas")
    options = parser.parse_args(arguments)
    faulthandler.dump_traceback_later(DEADLINE_SECONDS, exit=True)
    table = Table(user, Selection(options.items, options.without, options.roads))
    oracle = Oracle()
    try:
        table.ask_oracle(oracle)
    finally:
        oracle.close()
    with connected() as clients:
        table.run(clients)
    if options.output:
        with open(options.output, "w", encoding="utf-8") as file:
            json.dump(table.records, file)
        return 0
    for line in _differences(table.records):
        print(line)
    equal = sum(record["equal"] for record in table.records)
    print(f"{len(table.records)} cells, {equal} equal")
    return 0


def _differences(records: list[Record]) -> Iterator[str]:
    """Lines for people: each way in which an item differs, and the roads on which it does."""
    roads: dict[tuple[str, ...], list[str]] = {}
    for record in records:
        if not record["equal"]:
            fields = ("kind", "item", "against pool", "against original", "ours", "pool")
            roads.setdefault(tuple(record[field] for field in fields), []).append(record["road"])
    for (kind, item, against_pool, against_original, ours, pool), names in sorted(roads.items()):
        yield f"{kind}/{item} by {', '.join(names)}"
        yield f"    pool: {against_pool}"
        yield f"    here: {against_original or 'equal'}"
        if ours or pool:
            yield f"    raised: {ours} / {pool}"


if __name__ == "__main__":
    from tests.conformance import user_code

    sys.exit(main(user_code, sys.argv[1:]))
