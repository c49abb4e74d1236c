"""The words of a query in a text, for display."""

from collections.abc import Collection, Sequence

from jammi_lab.features.words.analyzers import normalize, spans, to_term

MAX_LEADING_CHARS = 100
"""Characters of an excerpt in front of its first match."""


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


def excerpt(parts: Sequence[str], max_chars: int) -> list[str]:
    """The parts of `split_matches` from shortly before the first match on, at most `max_chars`
    characters, with … for what is left out."""
    first, *others = parts
    if others and len(first) > MAX_LEADING_CHARS:
        first = "…" + first[1 - MAX_LEADING_CHARS :]
    shown: list[str] = []
    for number, part in enumerate((first, *others)):
        if len(part) > max_chars:
            if number % 2:
                shown[-1] += "…"
            else:
                shown.append(part[:max_chars] + "…")
            return shown
        shown.append(part)
        max_chars -= len(part)
    return shown
