"""The words of a query in a text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jammi_lab.words.analyzers import analyze
from jammi_lab.words.matches import split_matches
from tests.cases.texts import ENCODABLE


def matches(text: str, query: str, analyzer: str = "english") -> list[str]:
    return split_matches(text, set(analyze(query, analyzer)), analyzer)


@pytest.mark.parametrize(
    ("text", "query", "analyzer", "expected"),
    [
        ("Graphs, and a graph", "graph", "english", ["", "Graphs", ", and a ", "graph", ""]),
        ("Graphs, and a graph", "graph", "simple", ["Graphs, and a ", "graph", ""]),
        ("E-17 (E-17)", "E-17", "exact", ["", "E-17", " (", "E-17", ")"]),
        ("the end", "the", "english", ["the end"]),
        ("", "x", "english", [""]),
        ("Straße ＡＢＣ", "abc straße", "simple", ["", "Straße", " ", "ＡＢＣ", ""]),
        ("東京都庁", "東京都", "simple", ["", "東京都", "庁"]),
    ],
)
def test_the_odd_parts_are_the_words_of_the_query(
    text: str, query: str, analyzer: str, expected: list[str]
) -> None:
    assert matches(text, query, analyzer) == expected


@given(
    st.text(ENCODABLE, max_size=40),
    st.text(ENCODABLE, max_size=10),
    st.sampled_from(["english", "simple", "exact"]),
)
def test_the_parts_are_the_text(text: str, query: str, analyzer: str) -> None:
    parts = matches(text, query, analyzer)
    assert "".join(parts) == text and len(parts) % 2 == 1 and all(parts[1::2])
