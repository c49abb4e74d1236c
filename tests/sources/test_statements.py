"""What a statement may not hold, and what is said of names and functions that it cannot read."""

import pytest

import jammi_lab as jl
from jammi_lab.core import redaction as scrubbing
from jammi_lab.core.errors import (
    SecretMissing,
    SourceUnavailable,
    StatementNotAllowed,
    TableNotFound,
)
from jammi_lab.core.identifiers import copyable_name, quoted_name
from tests.sources.kinds import write_sqlite

CANARY = "Hunter2-canary"


@pytest.fixture(autouse=True)
def forgotten():
    """What is remembered here is struck out here only."""
    before = scrubbing._credentials.copy()
    yield
    scrubbing._credentials.clear()
    scrubbing._credentials.update(before)
    scrubbing._credential_pattern.cache_clear()


@pytest.fixture
def crm(ws, tmp_path):
    write_sqlite(tmp_path / "crm.db", 'CREATE TABLE "my table"(a)', "CREATE TABLE orders(a)")
    return ws.sources.add("my crm", f"sqlite:///{tmp_path}/crm.db")


# -- passwords -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sql",
    [
        f"SELECT 1 AS a -- from postgresql://me:{CANARY}@db/crm",
        f"SELECT 1 AS a /* mysql+driver://me:{CANARY}@db/crm */",
        f"SELECT 'https://me:{CANARY}@example.org/x' AS a",
        f"FROM 'postgresql://me:{CANARY}@db/crm'",
        f"ATTACH 'postgresql://me:{CANARY}@db/crm' AS x",
        f"SELECT * FROM postgres_scan('host=db user=me password={CANARY}', 'public', 't')",
        f"SELECT 1 AS a -- dbname=crm PASSWORD = '{CANARY}'",
        f"SELECT $$postgresql://me:{CANARY}@db/crm$$ AS a",
        f"SELECT 1; SELECT 2 AS a -- postgresql://me:{CANARY}@db/crm",
    ],
)
def test_a_statement_with_a_password_is_refused_and_neither_kept_nor_shown(ws, tmp_path, sql):
    for act in (ws.sql, lambda text: ws.materialize("t", text), lambda text: ws.define("t", text)):
        with pytest.raises(StatementNotAllowed, match="password") as caught:
            act(sql)
        said = (
            "\n".join(caught.value.rendered_lines()) + str(caught.value) + repr(vars(caught.value))
        )
        assert CANARY not in said and "secret='NAME_OF_A_VARIABLE'" in said
    assert "t" not in ws
    ws.close()
    assert not [
        path
        for path in tmp_path.rglob("*")
        if path.is_file() and CANARY.encode() in path.read_bytes()
    ]


def test_the_secret_of_a_source_may_stand_in_no_text_or_comment_of_a_statement(ws):
    scrubbing.remember_credential(CANARY)
    for sql in (
        f"SELECT 1 AS a -- {CANARY}",
        f"SELECT '{CANARY}' AS a",
        f"SELECT $x${CANARY}$x$ AS a",
    ):
        with pytest.raises(StatementNotAllowed, match="the secret of a source") as caught:
            ws.materialize("t", sql)
        assert CANARY not in "\n".join(caught.value.rendered_lines())


def test_a_bound_value_that_a_definition_would_keep_is_refused_as_well(ws):
    address = f"postgresql://me:{CANARY}@db/crm"
    with pytest.raises(StatementNotAllowed, match=r"\$where contains a password") as caught:
        ws.materialize("t", "SELECT $where AS a", params={"where": address})
    assert CANARY not in "\n".join(caught.value.rendered_lines())
    assert ws.sql("SELECT length($where) AS n", where=address).fetchall() == [(len(address),)], (
        "what is kept nowhere may be anything"
    )


def test_what_only_looks_like_a_password_is_no_reason(ws):
    scrubbing.remember_credential("password")
    scrubbing.remember_credential("Postgres")
    for sql in (
        "SELECT 'postgresql://me@db:5432/crm' AS a -- no password in it",
        "SELECT 'the password = none' AS a WHERE 'Postgres' <> 'https://example.org:80/x'",
        "SELECT a FROM (SELECT 'x' AS password, 1 AS a) WHERE password = 'x'",
        "SELECT '10:30@noon' AS a, 'me:you@example.org' AS b, '%://%:%@%' AS c",
    ):
        assert len(ws.sql(sql).fetchall()) == 1, sql


# -- names and functions ---------------------------------------------------------------------------


def test_near_names_can_be_pasted(ws, crm):
    ws.materialize("a b", "SELECT 1 AS a")
    for sql in ('FROM "my cr"', 'FROM "my crm"."my tabl"', 'FROM jammi."a bb"'):
        with pytest.raises(TableNotFound) as caught:
            ws.sql(sql)
        near = caught.value.near[0]
        if near == '"my crm"':
            near += ".orders"
        ws.sql(f"SELECT * FROM {near}").fetchall()
    with pytest.raises(TableNotFound) as caught:
        ws.sql('FROM "my crm"')
    assert (
        ws.sql(caught.value.hint.removeprefix("Name a table, for example ").rstrip(".")).fetchall()
        == []
    )


def test_a_name_is_quoted_only_where_it_must_be():
    assert (
        quoted_name("crm", "orders") == "crm.orders"
        and quoted_name("order", "order") == '"order".order'
    )
    assert quoted_name('my "x"', "a.b") == '"my ""x"""."a.b"'
    assert (
        copyable_name("jammi.a b") == 'jammi."a b"'
        and copyable_name("a.b") == '"a.b"'
        and copyable_name("jammi.t") == "jammi.t"
    )


def test_a_path_whose_kind_cannot_be_told_says_how_to_say_it(ws, tmp_path):
    file = tmp_path / "passwd"
    file.write_text("a,b\n1,2\n")
    with pytest.raises(StatementNotAllowed, match="cannot be inferred from its name") as caught:
        ws.sql(f"FROM '{file}'")
    assert f"FROM read_csv('{file}')" in caught.value.hint
    assert ws.sql(f"FROM read_csv('{file}')").fetchall() == [(1, 2)]


def test_a_path_that_is_not_there_is_told_alike_both_ways(ws, tmp_path):
    said = []
    for sql in (f"FROM '{tmp_path}/no.csv'", f"FROM read_csv('{tmp_path}/no.csv')"):
        with pytest.raises(SourceUnavailable) as caught:
            ws.sql(sql)
        assert caught.value.position == 5
        said.append((caught.value.message, caught.value.near, caught.value.hint))
    assert said[0] == said[1]


def test_sources_are_listed_as_a_table(ws, crm):
    lines = repr(ws.sources.list()).splitlines()
    assert lines[0].split() == ["name", "kind", "location", "tables", "anchor"] and lines[
        2
    ].startswith("my crm  sqlite")
    assert "my table, orders  auto" in lines[2]
    assert (
        repr(ws.sources.list()) == repr(ws.sources)
        and ws.sources.list()._repr_html_() == ws.sources._repr_html_()
    )
    assert [source.name for source in ws.sources.list()] == ["my crm"]


def test_a_secret_that_is_gone_is_asked_for_with_the_whole_call(tmp_path):
    (tmp_path / "f.csv").write_text("owner,a\nacme,1\n")
    options = {"delim": ","}
    with jl.open(tmp_path / "ws") as ws:
        ws.sources.add(
            "f",
            "https://127.0.0.1:1/f.csv",
            secret=lambda: "x",
            check=False,
            options=options,
            tenant_column="owner",
            anchor="content",
        )
    with jl.open(tmp_path / "ws") as ws:
        with pytest.raises(
            SecretMissing,
            match="takes its secret from a function that this kernel does not have",
        ) as caught:
            ws.sql("FROM f")
        assert caught.value.hint == (
            "Add it again: ws.sources.add('f', 'https://127.0.0.1:1/f.csv', secret=your_function, anchor='content', tenant_column='owner', "
            "options={'delim': ','}, replace=True)."
        )
