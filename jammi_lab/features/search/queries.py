"""What is searched for: queries as texts or vectors, and which rows may be hits."""

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jammi_lab.core.errors import InvalidArgument


@dataclass(frozen=True)
class SearchRequest:
    """What a search is asked for."""

    query: Any = None
    """A text, a vector, or several of them; None for the neighbours of a row."""
    row: Any = None
    """The key of the row whose neighbours are asked for."""
    k: int = 10
    """The number of hits of each query."""
    where: str | None = None
    """A condition over the source rows of the hits."""
    params: Mapping[str, Any] | None = None
    """Parameters of the condition."""
    select: Sequence[str] = ()
    """Columns of the source rows that the answer has, too."""
    exact: bool | None = None
    """Whether all vectors are compared; None chooses."""
    reads_source: bool = True
    """Whether to look which rows are missing in the source; else none is said to be."""

    @property
    def has_only_present_rows(self) -> bool:
        """Whether no hit is marked as missing: rows that passed a condition exist."""
        return self.where is not None or not self.reads_source

    def check(self) -> None:
        """Raise InvalidArgument unless exactly one of query and row is there, and a condition for
        the parameters."""
        if (self.query is None) == (self.row is None):
            raise InvalidArgument(
                "A search needs either a query or row=, not both."
                if self.row is not None
                else "A search needs a query (a text or a vector) or row=."
            )
        if self.params and self.where is None:
            names = ", ".join(map(str, self.params))
            raise InvalidArgument(f"Parameters need a where= that uses them: {names}.")


def texts_of(query: Any) -> list[str] | None:
    """The texts of a query, also of a column of a frame; None when it is vectors. InvalidArgument
    for a mixture and an empty list."""
    if isinstance(query, str):
        return [query]
    if isinstance(query, list | tuple) and not query:
        raise InvalidArgument("The list of queries is empty.")
    if not isinstance(query, list | tuple):
        query = _texts_of_column(query)
    if not isinstance(query, list | tuple) or not any(
        issubclass(t, str) for t in set(map(type, query))
    ):
        return None
    if wrong := [q for q in query if not isinstance(q, str)]:
        raise InvalidArgument(
            "Several queries must be all texts or all vectors; a "
            f"{type(wrong[0]).__name__} is mixed with texts."
        )
    return list(query)


def _texts_of_column(column: Any) -> list[Any] | None:
    """The values of a column of a frame, or an array, that begins with a text; None for others."""
    names = ("tolist", "to_list", "to_pylist")
    to_list = next((m for name in names if (m := getattr(column, name, None)) is not None), None)
    if to_list is None:
        return None
    with contextlib.suppress(TypeError):  # a single number
        first: Any = next(iter(column), None)
        if isinstance(first.as_py() if hasattr(first, "as_py") else first, str):
            return list(to_list())
    return None


def list_of_texts(texts: Any) -> list[str]:
    """Texts as a list; columns of frames are accepted. InvalidArgument for anything else."""
    values = texts.tolist() if hasattr(texts, "tolist") else texts
    if not isinstance(values, Iterable) or isinstance(values, bytes):
        raise InvalidArgument(f"texts must be a list of strings, got {type(texts).__name__}.")
    checked = list(values)
    if wrong := [text for text in checked if not isinstance(text, str)]:
        raise InvalidArgument(
            f"texts must be strings, but one of them is of type {type(wrong[0]).__name__}."
        )
    return checked
