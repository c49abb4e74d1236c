"""What a search returns: rows that are complete, or a statement that has started."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jammi_lab.core.anchors import Input

if TYPE_CHECKING:
    import pyarrow as pa

    from jammi_lab.engine.prepared_statement import PreparedStatement
    from jammi_lab.engine.stream import Stream


HIT_COLUMNS = (
    "query",
    "key",
    "rank",
    "score",
    "similarity",
    "rank_meaning",
    "rank_words",
    "source_missing",
)
"""Columns that every answer of a search by meaning and words may have."""


@dataclass(frozen=True)
class SearchAnswer:
    """Hits whose columns are all in memory."""

    table: "pa.Table"
    """The hits."""
    types: Sequence[str]
    """The SQL types of the columns, in their order."""
    inputs: Sequence[Input]
    """What was read, with the columns read."""
    through_index: bool = False
    """Whether an index found the hits."""

    def rows(self) -> "pa.Table":
        """All hits."""
        return self.table


@dataclass(frozen=True)
class RunningAnswer:
    """Hits joined with their source rows by a statement that has started; its rows can be read
    once."""

    prepared: "PreparedStatement"
    """The statement as it was bound for these rows."""
    stream: "Stream"
    """The rows as they come."""
    inputs: Sequence[Input]
    """What is read, with the columns read."""
    through_index: bool = False
    """Whether an index found the hits."""

    def rows(self) -> "pa.Table":
        """All hits. Raises what the statement raises."""
        return self.stream.table()


Answer = SearchAnswer | RunningAnswer
