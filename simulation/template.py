"""Prepared graphs in the simulation: what `client.prepare` and `template.run` make of a graph, as far as it is pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from scaler.core.graph_template import Rows, make_form
from simulation.client import ClientDriver
from simulation.ledger import SimulationError
from simulation.programs import Program, in_order


class Template:
    """A graph whose row i runs `programs[i]` on the results of the rows `dependencies[i]`. It runs often."""

    def __init__(
        self, programs: Sequence[Program], dependencies: Sequence[Sequence[int]], wanted: Sequence[int]
    ) -> None:
        self.programs = programs
        self._dependencies = dependencies
        self._wanted = wanted
        self._rows = Rows(
            keys=range(len(programs)),
            payloads=[program.payload for program in programs],
            needs=dependencies,
            function_indexes=[0] * len(programs),
            objects=[()] * len(programs),
            function_objects={},
            outside=(),
        )

    def run(self, driver: ClientDriver, given: Mapping[int, Program], contents: Mapping[int, Sequence[bytes]]) -> None:
        """Run it with the values of these programs in place of some rows. `contents[i]` are objects that the i-th reads."""
        form = make_form(self._rows, {}, self._wanted, frozenset(given), lambda key: True)
        programs = [self.programs[row] for row in form.rows] + [given[int(str(key))] for key in form.passed]
        needs = [*form.needs, *([()] * len(form.passed))]
        read = {len(form.rows) + place: one for place, one in contents.items() if place < len(form.passed)}
        wanted = sorted(set(form.row_of.values()))
        entries = driver.submit_graph(programs, needs, wanted, contents=read)
        if not entries:
            return
        driver.ledger.kinds["runs of prepared graphs"] += 1
        driver.ledger.kinds["values given to them"] += len(form.passed)
        if read:
            return
        expected = self._values(driver, given)
        by_row = dict(zip(wanted, entries, strict=True))
        for key, row in form.row_of.items():
            if by_row[row].expected != expected[int(str(key))]:
                raise SimulationError(f"a run of a prepared graph computes something else for node {key}")

    def _values(self, driver: ClientDriver, given: Mapping[int, Program]) -> dict[int, bytes | None]:
        """Return what the graph has to come to, computed as the whole that it was prepared as."""
        library = driver.ledger.library
        values: dict[int, bytes | None] = {}
        for row in in_order([() if row in given else needs for row, needs in enumerate(self._dependencies)]):
            inputs = [] if row in given else [values[one] for one in self._dependencies[row]]
            known = [value for value in inputs if value is not None]
            program = given.get(row, self.programs[row])
            values[row] = library.expected(program.number, known) if len(known) == len(inputs) else None
        return values
