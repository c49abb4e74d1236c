"""Tables of PostgreSQL whose rows are proven to be those of an earlier digest by their versions."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit, urlunsplit

import pytest

import jammi_lab
from jammi_lab.core.verdicts import Fresh, Stale
from tests.services.servers import in_database, run_postgres
from tests.verdicts import is_fresh, is_stale
from tests.waiting import until

pytestmark = pytest.mark.services


@pytest.fixture
def run(postgres_url) -> Iterator[Callable[..., None]]:
    """Runs statements in which `{t}` is a name of this test alone, each in a transaction."""
    name = f"t_{secrets.token_hex(4)}"

    def run(*statements: str) -> None:
        run_postgres(postgres_url, *(statement.replace("{t}", name) for statement in statements))

    run.name = name
    run("CREATE TABLE {t} (id integer, v text)", "INSERT INTO {t} VALUES (1, 'a'), (2, 'b')")
    run("CREATE TABLE {t}_beside (id integer)")
    yield run
    run(
        "DROP TABLE IF EXISTS {t} CASCADE",
        "DROP TABLE IF EXISTS {t}_beside, {t}_old, {t}_new",
        "DROP TYPE IF EXISTS {t}_mood",
    )


@pytest.fixture
def ws(tmp_path, postgres_url) -> Iterator[jammi_lab.Workspace]:
    with jammi_lab.open(tmp_path / "ws") as opened:
        opened.sources.add("pg", postgres_url)
        yield opened


def digests(sent: list[str]) -> int:
    return sum("hashtextextended" in query for query in sent)


def as_user(url: str, user: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"{user}@{parts.hostname}:{parts.port or 5432}"))


ELSEWHERE = ("INSERT INTO {t}_beside VALUES (1)",)


@pytest.mark.parametrize(
    "statements",
    [ELSEWHERE, ("VACUUM (FREEZE) {t}", *ELSEWHERE), ("ANALYZE {t}", *ELSEWHERE)],
    ids=["a commit elsewhere", "freezing", "statistics"],
)
def test_versions_prove_the_rows_without_a_digest(ws, run, sent, statements):
    def is_proven() -> bool:
        before = ws.sources["pg"].anchor(run.name)
        run(*statements)
        sent.clear()
        assert ws.sources["pg"].anchor(run.name).value == before.value
        return digests(sent) == 0

    # Transactions of others that were open when the rows were written leave it open for a while.
    assert until(is_proven)


CHANGES = {
    "update": ["UPDATE {t} SET v = 'z' WHERE id = 1"],
    "delete": ["DELETE FROM {t} WHERE id = 1"],
    "insert": ["INSERT INTO {t} VALUES (3, 'c')"],
    "as many others": ["DELETE FROM {t} WHERE id = 1", "INSERT INTO {t} VALUES (1, 'z')"],
    "truncated": ["TRUNCATE {t}"],
    "rewritten": ["ALTER TABLE {t} ALTER v TYPE text USING v || 'x'"],
    "a column with a default": ["ALTER TABLE {t} ADD n integer DEFAULT 7"],
    "an inherited table": [
        "CREATE TABLE {t}_new () INHERITS ({t})",
        "INSERT INTO {t}_new VALUES (9)",
    ],
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_of_the_rows_is_seen(ws, run, change):
    before = ws.sources["pg"].anchor(run.name)
    run(*CHANGES[change], *ELSEWHERE)
    assert ws.sources["pg"].anchor(run.name) != before


def test_frozen_rows_that_were_loaded_are_seen(ws, run):
    """A load with FREEZE shows its rows as if they were old; their numbers are new."""
    before = ws.sources["pg"].anchor(run.name)
    run(
        "BEGIN; TRUNCATE {t}; COPY {t} FROM PROGRAM 'printf \"1\\ta\\n2\\tz\\n\"' WITH (FREEZE); COMMIT"
    )
    assert ws.sources["pg"].anchor(run.name).value != before.value


def test_a_partition_in_place_of_another_is_seen(ws, run):
    """Its rows are as old, and as many."""
    run(
        "CREATE TABLE {t}_new (id integer, v text)",
        "INSERT INTO {t}_new VALUES (1, 'y'), (2, 'z')",
        "ALTER TABLE {t} RENAME TO {t}_old",
        "CREATE TABLE {t} (id integer, v text) PARTITION BY LIST (id)",
        "ALTER TABLE {t} ATTACH PARTITION {t}_old DEFAULT",
    )
    before = ws.sources["pg"].anchor(run.name)
    run(
        "ALTER TABLE {t} DETACH PARTITION {t}_old",
        "ALTER TABLE {t} ATTACH PARTITION {t}_new DEFAULT",
    )
    assert ws.sources["pg"].anchor(run.name).value != before.value


def test_a_database_that_was_made_anew_from_a_copy_is_another_one(tmp_path, fresh_postgres_url):
    """Its tables have the numbers, the files and the row versions of the copied ones."""
    url = fresh_postgres_url
    name = urlsplit(url).path.lstrip("/")
    elsewhere = in_database(url, "postgres")
    run_postgres(url, "CREATE TABLE t (id integer, v text)", "INSERT INTO t VALUES (1, 'a')")
    run_postgres(elsewhere, f"CREATE DATABASE {name}_copy TEMPLATE {name}")
    try:
        run_postgres(url, "UPDATE t SET v = 'b'")
        with jammi_lab.open(tmp_path / "ws") as ws:
            ws.sources.add("pg", url)
            ws.materialize("d", "SELECT id, v FROM pg.t")
            assert is_fresh(ws, "d")
            made_from = ws.sources["pg"].anchor("t")
        with jammi_lab.open(tmp_path / "ws") as ws:
            run_postgres(elsewhere, f"DROP DATABASE {name} WITH (FORCE)")
            run_postgres(elsewhere, f"ALTER DATABASE {name}_copy RENAME TO {name}")
            assert run_postgres(url, "SELECT v FROM t") == [("a",)]
            assert ws.sources["pg"].anchor("t").value != made_from.value
            assert is_stale(ws, "d")
    finally:
        run_postgres(elsewhere, f"DROP DATABASE IF EXISTS {name}_copy WITH (FORCE)")


def test_another_column_of_a_partition_with_the_same_name_is_seen(ws, run):
    """Adding a column with a default writes no row."""
    run(
        "ALTER TABLE {t} RENAME TO {t}_part",
        "CREATE TABLE {t} (id integer, v text) PARTITION BY LIST (id)",
        "ALTER TABLE {t} ATTACH PARTITION {t}_part DEFAULT",
    )
    before = ws.sources["pg"].anchor(run.name)
    run(
        "ALTER TABLE {t} DETACH PARTITION {t}_part",
        "ALTER TABLE {t}_part DROP v",
        "ALTER TABLE {t}_part ADD v text DEFAULT 'other'",
        "ALTER TABLE {t} ATTACH PARTITION {t}_part DEFAULT",
    )
    assert ws.sources["pg"].anchor(run.name).value != before.value


def test_a_value_whose_text_changes_where_it_lies_is_digested(ws, run, sent):
    run(
        "CREATE TYPE {t}_mood AS ENUM ('a', 'b')",
        "ALTER TABLE {t} ADD r regclass DEFAULT '{t}_beside'::regclass, ADD m {t}_mood DEFAULT 'a'",
    )
    before = ws.sources["pg"].anchor(run.name, ["r"])
    sent.clear()
    run("ALTER TABLE {t}_beside RENAME TO {t}_new")
    after = ws.sources["pg"].anchor(run.name, ["r"])
    run("ALTER TABLE {t}_new RENAME TO {t}_beside")
    assert after.value != before.value and digests(sent) == 1


def test_rows_of_an_open_transaction_are_digested_when_they_are_there(ws, run, postgres_url):
    psycopg = pytest.importorskip("psycopg")
    with psycopg.connect(postgres_url) as writer:
        writer.execute(f"DELETE FROM {run.name} WHERE id = 1")
        writer.execute("SAVEPOINT s")
        writer.execute(f"INSERT INTO {run.name} VALUES (1, 'z')")
        before = ws.sources["pg"].anchor(run.name)
        writer.commit()
    assert ws.sources["pg"].anchor(run.name).value != before.value


def test_tables_of_one_server_are_looked_up_together(ws, run, sent):
    run("CREATE TABLE {t}_old AS SELECT * FROM {t}", "CREATE TABLE {t}_new AS SELECT * FROM {t}")
    names = [run.name, f"{run.name}_old", f"{run.name}_new"]
    for number, name in enumerate(names):
        ws.materialize(f"d{number}", f"SELECT id, v FROM pg.{name}")

    def are_proven() -> bool:
        run(*ELSEWHERE)
        sent.clear()
        status = ws.status()
        assert all(isinstance(status[f"d{n}"].verdict, Fresh) for n in range(3))
        assert sum("pg_relation_filenode" in query for query in sent) <= 2 + digests(sent)
        return digests(sent) == 0

    assert until(are_proven)
    run("UPDATE {t}_old SET v = 'z' WHERE id = 1")
    sent.clear()
    verdicts = [ws.staleness(f"d{n}") for n in range(3)]
    assert [type(v) for v in verdicts] == [Fresh, Stale, Fresh]


def test_a_table_of_which_only_columns_may_be_read_is_digested(tmp_path, run, postgres_url, sent):
    role = f"{run.name}_role"
    run(f"CREATE ROLE {role} LOGIN", f"GRANT SELECT (id) ON {{t}} TO {role}")
    try:
        with jammi_lab.open(tmp_path / "ws") as ws:
            ws.sources.add("pg", as_user(postgres_url, role))
            before = ws.sources["pg"].anchor(run.name, ["id"])
            run(*ELSEWHERE)
            sent.clear()
            assert ws.sources["pg"].anchor(run.name, ["id"]).value == before.value
            assert digests(sent) == 1 and not any("age(xmin)" in query for query in sent)
    finally:
        run(f"DROP OWNED BY {role}", f"DROP ROLE {role}")
