"""Queries as texts or vectors."""

import contextlib
from collections.abc import Iterable
from typing import Any

from jammi_lab.core.errors import InvalidArgument


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
