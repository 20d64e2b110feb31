"""Pages of objects: the largest are at hand, others are asked for."""

from __future__ import annotations

from synthetic_cluster import ALICE, snapshot

from scaler_protocol.monitoring.topics import ObjectsTopic
from scaler_protocol.wire import messages as m
from scaler_ui.model import ClusterModel
from scaler_ui.model.object_pages import ORDERS, known_page, page_data, wanted_page


def test_the_largest_ones_are_at_hand() -> None:
    model = ClusterModel()
    largest = wanted_page("-size_bytes", "", b"", 0)
    assert known_page(model, largest) is None
    model.accept(snapshot(1), 1.0)
    known = known_page(model, largest)
    assert known is not None
    assert (known["matching"], [one["name"] for one in known["objects"]]) == (13, ["quotes", ""])
    for other in (
        wanted_page("size_bytes", "", b"", 0),
        wanted_page("-size_bytes", "quotes", b"", 0),
        wanted_page("-size_bytes", "", ALICE, 0),
        wanted_page("-size_bytes", "", b"", 100),
    ):
        assert known_page(model, other) is None


def test_others_are_asked_for_and_told_as_the_largest_are() -> None:
    assert wanted_page("-age_seconds", "of May", ALICE, 200) == ObjectsTopic(
        200, m.ObjectOrder.AGE, True, ALICE, "of May"
    )
    assert set(ORDERS.values()) == set(m.ObjectOrder)
    model = ClusterModel()
    model.accept(snapshot(1), 1.0)
    shown = snapshot(1).objects
    page = page_data(model, m.ObjectList(1, 100, 301, 400, shown))
    assert (page["offset"], page["matching"], page["looked_at"]) == (100, 301, 400)
    known = known_page(model, wanted_page("-size_bytes", "", b"", 0))
    assert known is not None
    assert page["objects"] == known["objects"]
