"""What a catalog on a PostgreSQL server does that a file does not: it is reached through a
connection, which may be refused or lost."""

import gc
import os
import sqlite3
import sys
import traceback
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest

from jammi_lab.catalog import Catalog, postgres
from jammi_lab.catalog import sqlite as dialects
from jammi_lab.core.clock import SystemClock
from jammi_lab.core.errors import (
    ExtensionMissing,
    InvalidArgument,
    JammiError,
    LostOwnership,
    ResourceExhausted,
    SourceUnavailable,
    TableDamaged,
    VersionConflict,
    WorkspaceReadOnly,
)
from jammi_lab.core.tenancy import TenantScope
from tests.catalog.conftest import Lab, postgresql_only
from tests.services.servers import free_port, in_database, run_postgres

pytestmark = pytest.mark.services
SECRET = "hunter2-4711"


def opened(url: str, **options: Any) -> Catalog:
    return Catalog(url, scope=TenantScope(), clock=SystemClock(), **options)


def backends(lab: Lab, url: str) -> dict[int, str]:
    """The server's processes for a catalog: what each did last."""
    schema = lab.database.dialect.schema
    rows = run_postgres(
        url, "SELECT pid, query FROM pg_stat_activity WHERE application_name = 'jammi_lab'"
    )
    mine = {raw.info.backend_pid for raw in connections(lab)}
    assert mine, schema
    return {pid: query for pid, query in rows if pid in mine}


def connections(lab: Lab) -> list[Any]:
    kept = [lab.writers.lock_store.connection]
    return kept + [handle.connection.raw for handle in lab.database.handles]


def end(url: str, raw: Any) -> None:
    """Let the server end a connection, and wait until it has."""
    pid = raw.info.backend_pid
    run_postgres(url, f"SELECT pg_terminate_backend({pid}, 5000)")


def of_thread(lab: Lab) -> Any:
    return lab.database.handles[0].connection.raw


def everything_shown(error: BaseException) -> str:
    return (
        "".join(traceback.format_exception(error))
        + repr(error)
        + " ".join(error.lines() if isinstance(error, JammiError) else [])
    )


# -- a connection that is lost ---------------------------------------------------------------------


@postgresql_only
def test_a_connection_that_was_lost_between_two_calls_is_not_noticed(lab, postgres_url):
    lab.metadata.set("a", "1")
    end(postgres_url, of_thread(lab))
    assert lab.metadata.get("a") == "1"
    end(postgres_url, of_thread(lab))
    lab.metadata.set("a", "2")
    assert lab.metadata.get("a") == "2"


@postgresql_only
def test_a_connection_that_is_lost_in_a_transaction_is_a_typed_error_and_the_next_call_works(
    lab, postgres_url
):
    for goes_on in (True, False):
        with pytest.raises(SourceUnavailable, match="was lost"), lab.transaction():
            lab.metadata.set("a", "1")
            end(postgres_url, of_thread(lab))
            if goes_on:
                lab.metadata.set("b", "1")
        assert lab.metadata.get("a") is None
    lab.metadata.set("a", "2")
    assert lab.metadata.get("a") == "2"


@postgresql_only
def test_the_lock_of_a_writer_whose_backend_was_ended_is_free_and_the_compare_and_set_keeps_its_rows_safe(
    lab, postgres_url, open_catalog
):
    begun = lab.begin("top")
    other = open_catalog()
    assert other.writers.is_alive(lab.writer)
    end(postgres_url, lab.writers.lock_store.connection)
    assert not other.writers.is_alive(lab.writer)
    for writer in other.writers.dead_writers():
        assert other.table_status.mark_failed(begun.table_name, writer, "taken for dead")
    with pytest.raises(LostOwnership):
        lab.table_status.publish(begun, b"{}")
    assert lab.writers.get(lab.writer).retired_at
    lab.writers.reacquire_lost()
    assert other.writers.is_alive(lab.writer) and not lab.writers.get(lab.writer).retired_at
    lab.table_status.publish(lab.begin("top"), b"{}")
    assert list(other.writers.dead_writers()) == []


@postgresql_only
def test_a_stopped_transaction_is_ended_by_the_server_so_that_others_can_write(lab):
    with lab.database.read() as tx:
        assert tx.fetch("SHOW idle_in_transaction_session_timeout")[0][0] == "2min"


@postgresql_only
def test_an_interrupt_inside_a_statement_leaves_the_next_call_a_connection(lab):
    raw = of_thread(lab)
    raw.execute("BEGIN")
    raw.pgconn.send_query(b"SELECT pg_sleep(30)")
    lab.metadata.set("a", "1")
    assert lab.metadata.get("a") == "1" and of_thread(lab) is not raw


# -- a fork ----------------------------------------------------------------------------------------


@postgresql_only
def test_a_forked_child_that_ends_takes_neither_lock_nor_connection_from_the_parent(
    lab, open_catalog, postgres_url
):
    other, before = open_catalog(), backends(lab, postgres_url)
    if (forked := os.fork()) == 0:
        lab.writers.close()
        for handle in lab.database.handles:
            handle.connection.raw.close()
        gc.collect()
        os._exit(0)
    assert os.waitpid(forked, 0)[1] == 0
    assert other.writers.is_alive(lab.writer)
    lab.metadata.set("a", "1")
    assert backends(lab, postgres_url).keys() == before.keys()


# -- a server that refuses -------------------------------------------------------------------------


@pytest.fixture
def guarded(postgres_url: str) -> Any:
    """A role with a password that the server would ask for, if it asked for one."""
    role = f"jammi_role_{os.getpid()}"
    run_postgres(postgres_url, f"CREATE ROLE {role} LOGIN")
    yield role
    run_postgres(postgres_url, f"DROP OWNED BY {role}", f"DROP ROLE {role}")


@pytest.mark.parametrize(
    "place",
    [
        "postgresql+psycopg://jammi_nobody:{secret}@{host}/{database}",
        "postgresql://postgres:{secret}@127.0.0.1:{free}/x",
        "postgresql://postgres:{secret}@{host}/jammi_none_such",
        "postgresql://postgres@{host}/jammi_none_such?password={secret}",
        "postgresql://postgres:{secret}@{host}/{database}?sslmode=nonsense",
        "postgresql://postgres:{secret}@{host}/{database}?nonsense=1",
        "postgresql://postgres:{secret}@{host}/",
        "postgresql://postgres:{secret}@{host}/{database}?schema=A%20B",
        "postgresql://postgres:{secret}@h:port/x",
        "mysql://postgres:{secret}@{host}/x",
        "postgresql+asyncpg://postgres:{secret}@{host}/x",
        "://{secret}",
    ],
)
def test_a_server_that_cannot_be_used_is_a_typed_error_without_the_password(postgres_url, place):
    host = postgres_url.split("@")[1].partition("/")[0]
    url = place.format(
        secret=SECRET, host=host, database=postgres_url.rsplit("/", 1)[1], free=free_port()
    )
    with pytest.raises((SourceUnavailable, InvalidArgument)) as failed:
        opened(url)
    assert SECRET not in everything_shown(failed.value)
    assert failed.value.hint


def test_a_server_that_asks_for_a_password_opens_with_it_and_says_so_without_it(
    strict_postgres_url, monkeypatch
):
    right = urlsplit(strict_postgres_url).password or ""
    opened(strict_postgres_url).close()
    for wrong in (SECRET, ""):
        with pytest.raises(SourceUnavailable, match="password") as failed:
            opened(strict_postgres_url.replace(right, wrong))
        assert SECRET not in everything_shown(failed.value)
    monkeypatch.setenv("PGPASSWORD", right)
    opened(strict_postgres_url.replace(f":{right}", "")).close()


def test_a_missing_driver_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ExtensionMissing, match=r"jammi-lab\[postgres\]"):
        opened(f"postgresql://u:{SECRET}@127.0.0.1/x")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        (f"postgresql://u:{SECRET}@x@h/d", "two @"),
        (f"postgresql://u:{SECRET}@h/d?nothing=1", "cannot be read"),
        (f"postgresql://u:{SECRET}%zz@h/d", "cannot be read"),
        (f"postgresql://u:{SECRET}@h/", "names no database"),
        (f"postgresql://u:{SECRET}@h/d?schema=a&schema=b", "schema name"),
        (f"mysql://u:{SECRET}@h/d", "'mysql' is not supported"),
        (f"u:{SECRET}@h/d", "cannot be read"),
    ],
)
def test_a_url_that_is_none_is_refused_without_its_password(url, message):
    with pytest.raises(InvalidArgument, match=message) as failed:
        opened(url)
    assert SECRET not in everything_shown(failed.value)


@pytest.mark.parametrize(
    ("url", "arguments", "schema"),
    [
        ("postgres://h/d", {"host": "h", "dbname": "d"}, "jammi"),
        (
            "postgresql+psycopg://u%40x:p%2Fw@h:1/d?schema=s&sslmode=require",
            {
                "user": "u@x",
                "password": "p/w",
                "host": "h",
                "port": "1",
                "dbname": "d",
                "sslmode": "require",
            },
            "s",
        ),
        ("postgresql:///d?host=%2Frun%2Fpg", {"host": "/run/pg", "dbname": "d"}, "jammi"),
    ],
)
def test_a_url_says_the_drivers_arguments_and_the_schema(url, arguments, schema):
    assert postgres._parse_url(url) == (arguments, schema)


def test_a_database_that_cannot_hold_every_text_is_refused(postgres_server):
    run_postgres(
        postgres_server,
        "DROP DATABASE IF EXISTS jammi_latin",
        "CREATE DATABASE jammi_latin ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0",
    )
    try:
        with pytest.raises(InvalidArgument, match="UTF8"):
            opened(in_database(postgres_server, "jammi_latin"))
    finally:
        run_postgres(postgres_server, "DROP DATABASE jammi_latin")


@postgresql_only
def test_a_user_who_may_only_read_reads_and_is_told_when_writing(lab, guarded, postgres_url):
    table, schema = lab.ready("top"), lab.database.dialect.schema
    url = str(lab.place).replace("//postgres@", f"//{guarded}@")
    for right in ("USAGE ON SCHEMA", "SELECT ON ALL TABLES IN SCHEMA"):
        with pytest.raises(SourceUnavailable, match="cannot be read: permission denied") as failed:
            opened(url, read_only=True)
        assert f"USAGE on the schema {schema} and SELECT" in failed.value.hint
        run_postgres(postgres_url, f"GRANT {right} {schema} TO {guarded}")
    with opened(url, read_only=True) as catalog:
        assert catalog.result_tables.newest("top")[1] == table
    with opened(url) as catalog, pytest.raises(WorkspaceReadOnly, match="permission denied"):
        catalog.metadata.set("a", "1")


def test_a_user_who_may_make_no_schema_is_told(postgres_url, guarded):
    with pytest.raises(WorkspaceReadOnly, match="permission denied"):
        opened(postgres_url.replace("//postgres@", f"//{guarded}@") + "?schema=forbidden")


@postgresql_only
def test_a_catalog_whose_tables_were_dropped_is_damaged(lab, open_catalog, postgres_url):
    other = open_catalog()
    run_postgres(postgres_url, f"ALTER TABLE {lab.database.dialect.schema}.meta RENAME TO lost")
    with pytest.raises(TableDamaged, match=r"jammi_lab\.rebuild"):
        other.metadata.get("a")
    run_postgres(postgres_url, f"ALTER TABLE {lab.database.dialect.schema}.lost RENAME TO meta")


@pytest.mark.parametrize(
    ("state", "kind"),
    [
        ("53100", ResourceExhausted),
        ("40001", VersionConflict),
        ("57014", SourceUnavailable),
        ("57P01", SourceUnavailable),
        ("42703", TableDamaged),
        ("22012", None),
    ],
)
@postgresql_only
def test_what_a_server_says_is_told_by_its_code(lab, state, kind):
    typed = lab.database.dialect.to_jammi_error(psycopg.errors.lookup(state)("x"))
    assert type(typed) is kind if kind else typed is None


# -- meaning the same as a file --------------------------------------------------------------------


@postgresql_only
def test_text_sorts_by_its_code_points(lab):
    for name in ("b", "_a", "Ä", "a", "a b", "A-c"):
        lab.define(name)
    folds = [r.name.casefold() for r in lab.recipes.list()]
    assert folds == sorted(folds)


@postgresql_only
def test_a_writer_waits_for_the_one_before_it_and_not_forever(lab, open_catalog, monkeypatch):
    monkeypatch.setattr(dialects, "LOCK_SECONDS", 0.1)
    other = open_catalog()
    with lab.transaction():
        assert other.metadata.get("a") is None  # who only reads waits for nobody
        with pytest.raises(VersionConflict, match="locked"):
            other.metadata.set("a", "1")
    other.metadata.set("a", "1")


@postgresql_only
def test_a_backup_is_one_sqlite_file_with_every_row(lab, tmp_path):
    with lab.scope.use("acme"):
        lab.ready("own", "source:papers")
    table = lab.ready("top", "source:papers")
    lab.metadata.set("größe", "1")
    target = tmp_path / "backup.sqlite3"
    for _ in range(2):
        lab.backup(target)
    assert [path.name for path in tmp_path.iterdir()] == ["backup.sqlite3"]
    with Catalog(target, scope=TenantScope(), clock=SystemClock(), read_only=True) as copy:
        assert copy.result_tables.newest("top")[1] == table and copy.metadata.get("größe") == "1"
        assert [link.edge for link in copy.lineage.all_edges()] == [
            link.edge for link in lab.lineage.all_edges()
        ]
        with copy.all_tenants():
            assert copy.result_tables.names() == ["own", "top"]
    (tmp_path / "folder").mkdir()
    with pytest.raises(InvalidArgument):
        lab.backup(tmp_path / "folder")


@pytest.mark.only_soak
@postgresql_only
def test_a_backup_of_many_rows_holds_few_of_them_at_once(lab, tmp_path):
    for i in range(2100):
        lab.metadata.set(f"k{i}", "v")
    lab.backup(tmp_path / "backup.sqlite3")
    with sqlite3.connect(tmp_path / "backup.sqlite3") as db:
        assert db.execute("SELECT count(*) FROM meta WHERE value = 'v'").fetchone() == (2100,)
    db.close()
