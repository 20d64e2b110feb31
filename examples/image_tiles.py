"""Finds the edges in a picture, tile by tile: `python examples/image_tiles.py [--output FILE]`. It needs numpy and matplotlib.

Each tile is one task. It gets one more pixel on each side than it answers for, so that no seams are seen.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray

from scaler import Client, SchedulerClusterCombo

mpl.use("agg")

import matplotlib.pyplot as plt

PICTURE = Path(__file__).parents[1] / "docs" / "images" / "ui-overview.png"
TILE = 128

Floats = NDArray[np.float32]
Tile = tuple[int, int, Floats]


def tiles(picture: Floats) -> Iterator[Tile]:
    """The tiles with their places, each with a border of one pixel."""
    padded = np.pad(picture, 1, mode="edge")
    for top in range(0, picture.shape[0], TILE):
        for left in range(0, picture.shape[1], TILE):
            yield top, left, padded[top : top + TILE + 2, left : left + TILE + 2]


def edges(tile: Tile) -> Tile:
    """How steep the brightness is at each pixel of a tile (Sobel)."""
    top, left, p = tile
    across = p[:-2, 2:] + 2 * p[1:-1, 2:] + p[2:, 2:] - p[:-2, :-2] - 2 * p[1:-1, :-2] - p[2:, :-2]
    down = p[2:, :-2] + 2 * p[2:, 1:-1] + p[2:, 2:] - p[:-2, :-2] - 2 * p[:-2, 1:-1] - p[:-2, 2:]
    return top, left, np.hypot(across, down)


def main() -> None:
    parser = argparse.ArgumentParser(description="Find the edges in a picture.")
    parser.add_argument("--picture", type=Path, default=PICTURE)
    parser.add_argument("--output", type=Path, default=Path("edges.png"))
    given = parser.parse_args()
    picture = plt.imread(given.picture)[..., :3].mean(axis=2).astype(np.float32)
    found = np.zeros_like(picture)
    with SchedulerClusterCombo(n_workers=2) as cluster, Client(cluster.get_address()) as client:
        # Few tiles are under way at a time, however large the picture is.
        for top, left, tile in client.imap_unordered(edges, tiles(picture)):
            found[top : top + tile.shape[0], left : left + tile.shape[1]] = tile
    whole = edges((0, 0, np.pad(picture, 1, mode="edge")))[2]
    print(f"{picture.shape[1]} x {picture.shape[0]} pixels; as in one piece: {np.array_equal(found, whole)}")
    plt.imsave(given.output, 1 - found / float(np.max(found)), cmap="gray")
    print(f"wrote {given.output}")


if __name__ == "__main__":
    main()
