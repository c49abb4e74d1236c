"""Texts that were read before: what is known of them, and what is found out anew."""

from __future__ import annotations

import time

import pyarrow as pa
import pytest

from jammi_lab.core.errors import SqlError
from jammi_lab.engine import engine, statement_binding
from jammi_lab.engine.sql import parse as statements


@pytest.fixture(autouse=True)
def done(monkeypatch) -> list[str]:
    """What was parsed and bound, in turn, by a process that knows no text yet."""
    engine._parse_cached.cache_clear()
    done, parse, bind = list[str](), statements.parse, statement_binding.bind
    monkeypatch.setattr(
        statements, "parse", lambda *said, **how: done.append("parsed") or parse(*said, **how)
    )
    monkeypatch.setattr(
        statement_binding, "bind", lambda *said, **how: done.append("bound") or bind(*said, **how)
    )
    return done


def test_it_is_bound_anew_over_other_columns(shelf, prepare, done):
    text = "SELECT * FROM papers"
    prepare(text)
    shelf.frame("papers", table=pa.table({"other": [1]}), kind="source")
    assert prepare(text).output == [("other", "BIGINT")] and done == ["parsed", "bound", "bound"]
    shelf.frame("papers", table=pa.table({"other": ["x"]}), kind="source")
    assert prepare(text).output == [("other", "VARCHAR")]


def test_values_of_parameters_are_bound_each_time(prepare, done):
    assert prepare("SELECT $x AS x FROM papers", x=1).output == [("x", "INTEGER")]
    assert prepare("SELECT $x AS x FROM papers", x="a").output == [("x", "VARCHAR")]
    assert done == ["parsed", "bound", "bound"]


def test_what_one_binding_made_of_a_word_is_not_said_of_the_next(shelf, prepare):
    text = "SELECT current_date AS day FROM papers"
    shelf.frame("papers", table=pa.table({"current_date": [1]}), kind="source")
    assert not prepare(text).reads_clock
    shelf.frame("papers", table=pa.table({"other": [1]}), kind="source")
    assert prepare(text).reads_clock and prepare(text).reads_clock
    shelf.frame("papers", table=pa.table({"current_date": [1]}), kind="source")
    assert not prepare(text).reads_clock


@pytest.mark.parametrize(
    "text", ["/*'" * 50_000, "$a$'\"/*" * 20_000, "1'"], ids=["/*", "$a$", "'"]
)
def test_quotes_without_an_end_are_read_in_time_and_stay(prepare, text):
    begun = time.process_time()
    with pytest.raises(SqlError):
        prepare(f"SELECT {text}")
    assert time.process_time() - begun < 5
