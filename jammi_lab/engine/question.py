"""A question to a source that was begun and is waited for when its answer is needed."""

from collections.abc import Callable
from typing import Generic, TypeVar

import duckdb

from jammi_lab.engine.faults import translate_reading
from jammi_lab.engine.waiting import Begun
from jammi_lab.sources.base import Asking, Relation

T = TypeVar("T")
BESIDE_SECONDS = 30.0
"""How long a question beside a transaction may take."""


class Question(Generic[T]):
    """A question to a source that was begun."""

    def __init__(self, begun: Begun[T], relation: Relation | None) -> None:
        self._begun, self._relation = begun, relation

    def result(self) -> T:
        """The answer, once; DuckDB's errors are said as ours."""
        try:
            return self._begun.result()
        except duckdb.Error as error:
            raise translate_reading(error, self._relation) from None

    def drop(self) -> None:
        """Nobody will ask for the answer."""
        self._begun.drop()


Beside = Callable[[Relation, Callable[[Asking], None]], Question[None]]
"""Puts a question to what a relation is attached to, on a cursor of its own."""
