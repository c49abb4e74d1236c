"""The words of a query in a text, for display."""

from collections.abc import Collection

from jammi_lab.words.analyzers import normalize, spans, to_term


def split_matches(text: str, terms: Collection[str], analyzer: str) -> list[str]:
    """The text in parts: those with an odd index are words of the query, the others stand between
    them."""
    parts, end = [""], 0
    for first, last in spans(text, analyzer):
        if to_term(normalize(text[first:last], analyzer), analyzer) not in terms:
            continue
        # Pairs of characters of one word overlap, and are one match.
        if first < end or (first == end and len(parts) > 2 and not parts[-1]):
            parts[-2] += text[max(first, end) : last]
        else:
            parts[-1] += text[end:first]
            parts += [text[first:last], ""]
        end = max(end, last)
    parts[-1] += text[end:]
    return parts
