"""What tests and the simulation see of a store: values that nothing changes later."""

from __future__ import annotations

from dataclasses import dataclass

from scaler_objstore.core.state import StoreState


@dataclass(slots=True, frozen=True)
class StoreSnapshot:
    """A store at one moment."""

    object_count: int
    used_bytes: int
    """Bytes that the storage uses; identical contents count once."""
    owners: frozenset[bytes]
    """The clients that own objects."""
    growing_count: int
    """Objects that are being fetched into this store."""


def take_snapshot(state: StoreState) -> StoreSnapshot:
    """Return what the store holds now."""
    return StoreSnapshot(len(state.catalogue), state.contents.used_bytes, frozenset(state.owners()), len(state.growing))
