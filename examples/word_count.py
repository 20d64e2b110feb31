"""Counts the words in the documents of this repository: `python examples/word_count.py [FOLDER]`.

Counting a file is one task. The counts are added in pairs, by tasks that take the futures of others as arguments, so they do not
pass through this program.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from pathlib import Path

from scaler import Client, ScalerFuture, SchedulerClusterCombo

DOCUMENTS = Path(__file__).parents[1] / "docs"


def count(path: Path) -> Counter[str]:
    """The words of one file, in small letters."""
    return Counter(re.findall(r"[a-z]+", path.read_text(encoding="utf-8").lower()))


def add(one: Counter[str], other: Counter[str]) -> Counter[str]:
    """The counts of both."""
    return one + other


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else DOCUMENTS
    paths = sorted(folder.resolve().glob("**/*.md"))
    if not paths:
        sys.exit(f"no documents (*.md) in {folder}")
    with SchedulerClusterCombo(n_workers=2) as cluster, Client(cluster.get_address()) as client:
        counts: list[ScalerFuture[Counter[str]]] = [client.submit(count, path) for path in paths]
        while len(counts) > 1:
            pairs = zip(counts[::2], counts[1::2], strict=False)
            counts = [client.submit(add, *pair) for pair in pairs] + counts[len(counts) // 2 * 2 :]
        words = counts[0].result()
    print(f"{len(paths)} documents, {words.total():,} words, {len(words):,} different ones")
    for word, times in words.most_common(10):
        print(f"{times:6,}  {word}")


if __name__ == "__main__":
    main()
