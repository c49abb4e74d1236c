"""A catalog knows its format, and is never opened by a release that does not."""

import contextlib
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from jammi_lab.catalog import Catalog, migrations
from jammi_lab.catalog.schema import metadata
from jammi_lab.core.errors import CatalogTooNew, WorkspaceNotFound, WorkspaceReadOnly
from tests.catalog.conftest import Lab, sqlite_only

pytestmark = pytest.mark.migrates

NEXT = migrations.newest_number() + 1


def test_the_migrated_tables_are_those_of_the_schema(lab: Lab) -> None:
    with lab.catalog.database.read() as tx:
        found = sa.inspect(tx)
        assert set(found.get_table_names()) == set(metadata.tables)
        for table in metadata.tables.values():
            made = {
                c["name"]: (c["type"]._type_affinity, c["nullable"])
                for c in found.get_columns(table.name)
            }
            assert made == {c.name: (c.type._type_affinity, c.nullable) for c in table.c}


def test_a_catalog_of_a_later_release_is_refused_and_left_alone(
    lab: Lab, open_catalog: Callable[..., Catalog]
) -> None:
    with lab.catalog.database.write() as tx:
        tx.exec_driver_sql("INSERT INTO migrations VALUES (999, 'later', 'then')")
    for options in ({}, {"read_only": True}):
        with pytest.raises(CatalogTooNew, match="later release"):
            open_catalog(**options)
    with lab.catalog.database.write() as tx:
        tx.exec_driver_sql("DELETE FROM migrations WHERE number = 999")
    open_catalog()


def test_an_earlier_catalog_is_brought_up_once_and_not_by_a_reader(
    lab: Lab, open_catalog: Callable[..., Catalog], monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.ready("top")
    monkeypatch.setattr(
        migrations,
        "MIGRATIONS",
        (*migrations.MIGRATIONS, (NEXT, "more", ("ALTER TABLE meta ADD COLUMN more TEXT",))),
    )
    with pytest.raises(WorkspaceReadOnly, match="earlier format"):
        open_catalog(read_only=True)
    for _ in range(2):
        catalog = open_catalog()
    with catalog.database.read() as tx:
        assert tx.exec_driver_sql("SELECT number, name FROM migrations ORDER BY 1").all() == [
            (n, name) for n, name, _ in migrations.MIGRATIONS
        ]
    assert catalog.result_tables.newest("top")[0].version == 1


def test_a_catalog_of_the_first_format_gets_its_models_table_and_keeps_what_it_has(
    open_catalog: Callable[..., Catalog], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as earlier:
        earlier.setattr(migrations, "MIGRATIONS", migrations.MIGRATIONS[:1])
        open_catalog().metadata.set("kept", "yes")
    catalog = open_catalog()
    assert (catalog.metadata.get("kept"), catalog.models.list()) == ("yes", [])


def test_a_migration_that_fails_leaves_the_catalog_as_it_was(
    lab: Lab, open_catalog: Callable[..., Catalog], monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = (NEXT, "broken", ("ALTER TABLE meta ADD COLUMN more TEXT", "CREATE NONSENSE"))
    with monkeypatch.context() as patched:
        patched.setattr(migrations, "MIGRATIONS", (*migrations.MIGRATIONS, broken))
        with pytest.raises(sa.exc.DBAPIError):
            open_catalog()
    with open_catalog().database.read() as tx:
        assert [c["name"] for c in sa.inspect(tx).get_columns("meta")] == ["key", "value"]


def statements_of_an_open(
    place: Path | str, open_catalog: Callable[..., Catalog], monkeypatch: pytest.MonkeyPatch
) -> list[str]:
    said: list[str] = []
    real = sa.Connection.exec_driver_sql

    def hear(self: sa.Connection, statement: str, *rest: object) -> object:
        said.append(statement)
        return real(self, statement, *rest)

    with monkeypatch.context() as patched:
        patched.setattr(sa.Connection, "exec_driver_sql", hear)
        open_catalog(place)
    return said


def test_opening_does_the_same_few_statements_whatever_the_catalog_holds(
    lab: Lab, open_catalog: Callable[..., Catalog], monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = statements_of_an_open(lab.place, open_catalog, monkeypatch)
    for i in range(20):
        lab.ready(f"t{i}", "source:papers")
    assert statements_of_an_open(lab.place, open_catalog, monkeypatch) == empty
    assert len(empty) <= 6


@sqlite_only
@pytest.mark.parametrize("read_only", [False, True])
def test_a_database_of_something_else_is_no_catalog(
    tmp_path: Path, open_catalog: Callable, read_only: bool
) -> None:
    place = tmp_path / "catalog.sqlite3"
    with contextlib.closing(sqlite3.connect(place)) as theirs:
        theirs.execute("CREATE TABLE dear(x)")
    before = place.read_bytes()
    with pytest.raises(WorkspaceNotFound, match="another program"):
        open_catalog(place, read_only=read_only)
    assert place.read_bytes() == before


@sqlite_only
@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
def test_what_is_no_file_is_no_catalog(
    tmp_path: Path, open_catalog: Callable, make: Callable, read_only: bool
) -> None:
    place = tmp_path / "catalog.sqlite3"
    make(place)
    with pytest.raises(WorkspaceNotFound, match="is not a regular file") as caught:
        open_catalog(place, read_only=read_only)
    assert "rebuild" in caught.value.hint and place.exists()
