"""The cutting of INSERT, UPDATE and DELETE: no piece of a statement escapes the gate, wherever
something forbidden is put."""

import pytest

from jammi_lab.core.errors import JammiError, SqlError, StatementNotAllowed
from jammi_lab.engine import duckdb_instances as duck
from jammi_lab.engine.sql import parse as statements
from jammi_lab.engine.sql import tokens
from jammi_lab.engine.sql.parse import StatementKind
from tests.releases import ONLY_ON_1_5

CORPUS = (
    "INSERT INTO mutable.t WITH p AS (SELECT id AS i, v AS w FROM papers WHERE id > 3) SELECT i, w FROM p WHERE w = 'x' RETURNING id, v AS q",
    "INSERT INTO mutable.t AS m (id, v) VALUES (1, 'a'), (2, lower('B')) ON CONFLICT (id) WHERE id > 1 DO UPDATE SET v = excluded.v WHERE m.v = 'z'",
    "INSERT INTO mutable.t BY NAME FROM (SELECT 1 AS id, 'x' AS v)",
    "UPDATE mutable.t AS m SET v = CASE WHEN m.id > 2 THEN p.v ELSE m.v END, w = 7 FROM papers p JOIN crm.x y USING (id) WHERE p.id = m.id RETURNING m.v",
    "DELETE FROM mutable.t USING papers p, (SELECT max(id) AS b FROM papers) q WHERE p.id = t.id AND q.b IN (1, 2) AND EXISTS (FROM papers) RETURNING *",
    "UPDATE mutable.t SET v = (SELECT v FROM papers ORDER BY id LIMIT 1), w = list_transform([1], lambda x: x + 1)[1] WHERE id IS DISTINCT FROM 5",
)
# with a call inside, because `papers getenv('x')` is an alias with the name of a column
FORBIDDEN = (
    "current_setting(lower('threads'))",
    "getenv(upper('home'))",
    "(SELECT content FROM read_text('/etc/passwd'))",
    "(FROM duckdb_secrets())",
)


@pytest.fixture(scope="module")
def parser():
    connection = duck.open_parser()
    yield connection
    connection.close()


def parse(parser, text):
    return statements.parse(parser, text, allow_dml=True)


@pytest.mark.parametrize("text", CORPUS)
def test_the_statements_pass_as_they_are(parser, text):
    [parsed] = parse(parser, text)
    assert (
        parsed.kind is StatementKind.DML
        and parsed.text == text
        and parsed.reads.tables[0].parts == ("mutable", "t")
    )
    assert {named.parts for named in parsed.reads.tables} <= {
        ("mutable", "t"),
        ("papers",),
        ("crm", "x"),
    }
    for named in parsed.reads.tables:
        assert named.offset is not None and text.encode()[named.offset :].decode().startswith(
            named.parts[0]
        )


def test_nothing_forbidden_gets_through_wherever_it_is_put(parser):
    tried = 0
    for text in CORPUS:
        for at, body in tokens.all_tokens(text):
            word = body.decode().split("--")[0].rstrip()
            raw = text.encode()
            for poison in FORBIDDEN:
                for put in (
                    raw[:at] + poison.encode() + raw[at + len(word) :],
                    raw[:at] + poison.encode() + b", " + raw[at:],
                ):
                    tried += 1
                    with pytest.raises(
                        JammiError
                    ):  # it is refused, or it does not parse; it is never let through
                        parse(parser, put.decode())
    assert tried > 1000


@pytest.mark.parametrize(
    "text",
    [
        "INSERT INTO mutable.t SELECT 1; COPY mutable.t TO 'x'",
        "TRUNCATE mutable.t",
        "UPDATE mutable.t SET (v) = (1)",
        "UPDATE mutable.t SET v = 1 FROM read_csv('/etc/passwd')  -- unless it is a file that may be named",
        "DELETE FROM other.mutable.t",
        "DELETE FROM mutable.main.t",
        "INSERT INTO mutable.t SELECT * FROM pragma_table_info('x')",
        "INSERT INTO mutable.t PIVOT papers ON v",
        "DELETE FROM mutable.t WHERE id = $1",
        "DELETE FROM mutable.t WHERE id = ?",
    ],
)
def test_a_form_that_is_not_known_is_refused_in_its_words(parser, text):
    try:
        [parsed] = parse(parser, text)
    except (StatementNotAllowed, SqlError):
        return
    assert parsed.replaced, "only a call that is resolved like a name may stand there"


@pytest.mark.parametrize(
    "verb",
    ["INSERT INTO mutable.t VALUES (1)", "UPDATE mutable.t SET v = 1", "DELETE FROM mutable.t"],
)
def test_where_nothing_may_change_nothing_is_cut(parser, verb):
    with pytest.raises(StatementNotAllowed, match=verb.split()[0]):
        statements.parse(parser, verb)


@ONLY_ON_1_5
def test_comments_and_texts_with_keywords_in_them_cut_nothing(parser):
    text = "UPDATE /* SET x = 1 FROM y */ mutable.t -- WHERE\nSET v = 'a FROM b WHERE c RETURNING d' /* ; */ WHERE v <> $$x SET y$$"
    [parsed] = parse(parser, text)
    assert (
        parsed.dml_parts is not None
        and parsed.dml_parts.columns == ("v",)
        and parsed.dml_parts.returning is None
    )
