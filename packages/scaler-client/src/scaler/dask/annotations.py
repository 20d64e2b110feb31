"""What Dask's annotations (`dask.annotate`) ask for, as far as a cluster has the like."""

from __future__ import annotations

import math
import warnings
from collections.abc import Hashable, Mapping
from typing import Any

from scaler_protocol.runtime.names import shown

WITHOUT_EFFECT = ("priority", "workers", "allow_other_workers")
"""Annotations with a meaning for `dask.distributed` that have none here. Names that Dask does not know are the program's own."""


class Annotations:
    """The annotations of a graph that have an effect.

    `capabilities`: of the whole graph, from `resources` of its tasks: names with the largest amounts, rounded up. `retries`: how
    often a task that fails is run again, by key.
    """

    def __init__(self, graph: Any) -> None:
        """Warns, once, of annotations that have no effect. Raises TypeError and ValueError for what is no amount or number."""
        # Graphs that are plain mappings have none.
        annotated: Mapping[str, Mapping[Hashable, Any]] = getattr(graph, "__dask_annotations__", dict)()
        self.retries: dict[Hashable, int] = {
            key: _retries(key, value) for key, value in annotated.get("retries", {}).items() if value
        }
        self.capabilities: dict[str, int] = {}
        for key, resources in annotated.get("resources", {}).items():
            for name, amount in _resources(key, resources).items():
                self.capabilities[name] = max(amount, self.capabilities.get(name, amount))
        ignored = [name for name in WITHOUT_EFFECT if annotated.get(name)]
        if ignored:
            text = f"Dask's annotations {', '.join(ignored)} have no effect on a Scaler cluster; retries and resources have"
            # Nothing is guessed from names or addresses of workers: a capability that nobody offers would be waited for.
            if "workers" in ignored:
                text += ". To choose workers, start them with a capability and name it in resources"
            warnings.warn(text, stacklevel=2)


def _retries(key: Hashable, value: Any) -> int:
    if not isinstance(value, int) or value < 0:
        raise ValueError(f"node {shown(key)}: retries must be a number of times, not {shown(value)}")
    return value


def _resources(key: Hashable, resources: Any) -> dict[str, int]:
    if not isinstance(resources, Mapping):
        raise TypeError(
            f"node {shown(key)}: resources are names with amounts, such as {{'GPU': 1}}, not {shown(resources)}"
        )
    amounts = {}
    for name, amount in resources.items():
        if not isinstance(amount, int | float) or not math.isfinite(amount):
            raise ValueError(f"node {shown(key)}: resource {shown(name)} must be a number, not {shown(amount)}")
        amounts[name] = math.ceil(amount)
    return amounts
