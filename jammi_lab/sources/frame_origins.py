"""Origins of frames: from which tables, in which state, the frames of this process were made.

A frame that a result hands out is recorded here by weak reference, so that recording keeps nothing
alive. Frames that cells derive from it are recorded by the notebook, which sees the cells.
"""

import threading
import weakref
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from jammi_lab.core.anchors import Anchor, FrameOrigin, Identity

TOO_LARGE = "it is too large to be compared with what was read"
"""The ground of a frame that may have been changed in place unseen."""
MAX_PENDING_READS = 1000
"""Reads that are kept for the notebook. More than a cell makes; without a notebook the rest is
dropped."""


class CellFollower(Protocol):
    """Knows the running cell of a notebook."""

    def line(self) -> int | None:
        """The line of the cell whose statement runs; None when that is not known."""
        ...

    def rows_digest(self, frame: object) -> str | None:
        """A digest of the rows of a frame; None when they are too many to be compared."""
        ...

    def origin(self, frame: object, recorded: FrameOrigin | None) -> FrameOrigin | None:
        """The origin of a frame, given the recorded one; None when nothing is known of it."""
        ...


@dataclass(frozen=True)
class FrameRead:
    """Rows that left a result."""

    origin: FrameOrigin
    thread: int
    """The identifier of the thread that read them."""
    line: int | None
    """The line of the cell that read them; None when that is not known."""


class FrameOrigins:
    """The recorded origins of live frames, and the reads since the last cell began."""

    def __init__(self) -> None:
        self._by_id: dict[int, tuple[weakref.ref[Any], FrameOrigin]] = {}
        self._digests: dict[int, str | None] = {}
        """The digests of the rows of frames as they were read; None for those that have too many to
        be compared."""
        self._reads: dict[tuple[int, int, int | None], FrameRead] = {}
        self.follower: CellFollower | None = None
        """The notebook of this kernel; None outside of one."""

    def record_read(self, origin: FrameOrigin, frame: object | None = None) -> None:
        """Record that rows left a result, as `frame` if they are one."""
        thread = threading.get_ident()
        if len(self._reads) < MAX_PENDING_READS or self.follower is not None:
            line = None if self.follower is None else self.follower.line()
            self._reads[id(origin), thread, line] = FrameRead(origin, thread, line)
        if frame is not None:
            self.record(frame, origin)
            if self.follower is not None and is_mutable(frame):
                self._digests[id(frame)] = self.follower.rows_digest(frame)

    def record(self, frame: object, origin: FrameOrigin) -> None:
        """Record the origin of a frame, for as long as the frame lives."""
        key = id(frame)

        def discard(reference: weakref.ref[Any]) -> None:
            if (entry := self._by_id.get(key)) is not None and entry[0] is reference:
                del self._by_id[key]
                self._digests.pop(key, None)

        try:
            reference = weakref.ref(frame, discard)
        except TypeError:  # a class without weak references; the read itself is recorded
            return
        self._by_id[key] = (reference, origin)

    def recorded(self, frame: object) -> FrameOrigin | None:
        """The recorded origin of a frame; None when there is none."""
        entry = self._by_id.get(id(frame))
        return None if entry is None or entry[0]() is not frame else entry[1]

    def digest_as_read(self, frame: object) -> str | None:
        """The digest of the rows of a frame as they were read; None when it is not known, or they
        are too many to be compared."""
        return None if self.recorded(frame) is None else self._digests.get(id(frame))

    def origin(self, frame: object) -> FrameOrigin | None:
        """What a frame was made from; None when that is not known."""
        recorded = self.recorded(frame)
        if self.follower is not None:
            return self.follower.origin(frame, recorded)
        # nobody sees what a script does to a frame between reading and storing it
        if recorded is not None and is_mutable(frame):
            return merged_origin([recorded], derived=True)
        return recorded

    def take_reads(self) -> list[FrameRead]:
        """The reads since the last call."""
        reads, self._reads = self._reads, {}
        return list(reads.values())

    def reads(self) -> list[FrameRead]:
        """The reads since the last call of `take_reads`."""
        return list(self._reads.values())


def merged_origin(
    origins: Iterable[FrameOrigin],
    grounds: Sequence[str] = (),
    cells: Sequence[str] = (),
    *,
    derived: bool = False,
) -> FrameOrigin:
    """One origin with the inputs and grounds of all. States of one input that differ all stay."""
    origins = list(origins)
    forms = {origin.form for origin in origins}
    inputs: dict[tuple[Identity, str, str], Anchor] = {}
    all_grounds, all_cells = list[str](), list[str]()
    for origin in origins:
        inputs.update({(a.input.identity, a.value, a.schema): a for a in origin.inputs})
        all_grounds += origin.grounds
        all_cells += origin.cells
        derived = derived or origin.derived
    is_one_read = len(forms) == len(inputs) == 1 and not derived
    return FrameOrigin(
        [inputs[key] for key in sorted(inputs)],
        list(dict.fromkeys([*all_grounds, *grounds])),
        list(dict.fromkeys([*all_cells, *cells])),
        derived,
        forms.pop() if is_one_read else "",
    )


def is_mutable(frame: object) -> bool:
    """Whether the rows of a frame can be changed in place; those of Arrow and of lazy frames
    cannot."""
    library = type(frame).__module__.split(".")[0]
    return library != "pyarrow" and type(frame).__name__ != "LazyFrame"


origins = FrameOrigins()
"""The origins of the frames of this process."""
