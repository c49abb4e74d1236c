"""A catalog has one format, and is never opened by a release that does not know it."""

import contextlib
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from types import NoneType
from typing import Any

import pytest

from jammi_lab.catalog import Catalog, database
from jammi_lab.catalog.connection import Connection
from jammi_lab.catalog.schema import TABLES
from jammi_lab.core.errors import CatalogTooNew, WorkspaceNotFound
from tests.catalog.conftest import sqlite_only

pytestmark = pytest.mark.own_catalog


def test_the_created_tables_are_those_of_the_schema(lab):
    question = (
        "SELECT table_name, column_name, is_nullable = 'YES' FROM information_schema.columns "
        "WHERE table_schema = current_schema()"
        if lab.database.dialect.file is None
        else 'SELECT m.name, c.name, NOT c."notnull" FROM sqlite_master AS m, '
        "pragma_table_info(m.name) AS c WHERE m.type = 'table'"
    )
    with lab.database.read() as tx:
        made = {(table, column, bool(nullable)) for table, column, nullable in tx.fetch(question)}
    assert made == {
        (table.name, column.name, NoneType in column.types)
        for table in TABLES.values()
        for column in table.columns.values()
    }


def test_a_catalog_of_a_later_release_is_refused_and_left_alone(lab, open_catalog):
    with lab.database.write() as tx:
        tx.execute("UPDATE catalog_format SET format = '999'")
    for options in ({}, {"read_only": True}):
        with pytest.raises(CatalogTooNew, match="later release"):
            open_catalog(**options)
    with lab.database.write() as tx:
        tx.execute("UPDATE catalog_format SET format = '1'")
    open_catalog()


def test_a_catalog_whose_creation_fails_is_created_by_the_next_open(
    tmp_path, open_catalog, monkeypatch
):
    place = tmp_path / "catalog.sqlite3"
    with monkeypatch.context() as patched:
        patched.setattr(
            database, "CREATE_STATEMENTS", [*database.CREATE_STATEMENTS, "CREATE NONSENSE"]
        )
        with pytest.raises(sqlite3.OperationalError):
            open_catalog(place)
    with contextlib.closing(sqlite3.connect(place)) as db:
        assert db.execute("SELECT name FROM sqlite_master").fetchall() == []
    assert open_catalog(place).models.list() == []


def heard(run: Callable[..., Any], said: list[str]) -> Callable[..., Any]:
    """A method of a connection that also writes its statements down."""

    def hear(self: Connection, statement: str, *rest: object) -> Any:
        said.append(statement)
        return run(self, statement, *rest)

    return hear


def statements_of_an_open(
    place: Path | str, open_catalog: Callable[..., Catalog], monkeypatch: pytest.MonkeyPatch
) -> list[str]:
    said: list[str] = []
    with monkeypatch.context() as patched:
        for name in ("fetch", "execute"):
            patched.setattr(Connection, name, heard(getattr(Connection, name), said))
        open_catalog(place)
    return said


def test_opening_does_the_same_few_statements_whatever_the_catalog_holds(
    lab, open_catalog, monkeypatch
):
    empty = statements_of_an_open(lab.place, open_catalog, monkeypatch)
    for i in range(20):
        lab.ready(f"t{i}", "source:papers")
    assert statements_of_an_open(lab.place, open_catalog, monkeypatch) == empty
    assert len(empty) <= 6


@sqlite_only
@pytest.mark.parametrize("read_only", [False, True])
def test_a_database_of_something_else_is_no_catalog(tmp_path, open_catalog, read_only):
    place = tmp_path / "catalog.sqlite3"
    with contextlib.closing(sqlite3.connect(place)) as theirs:
        theirs.execute("CREATE TABLE dear(x)")
    before = place.read_bytes()
    with pytest.raises(WorkspaceNotFound, match="another program"):
        open_catalog(place, read_only=read_only)
    assert place.read_bytes() == before


def link(path: Path) -> None:
    path.symlink_to("elsewhere")


@sqlite_only
@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize("suffix", ["", "-wal", "-shm", "-journal", "-commits"])
@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, link])
def test_what_is_no_file_is_no_part_of_a_catalog(tmp_path, open_catalog, make, suffix, read_only):
    (tmp_path / "elsewhere").write_text("precious")
    place = tmp_path / "catalog.sqlite3"
    make(own := Path(f"{place}{suffix}"))
    with pytest.raises(
        WorkspaceNotFound, match=f"{own} is a link, or not a regular file"
    ) as caught:
        open_catalog(place, read_only=read_only)
    assert "rebuild" in caught.value.hint and os.path.lexists(own)
    assert (tmp_path / "elsewhere").read_text() == "precious"
