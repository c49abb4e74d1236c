"""The questions of the first days are answered on the pages that the list names."""

import re

import pytest

from tests.cases import cases
from tests.docs.pages import DOCS, read

ANSWERS = cases("prose/questions", "words", "answer")


def rows():
    text = read(DOCS / "questions.md")
    return re.findall(r"^\| (.+?\?) \| (.+) \|$", text, re.MULTILINE)


def test_each_question_is_asked_once():
    assert len(ANSWERS) == 26
    asked = set()
    for words, _ in ANSWERS:
        [question] = [question for question, _ in rows() if words in question]
        asked.add(question)
    assert len(asked) == len(rows())


@pytest.mark.parametrize(("words", "answer"), ANSWERS, ids=[words for words, _ in ANSWERS])
def test_the_page_that_a_question_names_has_the_answer(words, answer):
    [links] = [
        re.findall(r"\]\(([^)#]+)", cells) for question, cells in rows() if words in question
    ]
    assert any(answer in read(DOCS / link) for link in links)
