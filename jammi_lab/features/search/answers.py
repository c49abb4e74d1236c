"""What a search returns."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jammi_lab.core.anchors import Input

if TYPE_CHECKING:
    import pyarrow as pa


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
    """The hits of a search."""

    table: "pa.Table"
    """The hits."""
    types: Sequence[str]
    """The SQL types of the columns, in their order."""
    inputs: Sequence[Input]
    """What was read, with the columns read."""
    through_index: bool = False
    """Whether an index found the hits."""
