"""`docs/conformance.md`, made from the records of the table."""

from __future__ import annotations

from collections import Counter

from tests.conformance.differences import DIFFERENCES, Record, judge

HEAD = """# Conformance with ProcessPoolExecutor

What a program gets from `concurrent.futures.ProcessPoolExecutor`, it gets from this engine. The table below is run against
both by `tests/conformance`; this page is made from its records, and a test fails when it is out of date.

A **cell** is one item on one road, with the user's classes in an importable module or in `__main__`. Compared are type and
identity of classes, content, dtypes and flags of arrays, sharing and cycles, and for exceptions text, arguments,
attributes, notes, cause, context and group members. Every callable is called four times: no call may see what another left
behind. The pool's own `_RemoteTraceback`, which takes the place of a cause, is not compared.
"""


def render(records: list[Record]) -> str:
    """Return the page."""
    verdict = judge(records)
    cells = verdict.cells
    lines = [
        HEAD,
        f"**{cells['all']:,} cells, {cells['equal']:,} equal, {cells['different']:,} different on purpose.**",
        "",
        "| kind | items | roads | cells | equal | different |",
        "|---|---|---|---|---|---|",
    ]
    for kind in dict.fromkeys(record["kind"] for record in records):
        of_kind = [record for record in records if record["kind"] == kind]
        equal = sum(record["equal"] for record in of_kind)
        lines.append(
            f"| {kind} | {len({record['item'] for record in of_kind})} | {len({record['road'] for record in of_kind})} "
            f"| {len(of_kind):,} | {equal:,} | {len(of_kind) - equal:,} |"
        )
    lines += ["", "## Roads", ""]
    by_road = Counter(record["road"] for record in records)
    lines += [f"- `{road}`: {count:,} cells" for road, count in by_road.items()]
    lines += ["", "## Differences, and why", "", "| why | items | roads | cells |", "|---|---|---|---|"]
    for number, difference in enumerate(DIFFERENCES):
        items = ", ".join(item.replace("*", "…") for item in difference.items)
        roads = "all" if difference.roads == ("*",) else ", ".join(road.replace("*", "…") for road in difference.roads)
        lines.append(f"| {difference.reason} | {items} | {roads} | {verdict.by_difference[number]:,} |")
    return "\n".join([*lines, ""])
