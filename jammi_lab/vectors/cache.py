"""What stays in memory between searches: matrices and indexes, by digests that name one content for ever; the least recently used go first."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Protocol, TypeVar, cast

from jammi_lab.errors import InvalidArgument


class Sized(Protocol):
    """Something that knows its size."""

    @property
    def nbytes(self) -> int:
        """Bytes held in memory."""
        ...


T = TypeVar("T", bound=Sized)


class Cache:
    """At most `max_bytes` of matrices and indexes. A key names one content for ever, so nothing in here can be out of date.

    Who holds one keeps it, evicted or not. One that is larger than the whole budget is handed out and not kept.
    """

    def __init__(self, max_bytes: int) -> None:
        if max_bytes < 0:
            raise InvalidArgument(f"A cache holds from 0 bytes on, not {max_bytes}.")
        self._max = max_bytes
        self._lock = threading.Lock()
        self._held: OrderedDict[str, Sized] = OrderedDict()
        self._loading: dict[str, threading.Lock] = {}

    @property
    def nbytes(self) -> int:
        """Bytes of what is held."""
        with self._lock:
            return sum(each.nbytes for each in self._held.values())

    def __contains__(self, key: str) -> bool:
        with self._lock:
            return key in self._held

    def get(self, key: str, load: Callable[[], T]) -> T:
        """What that key names, loaded if it is not here; threads that ask for one at once load it once. Raises what `load` raises."""
        return cast(T, self.get_if_there(key, load))

    def get_if_there(self, key: str, load: Callable[[], T | None]) -> T | None:
        """As `get`, where `load` may find nothing: then None, and who comes next looks again."""
        with self._lock:
            if (held := self._touched(key)) is not None:
                return cast(T, held)
            turn = self._loading.setdefault(key, threading.Lock())
        with turn:
            with self._lock:
                if (held := self._touched(key)) is not None:
                    return cast(T, held)
            try:
                loaded = load()
                if loaded is not None:
                    self.put(key, loaded)
            finally:
                with self._lock:
                    if self._loading.get(key) is turn:
                        del self._loading[key]
            return loaded

    def find(self, key: str) -> Sized | None:
        """What that key names, if it is here."""
        with self._lock:
            return self._touched(key)

    def put(self, key: str, value: Sized) -> None:
        """Keep something, in the place of what had its key; what was used least recently makes room."""
        if value.nbytes > self._max:
            return
        with self._lock:
            self._held[key] = value
            self._held.move_to_end(key)
            total = sum(each.nbytes for each in self._held.values())
            while total > self._max:
                _, gone = self._held.popitem(last=False)
                total -= gone.nbytes

    def drop(self, keys: Iterable[str]) -> None:
        """Lets go of some, as far as they are here."""
        with self._lock:
            for key in keys:
                self._held.pop(key, None)

    def _touched(self, key: str) -> Sized | None:
        held = self._held.get(key)
        if held is not None:
            self._held.move_to_end(key)
        return held
