"""The questions of the first days are answered on the pages that the list names."""

import re

import pytest

from tests.docs.pages import DOCS

ANSWERS = [
    ("embedding model behind an HTTP API", "def encode(self, texts):"),
    ("sentence-transformers model", "SentenceTransformer("),
    ("plain function be the encoder", "def letters(texts):"),
    ("a team share", "catalog in PostgreSQL, results in a bucket"),
    ("on NFS", "A workspace folder on NFS, SMB or Lustre is refused"),
    ("back it up", "ws.backup("),
    ("run it each night", "15 2 * * *"),
    ("a GitHub Action", "actions/setup-python"),
    ("delete a person's data", "ws.expire(recipe.name, keep=1)"),
    ("con.sql", '`ws.sql("SELECT …").pandas()`'),
    ("%%sql --save", "`%%jammi -m a`"),
    ("How large may", "map of vectors"),
    ("Marquez", "http://localhost:5000/api/v1/lineage"),
    ("bring a kind of source", "jammi_lab.connectors"),
    ("… a producer?", "jammi_lab.producers"),
    ("NULL and NaN", "NULL and NaN are different values in SQL"),
    ("time zone", "AT TIME ZONE"),
    ("Python value into SQL", "$year"),
    ("password of my database", "secret="),
    ("Why is this table stale", "possibly stale"),
    ("yesterday's version", ".restore()"),
    ("keep it from being recomputed", "ws.hold("),
    ("paid model for each row", "cost=0.02"),
    ("test the rows", "ws.checks.add("),
    ("plot a result", ".chart()"),
    ("kernel died", "kill"),
]


def rows():
    text = (DOCS / "questions.md").read_text(encoding="utf-8")
    return re.findall(r"^\| (.+?\?) \| (.+) \|$", text, re.MULTILINE)


def test_each_question_is_asked_once():
    assert len(rows()) == len(ANSWERS) == 26
    for words, _ in ANSWERS:
        assert len([question for question, _ in rows() if words in question]) == 1, words


@pytest.mark.parametrize(("words", "answer"), ANSWERS, ids=[words for words, _ in ANSWERS])
def test_the_page_that_a_question_names_has_the_answer(words, answer):
    [links] = [
        re.findall(r"\]\(([^)#]+)", cells) for question, cells in rows() if words in question
    ]
    assert any(answer in (DOCS / link).read_text(encoding="utf-8") for link in links)
