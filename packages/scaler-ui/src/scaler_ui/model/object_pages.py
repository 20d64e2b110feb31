"""Pages of the list of objects in storage, in any order. The snapshot has the largest ones; others are asked for."""

from __future__ import annotations

from typing import Any

from scaler_protocol.monitoring.topics import ObjectsTopic
from scaler_protocol.wire.messages import ObjectList, ObjectOrder
from scaler_ui.model.cluster import ClusterModel
from scaler_ui.model.figures import object_data, objects

ORDERS = {
    "size_bytes": ObjectOrder.SIZE,
    "age_seconds": ObjectOrder.AGE,
    "name": ObjectOrder.NAME,
    "owner_name": ObjectOrder.OWNER,
    "place": ObjectOrder.PLACE,
    "readers_waiting": ObjectOrder.READERS,
    "homes": ObjectOrder.HOMES,
}
"""What may be sorted by."""

SORT_PATTERN = f"^-?({'|'.join(ORDERS)})$"

NO_PAGE: dict[str, Any] = {"offset": 0, "matching": None, "looked_at": None, "objects": None}
"""There is no answer yet."""

_LARGEST = ObjectsTopic(0, ObjectOrder.SIZE, True)


def wanted_page(sort: str, search: str, owner: bytes, offset: int) -> ObjectsTopic:
    """Return what to ask for. `sort`: one of `ORDERS`, with "-" before it for descending."""
    return ObjectsTopic(offset, ORDERS[sort.lstrip("-")], sort.startswith("-"), owner, search)


def known_page(model: ClusterModel, wanted: ObjectsTopic) -> dict[str, Any] | None:
    """Return a page without asking for it; None: it must be asked for."""
    if wanted != _LARGEST or model.snapshot is None:
        return None
    return {"offset": 0, "matching": model.snapshot.object_count, "looked_at": None, "objects": objects(model)}


def page_data(model: ClusterModel, page: ObjectList) -> dict[str, Any]:
    """Return what was answered."""
    return {
        "offset": page.offset,
        "matching": page.matching,
        "looked_at": page.looked_at,
        "objects": [object_data(model, one) for one in page.objects],
    }
