"""From texts to terms."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jammi_lab.core.errors import InvalidArgument
from jammi_lab.features.words.analyzers import ANALYZERS, analyze, check_analyzer, normalize, spans
from tests.cases import cases
from tests.cases.texts import ENCODABLE


@pytest.mark.parametrize(
    ("analyzer", "text", "terms"),
    cases("prose/terms", "analyzer", "text", "terms"),
)
def test_terms(analyzer, text, terms):
    assert analyze(text, analyzer) == terms


@given(st.text(ENCODABLE), st.sampled_from(ANALYZERS))
def test_any_text_has_terms_that_can_be_stored(text, analyzer):
    terms = analyze(text, analyzer)
    assert all(term and term.encode() for term in terms)
    text = normalize(text, analyzer)
    places = list(spans(text, analyzer))
    assert places == sorted(places) and all(start < end <= len(text) for start, end in places)


@given(st.text(st.characters(max_codepoint=127)), st.sampled_from(ANALYZERS))
def test_the_quick_way_for_ascii_gives_the_terms_of_the_general_way(text, analyzer):
    general = analyze(text + " \u00e9", analyzer)
    assert [*analyze(text, analyzer), *analyze("\u00e9", analyzer)] == general


def test_an_unknown_analyzer_is_refused_with_the_near_name():
    with pytest.raises(InvalidArgument, match="analyzer must be") as refused:
        check_analyzer("englsh")
    assert refused.value.near == ("english",) or list(refused.value.near) == ["english"]


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("Café CAFÉ cafe\u0301 cafe", ["cafe"] * 4),
        ("Ångström naïve Ñandú Çelik", ["angstrom", "naive", "nandu", "celik"]),
        ("Καλημέρα", ["καλημερα"]),
        ("ǖ", ["u"]),
        ("йод ёж", ["йод", "ёж"]),  # other letters, not accents
        ("가방 हिन्दी", ["가방", "हिन्दी"]),
        ("straße", ["straße"]),
    ],
)
def test_accents_are_folded_but_in_exact(text, terms):
    assert analyze(text, "simple") == terms
    assert analyze(text, "exact") == text.replace("e\u0301", "é").split()


def test_stems_and_stop_words_know_no_accents():
    assert analyze("the résumés thé", "english") == analyze("resumes", "english")
