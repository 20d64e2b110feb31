"""Futures whose answers stay on the cluster where they are objects in storage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from scaler.client.future import FutureSource, ScalerFuture, answer_futures
from scaler.client.reference_table import ReferenceGroup
from scaler_protocol.payloads.framing import OBJECT
from scaler_protocol.wire import messages as m

if TYPE_CHECKING:
    from scaler.client.stored_objects import StoredObjects
    from scaler.core.effects import Payload


class KeptFuture(ScalerFuture):
    """The answer of a row of a graph whose `keeps` is set. Told its answer as an `AnswerReceiver` is.

    A value that is an object in storage is not fetched: `result()` is an `ObjectReference` to it then, and `is_kept` is true.
    Smaller values, which have travelled in the answer itself, are as in any future.
    """

    is_kept = False
    """Whether the result is a reference to the value."""

    def __init__(self, client: FutureSource, objects: StoredObjects, group: ReferenceGroup) -> None:
        """`group`: what references to kept values belong to."""
        super().__init__(client)
        self._objects = objects
        self._group = group
        self._inner: Sequence[bytes] = ()

    def hold_until_restored(self, objects: Sequence[bytes]) -> None:
        """See `ScalerFuture`. A value that is kept holds these objects for as long as it is kept."""
        self._inner = objects
        super().hold_until_restored(objects)

    def on_answer(self, status: int, payload: Payload, _duration: int) -> None:
        """The task ended with this."""
        if status == m.Status.SUCCESS and isinstance(payload, bytes) and payload[:1] == OBJECT:
            self.is_kept = True
            # Cancelled meanwhile, it stays so: the reference ends here, and the object with it.
            self.end_with(self._objects.keep(payload[1:], self._group, tuple(self._inner)))
        else:
            answer_futures([self], [payload], [status], None)
