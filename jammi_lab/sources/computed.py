"""Rows that are computed when a statement runs: what a table function of ours answers with."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

    from jammi_lab.sources.base import Relation


@dataclass(frozen=True, slots=True)
class Read:
    """One input of a statement or a computation."""

    relation: Relation
    """What it is; of a computation's only its input and token count."""
    columns: tuple[str, ...]
    """The columns read, sorted; empty when only the number of rows matters."""
    schema: Mapping[str, str]
    """All its columns and SQL types when it was bound, in order."""


@dataclass(frozen=True, slots=True)
class Computed:
    """How the rows of a relation come about. What it is given are the columns that the statement reads of them."""

    says: str
    """What shapes the rows beside the inputs: part of the definition of every statement that reads them."""
    reads: Callable[[Collection[str]], Sequence[Read]]
    """The inputs, the relation's own first."""
    rows: Callable[[Collection[str]], pa.Table]
    """All the rows with all the columns; called in the thread that runs the statement, each time that it is run."""
