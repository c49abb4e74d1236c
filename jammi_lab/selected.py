"""Columns of the rows behind a table, laid beside its vectors: hits take theirs from there, and nothing of the source is read.

What lies there is what one statement gave for all rows, by a name that holds the state of everything that it read. Each search looks whether that
is the state still, as it does for `source_missing`; where it is another, or where looking takes longer than reading, the source is read.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jammi_lab.values.anchors import Input
from jammi_lab.vectors.cache import Cache

if TYPE_CHECKING:
    import pyarrow as pa

    from jammi_lab.engine.prepared import Prepared
    from jammi_lab.vectors.exact import Places

LARGEST = 64 << 20
"""Bytes up to which the columns of all rows are laid out."""
_KEPT = 2 * LARGEST
_KNOWN = 256
_SECONDS_A_ROW = 5e-7
"""What laying out one row takes: it is done once as much was spent on reading some at a time."""
_RENTS = 1.0
"""How much of what it took the last time is spent on reading before it is done again."""
_MOST_PASSED = 63
_MOMENT = 1.0
"""Seconds within which something is laid out anew that nobody has asked for yet."""
What = tuple[str | None, str, str, tuple[str, ...] | frozenset[str] | None]
"""A tenant, a table, that whose rows are meant, and the columns as they were asked for beside hits; as a set those that conditions name, None all."""


class Laid:
    """The columns of all rows, in the order of the vectors. May be shared between threads."""

    def __init__(self, rows: "pa.Table", types: dict[str, str], inputs: Sequence[Input]) -> None:
        self._rows, self.types, self.inputs = rows.combine_chunks(), types, list(inputs)
        """`types`: SQL types by column; `inputs`: what was read."""

    @property
    def nbytes(self) -> int:
        """Bytes held in memory."""
        return int(self._rows.nbytes)

    def beside(self, hits: "pa.Table", places: "Places") -> "pa.Table":
        """Hits with the columns of their rows, which stand at `places`."""
        import pyarrow as pa

        from jammi_lab.vectors.arrays import places_of

        taken = self._rows.take(places_of(places))
        own = {name: hits[name] for name in hits.column_names}
        columns = {**own, "key": taken["key"], **{name: taken[name] for name in taken.column_names if name not in own}}
        return pa.table(columns)


@dataclass(slots=True)
class Selection:
    """What a selection of columns means over one table, and what asking for it has taken."""

    chosen: list[str]
    """The columns as they are spelt."""
    inputs: list[Input]
    """What an answer says that it read."""
    read: list[Input]
    """What is read beside the hits."""
    spent: float = 0.0
    """Seconds that reading took since the columns were last laid out."""
    once: float = 0.0
    """Seconds that reading took the last time."""
    laying: float = 0.0
    """Seconds that laying out took the last time, also when there was too much."""
    laid: bool = False
    """Whether the columns were laid out at some time."""
    refused: str = ""
    """The state whose columns are too large to be laid out."""
    fixed: bool = True
    """Whether equal inputs give equal rows."""
    passed: int = 0
    """Searches that go by until the state of the inputs is asked for again, since that takes longer than reading them."""
    pause: int = 0
    """How many that were the last time."""

    def worth_a_look(self, rows: int) -> bool:
        """Whether to ask for the state of the inputs, for a table of so many rows."""
        if self.passed:
            self.passed -= 1
            return False
        return self.fixed and (self.laid or self.due(rows))

    def due(self, rows: int) -> bool:
        """Whether as much was spent as laying out the columns takes."""
        return self.spent > max(rows * _SECONDS_A_ROW, _RENTS * self.laying)

    def hurry(self) -> None:
        """Let all be laid out by the next question, unless it takes long to see whether it has to be: somebody will ask for more than one."""
        self.spent, self.once = math.inf, self.once or math.inf

    @property
    def quick(self) -> bool:
        """Whether it is laid out at times, and that is a matter of a moment, as is to see whether it has to be."""
        return self.laid and not self.pause and self.laying < _MOMENT

    def laid_out(self, seconds: float) -> None:
        """Learn what laying out took."""
        self.spent, self.laying, self.laid = 0.0, seconds, True
        if self.once == math.inf:
            self.once = seconds

    def looked(self, seconds: float) -> None:
        """Learn what it took to tell the state."""
        self.pause = min(2 * self.pause + 1, _MOST_PASSED) if seconds > self.once else 0
        self.passed = self.pause


class Selections:
    """What was selected lately, in one workspace."""

    def __init__(self) -> None:
        self.laid = Cache(_KEPT)
        self._known: dict[What, Selection] = {}

    def find(self, what: What) -> Selection | None:
        """What is known of a selection."""
        return self._known.get(what)

    def forget(self, what: What) -> None:
        """It means something else by now."""
        self._known.pop(what, None)

    def learn(self, what: What, chosen: Sequence[str], prepared: "Prepared", inputs: Sequence[Input], read: list[Input], took: float) -> None:
        """Learn from a statement that has just been run, in so many seconds; `inputs` is what its answer says that was read, `read` what beside the
        hits."""
        known = self._known.get(what)
        if known is None or known.read != read or known.chosen != list(chosen):
            if len(self._known) >= _KNOWN:
                self._known.clear()
            fixed = not (prepared.volatile or prepared.clock)
            self._known[what] = known = Selection(list(chosen), list(inputs), read, fixed=fixed)
        known.spent, known.once = known.spent + took, took


def inputs_of(prepared: "Prepared") -> list[Input]:
    """What a statement reads, with the columns read."""
    return [Input(kind=i.kind, name=i.name, table=i.table, columns=b.columns) for b in prepared.inputs for i in [b.relation.input]]


def small(prepared: "Prepared") -> "pa.Table | None":
    """The rows of a statement; None when they are more than may be laid out."""
    import pyarrow as pa

    batches, size = list[pa.RecordBatch](), 0
    with prepared.run() as stream:
        schema = stream.schema
        for batch in stream.batches():
            size += batch.nbytes
            if size > LARGEST:
                return None
            batches.append(batch)
    return pa.Table.from_batches(batches, schema)
