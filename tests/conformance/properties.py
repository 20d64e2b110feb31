"""The two properties: any value, and any exception, comes back by any road as the pool gives it back, or as it was."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from tests.conformance import user_code
from tests.conformance.describing import Description, first_difference
from tests.conformance.oracle import Oracle
from tests.conformance.outcomes import error_outcome, outcome_of, value_outcome
from tests.conformance.program import connected
from tests.conformance.roads import EVERY_CALL, ONE_ARGUMENT, Call, Clients, identity
from tests.conformance.strategies import Tree, build, raise_tree

VALUE_ROADS = sorted({**EVERY_CALL, **ONE_ARGUMENT})
EXCEPTION_ROADS = sorted(EVERY_CALL)
BATCH_MIN, BATCH_MAX = 6, 20
"""Values that are submitted together: one example."""


class Both:
    """A pool, and a cluster with its clients."""

    def __init__(self, oracle: Oracle, clients: Clients) -> None:
        self._oracle = oracle
        self._clients = clients
        self.checked = 0

    def check_values(self, values: list[Any], road: str) -> None:
        """Raise AssertionError for the first value that comes back neither as from the pool nor as it is."""
        calls = [Call(identity, (value,)) for value in values]
        pool = self._oracle.answers(calls)
        ours = {**EVERY_CALL, **ONE_ARGUMENT}[road](self._clients, calls)
        for value, from_pool, from_us in zip(values, pool, ours, strict=True):
            original = value_outcome(value)
            if from_us not in (from_pool, original):
                # The byte order of arrays without dimensions: pickle's older protocol, which the pool uses, loses that of numbers
                # and of times, its newest that of times alone.
                _require(value, road, from_us, from_pool, original, value_outcome(_by_newest_pickle(value)))
        self.checked += len(values)

    def check_exceptions(self, trees: list[Tree], road: str) -> None:
        """Raise AssertionError for the first exception that does not come back as it was raised."""
        calls = [Call(raise_tree, (tree,)) for tree in trees]
        ours = EVERY_CALL[road](self._clients, calls)
        originals = [outcome_of(partial(raise_tree, tree)) for tree in trees]
        # The pool is asked about those it can give back: pickle drops causes, contexts and much else, and some break it.
        asked = [number for number, tree in enumerate(trees) if _survives_pickle(tree, originals[number])]
        for number, from_pool in zip(asked, self._oracle.answers([calls[number] for number in asked]), strict=True):
            assert from_pool == originals[number], (
                f"the pool: {first_difference(from_pool, originals[number])}; {trees[number]!r}"
            )
        for tree, from_us, original in zip(trees, ours, originals, strict=True):
            _require(tree, road, from_us, original)
        self.checked += len(trees)


def _require(made_of: Any, road: str, ours: Description, *expected: Description) -> None:
    if ours not in expected:
        differences = "; ".join(first_difference(ours, one) for one in expected)
        raise AssertionError(f"by {road}: {differences}\n    of {_shown(made_of)}")


def _shown(value: Any) -> str:
    try:
        return repr(value)[:2000]
    except Exception as error:
        return f"{type(value).__qualname__}, which cannot be shown: {type(error).__name__}"


def _by_newest_pickle(value: Any) -> Any:
    """What pickle itself makes of a value with the protocol we use; the value where it cannot be pickled."""
    try:
        return pickle.loads(pickle.dumps(value, pickle.HIGHEST_PROTOCOL))
    except Exception:
        return value


def _survives_pickle(tree: Tree, original: Description) -> bool:
    """Whether pickle gives back the exception a tree describes, and the pool does not take it for none."""
    if tree.kind in (user_code.FalseError, user_code.EmptyError):
        return False
    try:
        copy = pickle.loads(pickle.dumps(build(tree)))
    except Exception:
        return False
    return isinstance(copy, BaseException) and error_outcome(copy) == original


@contextmanager
def both() -> Iterator[Both]:
    oracle = Oracle()
    try:
        # Its processes are forked before this one has the clients' threads.
        oracle.answers([Call(identity, (number,)) for number in range(4)])
        with connected() as clients:
            yield Both(oracle, clients)
    finally:
        oracle.close()
