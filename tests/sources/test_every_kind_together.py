"""All kinds of sources in one workspace and one statement: each joins every other, and each alone
makes its own table stale."""

from __future__ import annotations

import json
import os
import secrets
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import duckdb
import openpyxl
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet
import pytest
from deltalake import write_deltalake
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.utils.concurrent import ExecutorFactory

import jammi_lab
from jammi_lab.core.errors import SourceUnavailable, TableNotFound
from jammi_lab.core.verdicts import Fresh, Stale
from tests.services.servers import run_mysql, run_postgres
from tests.services.stores import parquet_bytes
from tests.sizes import soak, thinned

pytestmark = [soak, pytest.mark.services, pytest.mark.slow]
os.environ["PYICEBERG_MAX_WORKERS"] = "1"
ExecutorFactory.get_or_create().submit(int).result()  # its thread stays for the life of the process
IDS = [1, 2, 3]
FILES = {
    "parquet": pyarrow.parquet.write_table,
    "csv": pyarrow.csv.write_csv,
    "tsv": lambda rows, path: pyarrow.csv.write_csv(
        rows, path, pyarrow.csv.WriteOptions(delimiter="\t")
    ),
    "json": lambda rows, path: Path(path).write_text(json.dumps(rows.to_pylist())),
    "ndjson": lambda rows, path: Path(path).write_text(
        "\n".join(map(json.dumps, rows.to_pylist()))
    ),
    "arrow": pyarrow.feather.write_feather,
}


def numbers(ids: list[int]) -> pa.Table:
    return pa.table({"id": pa.array(ids, pa.int64())})


class Sources:
    """Every kind with the rows 1, 2 and 3, in a workspace, under its name; `grow` adds a row to one
    of them, `vanish` takes what it reads away."""

    def __init__(self, ws: jammi_lab.Workspace, folder: Path) -> None:
        self.ws, self.folder = ws, folder
        self.address: dict[str, str] = {}
        self.grow: dict[str, Callable[[], object]] = {}
        self.vanish: dict[str, Callable[[], object]] = {}

    def add(
        self,
        name: str,
        location: object,
        table: str,
        grow: Callable[[], object],
        vanish: Callable[[], object],
        **how: object,
    ) -> None:
        self.ws.sources.add(name, location, **how)
        self.address[name], self.grow[name], self.vanish[name] = (
            f"{name}.{table}" if table else name,
            grow,
            vanish,
        )

    def joined(self) -> str:
        first, *rest = self.address.values()
        return (
            f"SELECT id FROM {first} "
            + " ".join(f"JOIN {address} USING (id)" for address in rest)
            + " ORDER BY id"
        )

    def files(self) -> None:
        for kind, write in FILES.items():
            path = self.folder / f"f.{kind}"
            write(numbers(IDS), str(path))
            self.add(
                f"{kind}_file",
                str(path),
                "",
                lambda write=write, path=path: write(numbers([*IDS, 4]), str(path)),
                path.unlink,
            )

    def workbook(self) -> None:
        def write(ids: list[int]) -> None:
            book = openpyxl.Workbook()
            for row in (["id"], *([i] for i in ids)):
                book.active.append(row)
            book.save(self.folder / "f.xlsx")

        write(IDS)
        self.add(
            "xlsx_file",
            str(self.folder / "f.xlsx"),
            "",
            lambda: write([*IDS, 4]),
            (self.folder / "f.xlsx").unlink,
        )

    def database_files(self) -> None:
        def lite(text: str) -> None:
            with closing(sqlite3.connect(self.folder / "f.sqlite")) as con, con:
                con.execute(text)

        def duck(text: str) -> None:
            with duckdb.connect(self.folder / "f.duckdb") as con:
                con.execute(text)

        for kind, run in (("sqlite", lite), ("duckdb", duck)):
            run("CREATE TABLE t (id BIGINT)")
            run("INSERT INTO t VALUES (1), (2), (3)")
            grow, vanish = (
                (lambda run=run: run("INSERT INTO t VALUES (4)")),
                (lambda run=run: run("DROP TABLE t")),
            )
            self.add(f"{kind}_file", f"{kind}:///{self.folder / f'f.{kind}'}", "t", grow, vanish)

    def lakes(self, catalog: SqlCatalog) -> None:
        write_deltalake(self.folder / "delta", numbers(IDS))
        self.add(
            "delta_table",
            str(self.folder / "delta"),
            "",
            lambda: write_deltalake(self.folder / "delta", numbers([4]), mode="append"),
            lambda: (self.folder / "delta").rename(self.folder / "delta_gone"),
        )
        catalog.create_namespace("shop")
        table = catalog.create_table("shop.rows", schema=numbers(IDS).schema)
        table.append(numbers(IDS))
        place = Path(table.location().removeprefix("file://"))
        self.add(
            "iceberg_table",
            str(place),
            "",
            lambda: table.append(numbers([4])),
            lambda: place.rename(self.folder / "iceberg_gone"),
        )

    def servers(self, postgres: str, mysql: str, table: str) -> None:
        for name, run, url in (("pg", run_postgres, postgres), ("my", run_mysql, mysql)):
            run(
                url,
                f"CREATE TABLE {table} (id bigint)",
                f"INSERT INTO {table} VALUES (1), (2), (3)",
            )
            grow = lambda run=run, url=url: run(url, f"INSERT INTO {table} VALUES (4)")  # noqa: E731 — one of many like it
            self.add(
                name, url, table, grow, lambda run=run, url=url: run(url, f"DROP TABLE {table}")
            )

    def store(self, bucket) -> None:
        bucket.put("d/f.parquet", parquet_bytes(id=IDS))
        grow = lambda: bucket.put("d/f.parquet", parquet_bytes(id=[*IDS, 4]))  # noqa: E731
        self.add(
            "on_s3",
            bucket.url("d/f.parquet"),
            "",
            grow,
            lambda: bucket.remove("d/"),
            options=bucket.options,
        )

    def frame(self) -> None:
        grow = lambda: self.ws.sources.add("frame", numbers([*IDS, 4]), replace=True)  # noqa: E731
        self.add("frame", numbers(IDS), "", grow, lambda: self.ws.sources.remove("frame"))


@pytest.fixture
def sources(tmp_path, postgres_url, mysql_url, bucket) -> Iterator[Sources]:
    table = f"t_{secrets.token_hex(4)}"
    catalog = SqlCatalog(
        "test", uri=f"sqlite:///{tmp_path}/catalog.db", warehouse=f"file://{tmp_path}/warehouse"
    )
    with jammi_lab.open(tmp_path / "ws") as ws:
        made = Sources(ws, tmp_path)
        made.files()
        made.workbook()
        made.database_files()
        made.lakes(catalog)
        made.servers(postgres_url, mysql_url, table)
        made.store(bucket)
        made.frame()
        yield made
    catalog.close()
    for run, url in ((run_postgres, postgres_url), (run_mysql, mysql_url)):
        run(url, f"DROP TABLE IF EXISTS {table}")


def test_one_statement_joins_every_kind_with_every_other(sources):
    assert sources.ws.sql(sources.joined()).fetchall() == [(1,), (2,), (3,)]
    made = sources.ws.materialize("all_of_them", sources.joined())
    assert {each.name for each in made.inputs} == set(sources.address) and isinstance(
        sources.ws.staleness("all_of_them"), Fresh
    )


@pytest.mark.only_soak
def test_a_source_that_grows_makes_its_own_table_stale_and_no_other(sources):
    for name, address in sources.address.items():
        sources.ws.materialize(f"of_{name}", f"SELECT id FROM {address}")
    grown, asked = set[str](), thinned(sources.grow, 3)
    for name, grow in sources.grow.items():
        grow()
        grown.add(f"of_{name}")
        if name not in asked:
            continue
        status = sources.ws.status(deep=True)
        assert {row.name for row in status if isinstance(row.verdict, Stale)} == grown, name
        assert all(isinstance(row.verdict, Fresh) for row in status if row.name not in grown), name


@pytest.mark.only_soak
def test_a_source_that_is_gone_is_told_by_its_name_and_the_others_are_read_on(sources):
    joined = thinned(sources.vanish, 3)
    for name, vanish in sources.vanish.items():
        vanish()
        with pytest.raises((SourceUnavailable, TableNotFound), match=name) as caught:
            sources.ws.sql(f"SELECT id FROM {sources.address[name]}")
        assert len(caught.value.rendered_lines()) <= 5
        del sources.address[name]
        if sources.address and name in joined:
            assert sources.ws.sql(sources.joined()).fetchall() == [(1,), (2,), (3,)], name
