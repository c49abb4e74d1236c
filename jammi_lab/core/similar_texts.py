"""Suggestions for a text that was probably meant otherwise."""

from collections.abc import Iterable


def close_matches(
    text: str, candidates: Iterable[str], limit: int = 3, similarity: float = 0.5
) -> list[str]:
    """Up to `limit` candidates that are at least as similar as that (0 to 1), nearest first."""
    import difflib  # 2 ms at each `%load_ext`, which only messages of errors need

    return difflib.get_close_matches(text, [*candidates], limit, similarity)
