"""What programs register with `copyreg` and cloudpickle counts for values too, whenever they do so."""

from __future__ import annotations

import copyreg
import pickle
from typing import Any

import cloudpickle
import pytest

from scaler_protocol.payloads import by_value


class Registered:
    """Its reduction is registered by a test."""


@pytest.mark.parametrize("register", [copyreg.pickle, cloudpickle.Pickler.dispatch_table.__setitem__])
def test_a_reduction_is_used_from_when_it_is_registered(register: Any) -> None:
    try:
        assert type(pickle.loads(by_value.dumps(Registered()))).__name__ == "Registered"
        register(Registered, lambda _: (str, ("registered",)))
        assert pickle.loads(by_value.dumps([Registered()])) == ["registered"]
    finally:
        copyreg.dispatch_table.pop(Registered, None)
        cloudpickle.Pickler.dispatch_table.maps[0].pop(Registered, None)
    assert type(pickle.loads(by_value.dumps(Registered()))).__name__ == "Registered"
