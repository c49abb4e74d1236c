"""The words of a query in a text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jammi_lab.features.words.analyzers import analyze
from jammi_lab.features.words.matches import MAX_LEADING_CHARS, excerpt, split_matches
from tests.cases import cases
from tests.cases.texts import ENCODABLE


def matches(text: str, query: str, analyzer: str = "english") -> list[str]:
    return split_matches(text, set(analyze(query, analyzer)), analyzer)


@pytest.mark.parametrize(
    ("text", "query", "analyzer", "expected"),
    cases("prose/matches", "text", "query", "analyzer", "expected"),
)
def test_the_odd_parts_are_the_words_of_the_query(text, query, analyzer, expected):
    assert matches(text, query, analyzer) == expected


@given(
    st.text(ENCODABLE, max_size=40),
    st.text(ENCODABLE, max_size=10),
    st.sampled_from(["english", "simple", "exact"]),
)
def test_the_parts_are_the_text(text, query, analyzer):
    parts = matches(text, query, analyzer)
    assert "".join(parts) == text and len(parts) % 2 == 1 and all(parts[1::2])


def test_an_excerpt_begins_shortly_before_the_first_match():
    text = "a " * 500 + "graph, " + "and so on " * 500
    [before, word, after] = excerpt(matches(text, "graphs"), 300)
    assert before == "…" + ("a " * 500)[1 - MAX_LEADING_CHARS :] and word == "graph"
    assert after.startswith(", and") and after.endswith("…")
    assert len(before + word + after) == 301
    assert excerpt(matches("a graph", "graph"), 300) == ["a ", "graph", ""]
    assert excerpt(matches("a graph", "graph"), 3) == ["a …"]
    assert excerpt(["x" * 500], 300) == ["x" * 300 + "…"]


@given(
    st.lists(st.text("ab", min_size=1, max_size=150), min_size=1, max_size=7),
    st.integers(0, 400),
)
def test_an_excerpt_is_cut_only_at_both_ends(parts, max_chars):
    parts = parts[: len(parts) - 1 + len(parts) % 2]
    shown = excerpt(parts, max_chars)
    assert len(shown) % 2 == 1 and shown[1::2] == parts[1::2][: len(shown) // 2]
    assert "".join(shown).strip("…") in "".join(parts)
    assert len("".join(shown).strip("…")) <= max_chars
