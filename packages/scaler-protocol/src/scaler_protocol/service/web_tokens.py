"""Compares the tokens of callers with the right one, and slows down who guesses."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from scaler_protocol.service.web_access import ADDRESSES_MAX, RateLimit, is_secret

WRONG_TOKENS_AT_ONCE = 10
WRONG_TOKENS_PER_SECOND = 0.2
"""How many wrong tokens an address may send before it must wait, and how many more each second."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is to be done with a caller."""

    right: bool
    wait_s: float = 0.0
    """Seconds for which the caller must wait, because too many wrong tokens came from its address."""


class TokenCheck:
    """Knows the right token, and which addresses have sent it.

    From an address with too many wrong tokens the right one is refused as well, and with the same answer: otherwise who
    guesses could go on at full speed. But an address that has sent the right token before is answered always. So nobody who
    shares the address of a scheduler or a visitor (one machine, a proxy, one network) can lock them out by wrong tokens.
    """

    def __init__(
        self, token: str, clock: Callable[[], float] = time.monotonic, *, addresses_max: int = ADDRESSES_MAX
    ) -> None:
        self._token = token
        self._clock = clock
        self._addresses_max = addresses_max
        self._wrong = RateLimit(WRONG_TOKENS_PER_SECOND, WRONG_TOKENS_AT_ONCE, addresses_max)
        self._known: OrderedDict[str, None] = OrderedDict()
        """Addresses that have sent the right token. The one that sent it longest ago is forgotten first."""

    def check(self, given: str, address: str) -> Verdict:
        """Say whether this is the right token. `address`: whom to count it for (`address_of`)."""
        now = self._clock()
        if not is_secret(given, self._token):
            return Verdict(False, self._wrong.take(address, now))
        if address not in self._known and (wait_s := self._wrong.wait_s(address, now)):
            return Verdict(False, wait_s)
        self._known[address] = None
        self._known.move_to_end(address)
        if len(self._known) > self._addresses_max:
            self._known.popitem(last=False)
        return Verdict(True)
