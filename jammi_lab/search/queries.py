"""Queries as texts or vectors."""

from typing import Any

from jammi_lab.core.errors import InvalidArgument


def texts_of(query: Any) -> list[str] | None:
    """The texts of a query; None when it is vectors. InvalidArgument for a mixture."""
    if isinstance(query, str):
        return [query]
    if not isinstance(query, list | tuple) or not any(
        issubclass(t, str) for t in set(map(type, query))
    ):
        return None
    if wrong := [q for q in query if not isinstance(q, str)]:
        raise InvalidArgument(
            "Several queries are all texts or all vectors; there is a "
            f"{type(wrong[0]).__name__} among the texts."
        )
    return list(query)
