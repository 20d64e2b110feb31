"""The journals of jobs in a Redis or Valkey server (`--storage-url`): a list for each job. One request at a time.

An element of a list is what a file of `job_journals` is: records that were written together, each with its checksum. So a list
grows only at its end. Each request that changes something says who asks, and how long the list is that it adds to: it is refused
if another scheduler has taken the journals meanwhile, and done once if its answer is lost and it is sent again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from typing import Any

import redis

from scaler_protocol.service.process_identity import described, has_ended, this_process
from scaler_protocol.service.storage_url import RedisUrl
from scaler_scheduler.job_journals import read_records, whole_file
from scaler_scheduler.journal_store import JournalStoreError, RecordsLostError, TakenError, taken_text
from scaler_scheduler.redis_connection import connect

REQUEST_SECONDS = 5.0
"""What the server takes to answer is at most this, and as much to be connected to."""

HELD_SECONDS = 4.0
"""So long a scheduler of which nothing is heard has the journals."""

READ_AT_ONCE = 16
"""Elements of a list that are read by one request."""

# A full server takes this one, as the jobs can be read, and those below: they make room, or keep others away.
_TAKE = """#!lua flags=allow-oom
local alive, term = redis.call('GET', KEYS[2]), tonumber(redis.call('HGET', KEYS[1], 'term') or '0')
if alive and alive ~= ARGV[1] and alive ~= ARGV[5] and term >= tonumber(ARGV[2]) then
    return {redis.call('HGET', KEYS[1], 'holder') or '', alive}
end
redis.call('HSET', KEYS[1], 'token', ARGV[1], 'term', ARGV[2], 'holder', ARGV[3])
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[4])
return {}
"""

_CHECK = """
local token = redis.call('HGET', KEYS[1], 'token')
if token and token ~= ARGV[1] then return -1 end
if not token then redis.call('HSET', KEYS[1], 'token', ARGV[1], 'term', ARGV[2], 'holder', ARGV[3]) end
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[4])
"""
"""Without a token the server was emptied, and nobody else has written there since."""

_APPEND = f"""{_CHECK}
local length, expected = redis.call('LLEN', KEYS[3]), tonumber(ARGV[5])
if length == expected + 1 then return length end
if length ~= expected then return -2 end
redis.call('SADD', KEYS[4], ARGV[6])
return redis.call('RPUSH', KEYS[3], ARGV[7])
"""

_DROP = f"""#!lua flags=allow-oom
{_CHECK}
redis.call('UNLINK', KEYS[3])
return redis.call('SREM', KEYS[4], ARGV[5])
"""
_RENEW = f"""#!lua flags=allow-oom
{_CHECK}
return 0
"""
_RELEASE = """
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('UNLINK', KEYS[1]) end
return 0
"""

_TAKEN, _OTHER_LENGTH = -1, -2


class RedisJournals:
    """A `JournalStore` below one prefix. Whatever is appended or dropped is stored at once."""

    held_seconds = HELD_SECONDS
    gather_seconds = 0.0

    def __init__(self, url: RedisUrl, term: int) -> None:
        """`term`: of this scheduler. One with a higher term takes the journals from one with a lower."""
        self._pool, self._command = connect(url, REQUEST_SECONDS)
        base = f"{url.prefix}:jobs"
        self._owner, self._alive, self._index, self._lists = f"{base}:owner", f"{base}:alive", f"{base}:index", base
        self._token = os.urandom(16).hex()
        self._who = (str(term), json.dumps(this_process()), str(int(1000 * HELD_SECONDS)))
        self._lengths: dict[bytes, int] = {}
        """Elements of each list."""

    def take(self) -> None:
        """Become the one that writes here. Raises TakenError where another scheduler is."""
        found = self._ask_for_them("")
        holder = _holder_of(bytes(found[0])) if found else {}
        if found and has_ended(holder):
            # It cannot say so any more. Whoever has taken them meanwhile keeps them.
            found = self._ask_for_them(bytes(found[1]).decode())
            holder = _holder_of(bytes(found[0])) if found else {}
        if found:
            raise TakenError(taken_text(described(holder), HELD_SECONDS))

    def _ask_for_them(self, ended: str) -> Any:
        """Take them, also from the scheduler with this token. Return who has them if another one does, and its token."""
        term, who, held = self._who
        return self._ask("EVAL", _TAKE, 2, self._owner, self._alive, self._token, term, who, held, ended)

    def load(self, note: Callable[[str], None]) -> Iterator[tuple[bytes, list[bytes]]]:
        """Yield each job with its records. `note` is told what is wrong with them, in sentences."""
        for name in sorted(self._ask("SMEMBERS", self._index)):
            job, elements, records, damaged = bytes.fromhex(bytes(name).decode()), 0, [], 0
            while True:
                last = elements + READ_AT_ONCE - 1
                some = self._ask("LRANGE", self._list(job), elements, last)
                for element in some:
                    found, end, places = read_records(bytes(element))
                    records += found
                    damaged += places + (end < len(element) and not places)
                elements += len(some)
                self.renew()
                if len(some) < READ_AT_ONCE:
                    break
            self._lengths[job] = elements
            if damaged:
                note(f"the journal of job {job.hex()} has {damaged} damaged places, which are passed over")
            if records:
                yield job, records
            else:
                note(f"the journal of job {job.hex()} is empty: the server has lost it")

    def append(self, job: bytes, records: list[bytes]) -> None:
        """Append records to a job's journal. Raises TakenError, RecordsLostError."""
        length = self._lengths.get(job, 0)
        keys = (self._owner, self._alive, self._list(job), self._index)
        asked = (self._token, *self._who, str(length), job.hex(), whole_file(records))
        found = int(self._ask("EVAL", _APPEND, 4, *keys, *asked))
        if found == _OTHER_LENGTH:
            raise RecordsLostError
        self._require_ours(found)
        self._lengths[job] = length + 1

    def drop(self, job: bytes) -> None:
        """Remove a job's journal. Raises TakenError."""
        keys = (self._owner, self._alive, self._list(job), self._index)
        self._require_ours(int(self._ask("EVAL", _DROP, 4, *keys, self._token, *self._who, job.hex())))
        self._lengths.pop(job, None)

    def flush(self) -> None:
        """Nothing is left to do."""

    def tidy(self) -> None:
        """Nothing is left to do."""

    def renew(self) -> None:
        """Say that this scheduler still has the journals. Raises TakenError."""
        self._require_ours(int(self._ask("EVAL", _RENEW, 2, self._owner, self._alive, self._token, *self._who)))

    def close(self) -> None:
        """Let go of the journals."""
        try:
            self._ask("EVAL", _RELEASE, 1, self._alive, self._token)
        finally:
            self._pool.disconnect()

    def _require_ours(self, found: int) -> None:
        if found == _TAKEN:
            raise TakenError("another scheduler has taken them")

    def _ask(self, *words: Any) -> Any:
        try:
            return self._command(*words)
        except redis.RedisError as error:
            raise JournalStoreError(str(error) or type(error).__name__) from error

    def _list(self, job: bytes) -> str:
        return f"{self._lists}:{job.hex()}"


def _holder_of(text: bytes) -> dict[str, object]:
    try:
        holder = json.loads(text)
    except ValueError:
        return {}
    return holder if isinstance(holder, dict) else {}
