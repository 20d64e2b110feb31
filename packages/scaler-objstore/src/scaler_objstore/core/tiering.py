"""Which contents are in the tier below memory, which are on the way there or back, and which go there next.

A content in memory is *clean* if the tier has it too, otherwise *dirty*. Clean ones are dropped from memory as soon as room is
needed, which takes no time. So the least recently used dirty ones are written early: from `HIGH_MARK` of the memory on, until
only `LOW_MARK` is dirty. A put then waits only if objects arrive faster than the tier takes them.

While a content is being written it is dirty and is read from memory. One that is only below is *loaded* when it is asked for:
once, however many ask. It is clean then.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from scaler_objstore.core.contents import Content, Contents
from scaler_objstore.core.storage import BUFFER_OVERHEAD_BYTES, CONTENT_OVERHEAD_BYTES

HIGH_MARK = 0.7
LOW_MARK = 0.5

SPILLS_MAX = 4
"""Contents that are written at the same time."""

LOADS_MAX = 8
"""Contents that are read at the same time."""

CANDIDATES_MAX = 32
"""Contents that are looked at to find one that fits below."""

RETRY_SECONDS = 5.0
"""How long nothing is tried after the tier has failed."""

FILE_OVERHEAD_BYTES = 4096
"""What a content takes below beside its bytes, about."""


@dataclass(slots=True, eq=False)
class Copy:
    """A content that the tier has, or is about to have."""

    name: str
    content: Content
    size_bytes: int
    """What it takes below."""
    is_loading: bool = False
    is_released: bool = False
    """Whether no object has the content any more."""


class Pause:
    """Nothing is tried for `RETRY_SECONDS` after a failure."""

    def __init__(self) -> None:
        self.reason = ""
        """What failed last; empty while it works."""
        self._until: float | None = None

    def begin(self, reason: str, now: float) -> None:
        """It failed."""
        self.reason = reason
        self._until = now + RETRY_SECONDS

    def end(self) -> bool:
        """It works. Returns whether it failed before."""
        failed = bool(self.reason)
        self.reason, self._until = "", None
        return failed

    def lasts(self, now: float) -> bool:
        """Whether nothing is to be tried now."""
        if self._until is not None and now >= self._until:
            self._until = None
        return self._until is not None

    def next_attempt(self) -> float:
        """When it ends; inf if there is none."""
        return float("inf") if self._until is None else self._until


def memory_bytes(content: Content) -> int:
    """Return how much memory a content needs, bookkeeping included."""
    return CONTENT_OVERHEAD_BYTES + len(content.lengths) * BUFFER_OVERHEAD_BYTES + content.size_bytes


class Tiering:
    """The tables of one tier. `limit_bytes`: how much it may hold; None: what fits. `names` returns a new name each time."""

    def __init__(self, contents: Contents, limit_bytes: int | None, names: Callable[[], str]) -> None:
        self.limit_bytes = limit_bytes
        self._contents = contents
        self._names = names
        self._dirty: OrderedDict[Content, None] = OrderedDict()
        """Least recently used first; without those that are being written."""
        self._clean: OrderedDict[Content, None] = OrderedDict()
        self._clean_bytes = 0
        self._writing_bytes = 0
        """Of memory."""
        self._used_bytes = 0
        self._copies: dict[str, Copy] = {}
        self._copy_of: dict[Content, Copy] = {}
        self._writing: set[str] = set()
        self._loading: set[str] = set()
        self._wanted: deque[Copy] = deque()
        """Those to be loaded next."""
        self._restored_bytes = 0
        self._is_spilling = False
        self.writing_pause = Pause()
        self.reading_pause = Pause()

    # --- what commands report

    def added(self, content: Content) -> None:
        """A content was put into memory, or one more object has it."""
        self._dirty[content] = None
        self._dirty.move_to_end(content)

    def used(self, content: Content) -> None:
        """A content in memory was read."""
        if content in self._dirty:
            self._dirty.move_to_end(content)
        elif content in self._clean:
            self._clean.move_to_end(content)

    def released(self, content: Content) -> str | None:
        """No object has this content any more. Returns the name to discard below, if there is one to discard now."""
        self._dirty.pop(content, None)
        if content in self._clean:
            self._forget_clean(content)
        copy = self._copy_of.pop(content, None)
        if copy is None:
            return None
        copy.is_released = True
        # What is under way is discarded when it has ended.
        return None if copy.name in self._writing or copy.name in self._loading else self._forget(copy)

    def make_room(self, needed_bytes: int) -> bool:
        """Drop clean contents from memory until so many bytes fit. Returns whether they do."""
        contents = self._contents
        if contents.used_bytes - self._clean_bytes + needed_bytes > contents.limit_bytes:
            return False
        while contents.used_bytes + needed_bytes > contents.limit_bytes:
            content = next(iter(self._clean))
            self._forget_clean(content)
            contents.drop_from_memory(content)
        return True

    # --- writing

    def spills(self, needed_bytes: int, now: float) -> list[Copy]:
        """Return the contents to write now, so that `needed_bytes` will fit and memory keeps room beside them."""
        due: list[Copy] = []
        if self.writing_pause.lasts(now):
            return due
        limit = self._contents.limit_bytes
        while len(self._writing) < SPILLS_MAX:
            staying = self._contents.used_bytes - self._clean_bytes - self._writing_bytes
            if staying > HIGH_MARK * limit:
                self._is_spilling = True
            elif staying <= LOW_MARK * limit:
                self._is_spilling = False
            if not self._is_spilling and staying + needed_bytes <= limit:
                break
            content = self._candidate()
            if content is None:
                break
            due.append(self._begin(content))
            if self.writing_pause.reason:
                # One shows whether the tier works again.
                break
        return due

    def _candidate(self) -> Content | None:
        for _, content in zip(range(CANDIDATES_MAX), self._dirty, strict=False):
            needed = self._used_bytes + content.size_bytes + FILE_OVERHEAD_BYTES
            if self.limit_bytes is None or needed <= self.limit_bytes:
                return content
        return None

    def _begin(self, content: Content) -> Copy:
        del self._dirty[content]
        # Its header names the objects that it has now.
        self._contents.close(content)
        copy = Copy(self._names(), content, content.size_bytes + FILE_OVERHEAD_BYTES)
        self._add(copy)
        self._writing.add(copy.name)
        self._writing_bytes += memory_bytes(content)
        return copy

    def written(self, name: str) -> str | None:
        """A content was written. Returns its name if it is to be discarded, because no object has it any more."""
        copy = self._end_writing(name)
        if copy.is_released:
            return self._forget(copy)
        self._add_clean(copy.content)
        return None

    def not_written(self, name: str, text: str, now: float) -> None:
        """A content was not written, because of `text`. Nothing more is tried for a while."""
        copy = self._end_writing(name)
        self._forget(copy)
        if not copy.is_released:
            del self._copy_of[copy.content]
            self._dirty[copy.content] = None
            self._dirty.move_to_end(copy.content, last=False)
        self.writing_pause.begin(text, now)

    def _end_writing(self, name: str) -> Copy:
        copy = self._copies[name]
        self._writing.remove(name)
        self._writing_bytes -= memory_bytes(copy.content)
        return copy

    # --- reading

    def want(self, content: Content) -> None:
        """Load a content that is only below, unless that is under way."""
        copy = self._copy_of[content]
        if not copy.is_loading:
            copy.is_loading = True
            self._wanted.append(copy)

    def loads(self, now: float) -> list[Copy]:
        """Return the contents to read now."""
        due: list[Copy] = []
        if self.reading_pause.lasts(now):
            return due
        while self._wanted and len(self._loading) < LOADS_MAX:
            copy = self._wanted.popleft()
            if copy.is_released:
                continue
            self._loading.add(copy.name)
            due.append(copy)
        return due

    def read(self, name: str) -> Copy:
        """A content was read, or cannot be: nobody reads it now. `loaded` keeps it in memory."""
        copy = self._copies[name]
        self._loading.remove(name)
        copy.is_loading = False
        return copy

    def loaded(self, copy: Copy) -> None:
        """The bytes of a content are in memory again."""
        self._add_clean(copy.content)

    def forget_released(self, copy: Copy) -> str:
        """Forget a content that was released while it was read. Returns the name to discard."""
        return self._forget(copy)

    # --- after a restart

    def restored(self, name: str, content: Content) -> None:
        """The tier has this content from an earlier process."""
        self._add(Copy(name, content, content.size_bytes + FILE_OVERHEAD_BYTES))
        self._restored_bytes = self._used_bytes

    # --- inside

    def _add(self, copy: Copy) -> None:
        self._copies[copy.name] = copy
        self._copy_of[copy.content] = copy
        self._used_bytes += copy.size_bytes

    def _forget(self, copy: Copy) -> str:
        del self._copies[copy.name]
        self._used_bytes -= copy.size_bytes
        return copy.name

    def _add_clean(self, content: Content) -> None:
        self._clean[content] = None
        self._clean_bytes += memory_bytes(content)

    def _forget_clean(self, content: Content) -> None:
        del self._clean[content]
        self._clean_bytes -= memory_bytes(content)

    # --- figures

    @property
    def used_bytes(self) -> int:
        """Bytes that the tier holds, or is about to hold."""
        return self._used_bytes

    @property
    def is_writing(self) -> bool:
        """Whether contents are on their way to the tier, so that memory comes free."""
        return bool(self._writing)

    def next_attempt(self) -> float:
        """When to try again what failed; inf if nothing did."""
        return min(self.writing_pause.next_attempt(), self.reading_pause.next_attempt())

    def names(self) -> Iterable[str]:
        """Return the names of all contents that the tier has or is about to have."""
        return self._copies.keys()

    # --- for invariants

    @property
    def most_bytes(self) -> float:
        """The most that the tier may hold now. An earlier process may have left more than the limit."""
        return float("inf") if self.limit_bytes is None else max(self.limit_bytes, self._restored_bytes)

    def is_wanted(self, content: Content) -> bool:
        """Whether a content is read from the tier, or waits for that."""
        copy = self._copy_of.get(content)
        return copy is not None and copy.is_loading and (copy.name in self._loading or copy in self._wanted)

    def listed(self) -> list[tuple[Content, bool]]:
        """Return every content with whether it is in memory, from the tables."""
        below = set(self._copy_of) - set(self._clean) - {self._copies[name].content for name in self._writing}
        in_memory = [
            *self._dirty,
            *self._clean,
            *(content for content in self._copy_of if self._is_written_now(content)),
        ]
        return [*((content, True) for content in in_memory), *((content, False) for content in below)]

    def _is_written_now(self, content: Content) -> bool:
        return self._copy_of[content].name in self._writing

    def sums(self) -> tuple[int, int, int]:
        """Return the bytes of clean contents, of those being written, and of those below, as they are noted."""
        return self._clean_bytes, self._writing_bytes, self._used_bytes

    def counted_sums(self) -> tuple[int, int, int]:
        """Return the same, counted anew."""
        return (
            sum(map(memory_bytes, self._clean)),
            sum(memory_bytes(self._copies[name].content) for name in self._writing),
            sum(copy.size_bytes for copy in self._copies.values()),
        )
