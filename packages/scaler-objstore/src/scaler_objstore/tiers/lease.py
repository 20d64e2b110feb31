"""Who uses a prefix of a remote store: one server, which says so again every few seconds.

A value under `KEY` names the holder. Another server finds it at its start and ends with an error. It may take the lease when the
holder has not renewed it for `LEASE_SECONDS`, or is a process of this machine that has ended. By then the holder has noticed: it
writes nothing in the store while its last renewal is older than that, and changes nothing ever again once somebody else has it.
Time is the store's; the holder's own runs from before the request that it counts for.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from scaler_objstore.tiers.port import TierError, TierFullError, TierUnavailableError
from scaler_objstore.tiers.values import RejectedError, ValueStore
from scaler_protocol.service.errors import ServiceError
from scaler_protocol.service.process_identity import described, has_ended, this_process
from scaler_protocol.wire.envelope import Frame

logger = logging.getLogger(__name__)

KEY = "scaler-lease"

LEASE_SECONDS = 20.0
"""How long a prefix stays a server's of which nothing is heard."""

RENEWALS = 4
"""How often it is renewed in that time."""

CLOSE_SECONDS = 1.0
"""How long to wait at the end until the lease is given back."""


@dataclass(slots=True, frozen=True)
class Found:
    """A lease in the store."""

    value: bytes
    age_seconds: float


class LeaseStore(ValueStore, Protocol):
    """A `ValueStore` that can change one value only if it is what we think. All methods raise `TierError`."""

    def find_lease(self, key: str, seconds: float) -> Found | None:
        """Return the lease, with its age by the store's time; None if there is none, or none any more."""

    def replace_lease(self, key: str, before: bytes | None, after: bytes, seconds: float) -> bool:
        """Store `after` for `seconds` in place of `before` (None: of nothing), or return False: it is something else by now."""


class Lease:
    """The lease of one server. `take` it, then `keep` it; `check` before each change."""

    def __init__(self, values: LeaseStore, seconds: float = LEASE_SECONDS) -> None:
        self._values = values
        self._seconds = seconds
        self._holder = {**this_process(), "id": os.urandom(8).hex()}
        self._number = 0
        self._held_until = 0.0
        self._seen_until = 0.0
        self._failure = ""
        """Why it was not renewed the last time."""
        self._lost_to = ""
        self._closed = False
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._renew_until_closed, name="scaler-tier-lease", daemon=True)

    def take(self, place: str) -> None:
        """Take the lease, and keep it from now on. Raises ServiceError if another server has it, and `TierError`.

        If the store is full, the lease is taken as soon as it has room. Until then what is there can be read, no more.
        """
        try:
            found = self._attempt()
        except TierFullError as error:
            found, self._failure = None, str(error)
            logger.error("%s: nothing is written or deleted there until it has room for a lease: %s", place, error)
        if found is not None:
            raise ServiceError(
                f"{place} is in use by another object storage server ({describe(found.value)}, which said so "
                f"{found.age_seconds:.0f} s ago): each server needs its own prefix. If that one has ended, start again in "
                f"{max(1.0, self._seconds - found.age_seconds):.0f} s"
            )
        self._thread.start()

    def check(self, *, deletes: bool = False) -> None:
        """Raise `TierUnavailableError` unless this process holds the lease now.

        A full store takes in no renewal before something is deleted. So `deletes` are allowed as long as the lease is found to be
        ours, and it is renewed at once after them.
        """
        if self._lost_to:
            raise RejectedError(f"another object storage server uses it by now ({self._lost_to})")
        now = time.monotonic()
        if now < self._held_until:
            return
        if not deletes or now >= self._seen_until:
            raise TierUnavailableError(
                f"it has not confirmed for {self._seconds:g} s that it is this server's: {self._failure}"
            )

    def renew_soon(self) -> None:
        """Something was deleted. Renew the lease if it could not be renewed."""
        if time.monotonic() >= self._held_until:
            self._wake.set()

    def close(self) -> None:
        """Give the lease back."""
        self._closed = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(CLOSE_SECONDS)

    def _attempt(self) -> Found | None:
        """Take or renew the lease. Returns it if somebody else has it."""
        began = time.monotonic()
        found = self._values.find_lease(KEY, self._seconds)
        if (
            found is not None
            and not self._is_ours(found)
            and found.age_seconds < self._seconds
            and not has_ended(_read(found.value))
        ):
            return found
        if found is not None and self._is_ours(found):
            self._seen_until = began + 2 * self._seconds / RENEWALS
        self._number += 1
        after = json.dumps({**self._holder, "renewal": self._number}).encode()
        try:
            if not self._values.replace_lease(KEY, None if found is None else found.value, after, self._seconds):
                return self._values.find_lease(KEY, self._seconds) or found
        except TierFullError:
            # The store says that it is ours, so nobody else takes it. What is deleted makes room for it.
            if found is None or not self._is_ours(found):
                raise
        else:
            # A full store may have prolonged what it had: then it does not say that it is ours.
            if found is not None and not self._is_ours(found):
                confirmed = self._values.find_lease(KEY, self._seconds)
                if confirmed is None or not self._is_ours(confirmed):
                    raise TierFullError("it is full and has taken in no lease")
        self._held_until = began + self._seconds
        return None

    def _is_ours(self, found: Found) -> bool:
        # The answer to the last renewal may be lost, so its number says nothing.
        return _read(found.value).get("id") == self._holder["id"]

    def _renew_until_closed(self) -> None:
        while True:
            self._wake.wait(self._seconds / RENEWALS)
            self._wake.clear()
            if self._closed:
                break
            try:
                found = self._attempt()
            except TierError as error:
                self._failure = str(error)
                continue
            if found is not None and not self._is_ours(found):
                self._lost_to = describe(found.value)
                logger.error(
                    "%s: another object storage server uses this prefix by now (%s): nothing is written there any more",
                    self._values,
                    self._lost_to,
                )
                return
        self._give_back()

    def _give_back(self) -> None:
        try:
            found = self._values.find_lease(KEY, self._seconds)
            if found is not None and self._is_ours(found):
                self._values.delete([KEY])
        except TierError as error:
            logger.debug("the lease was not given back: %s", error)


class LeasedValues:
    """A `ValueStore` that changes nothing while the lease is not ours."""

    def __init__(self, values: ValueStore, lease: Lease) -> None:
        self.part_bytes = values.part_bytes
        self.concurrency = values.concurrency
        self._values = values
        self._lease = lease

    def __str__(self) -> str:
        return str(self._values)

    def check(self) -> str:
        """See `ValueStore`."""
        return self._values.check()

    def put(self, key: str, value: Frame) -> None:
        """See `ValueStore`."""
        self._lease.check()
        self._values.put(key, value)

    def get(self, key: str, length: int | None = None) -> Frame:
        """See `ValueStore`."""
        return self._values.get(key, length)

    def delete(self, keys: Sequence[str]) -> None:
        """See `ValueStore`."""
        self._lease.check(deletes=True)
        self._values.delete(keys)
        self._lease.renew_soon()

    def list(self) -> Iterator[tuple[str, int]]:
        """See `ValueStore`."""
        return self._values.list()

    def close(self) -> None:
        """See `ValueStore`. The lease is given back."""
        self._lease.close()
        self._values.close()


def describe(value: bytes) -> str:
    """Return who holds a lease, for people."""
    return described(_read(value))


def _read(value: bytes) -> dict[str, object]:
    try:
        holder = json.loads(value)
    except ValueError:
        return {}
    return holder if isinstance(holder, dict) else {}
