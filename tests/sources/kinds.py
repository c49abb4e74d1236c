"""The kinds of sources, as the contract suite takes them. One that is new is a class here, and a
line in test_contract.py."""

import contextlib
import importlib.metadata
import io
import json
import os
import secrets
import shutil
import sqlite3
from collections.abc import Mapping
from pathlib import Path

import duckdb
import openpyxl
import pandas as pd
import pyarrow as pa
import pyarrow.ipc as ipc
import pyarrow.parquet as pq
from deltalake import DeltaTable, Field, write_deltalake
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.types import StringType
from pyiceberg.utils.concurrent import ExecutorFactory

from jammi_lab.core import entry_points
from jammi_lab.core.anchors import Cost
from jammi_lab.core.identifiers import quote_identifier, sql_literal
from jammi_lab.sources import registry
from jammi_lab.sources.frames import METHOD
from tests.contracts.source import Kind
from tests.services.servers import run_mysql, run_postgres
from tests.services.stores import KEY, SECRET

os.environ["PYICEBERG_MAX_WORKERS"] = "1"
ExecutorFactory.get_or_create().submit(int).result()  # its thread stays for the life of the process
TEXT_KINDS = ("csv", "tsv", "json", "ndjson")
FILE_KINDS = (*TEXT_KINDS, "parquet", "arrow")


def bytes_of(kind: str, table: pa.Table) -> bytes:
    """A table as a file of a kind."""
    sink, lines = io.BytesIO(), table.to_pylist()
    if kind == "parquet":
        pq.write_table(table, sink)
        return sink.getvalue()
    if kind == "arrow":
        with ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
        return sink.getvalue()
    if kind == "json":
        return json.dumps(lines).encode()
    if kind == "ndjson":
        return "".join(json.dumps(line) + "\n" for line in lines).encode()
    values = [table.column_names, *(line.values() for line in lines)]
    by = "," if kind == "csv" else "\t"
    texts = (by.join("" if v is None else str(v) for v in line) + "\n" for line in values)
    return "".join(texts).encode()


def workbook(path: Path, **sheets: list) -> None:
    """A workbook with sheets of rows."""
    book = openpyxl.Workbook()
    for name, held in sheets.items():
        sheet = book.create_sheet(name)
        for row in held:
            sheet.append(list(row))
    del book["Sheet"]
    book.save(path)


# -- written as a whole ----------------------------------------------------------------------------


class WrittenFile(Kind):
    """A file of a kind in some place, or all files of a folder, or those that a glob names."""

    def __init__(self, kind: str, place: str = "file") -> None:
        self.kind, self.place = kind, place
        self.by_column = kind in ("parquet", "arrow")
        self.method = f"digest of the {'columns' if self.by_column else 'bytes'}"
        self.parts = {"a": 0}  # the file of each part, and its first row
        if place != "file":
            self.parts = {"a": 0, "sub/b" if place == "folder" else "ab": 2}

    def __str__(self) -> str:
        return f"{type(self).__name__}-{self.kind}-{self.place}"

    def write(self, name: str, content: bytes) -> None:
        raise NotImplementedError

    def put(self, table: pa.Table) -> None:
        ends = [*self.parts.values(), table.num_rows][1:]
        for (name, first), end in zip(self.parts.items(), ends, strict=True):
            self.write(f"{name}.{self.kind}", bytes_of(self.kind, table.slice(first, end - first)))

    def where(self, root: str) -> str:
        at = {"file": f"/a.{self.kind}", "folder": "", "glob": f"/a*.{self.kind}"}
        return root + at[self.place]


class LocalFile(WrittenFile):
    has_own_file = True

    def __init__(self, kind: str, place: str = "file") -> None:
        super().__init__(kind, place)
        if self.by_column:
            self.damaged = "is not a complete"

    def make(self, folder, get):
        self.folder = folder / "f o'l\"d 😀 #%20"
        (self.folder / "sub").mkdir(parents=True)
        (self.folder / "sub" / ".hidden.csv").write_text("not,a\npart,of,it\n")
        (self.folder / "other.csv").write_text("of\nno\nglob\n") if self.place == "glob" else None
        self.location = self.where(str(self.folder))
        self.path = self.folder / f"a.{self.kind}"
        self.start()

    def write(self, name, content):
        (self.folder / name).write_bytes(content)

    def idle(self):
        copy = lambda: shutil.copyfile(self.path, self.folder.parent / "copy")  # noqa: E731
        return {
            **super().idle(),
            "touch": lambda: os.utime(self.path, ns=(1, 1)),
            "its copy in its place": lambda: os.replace(copy(), self.path),
        }

    def vanish(self):
        for name in self.parts:
            (self.folder / f"{name}.{self.kind}").unlink()

    def damage(self):
        whole = self.path.read_bytes()
        self.path.write_bytes(whole[:-9])
        return lambda: self.path.write_bytes(whole)


class OnStore(WrittenFile):
    """In a bucket; a folder's credential is typed, others are in a variable."""

    second_look = Cost.METADATA

    def make(self, folder, get):
        self.bucket = get("bucket")
        get("monkeypatch").setenv("BUCKET_SECRET", f"{KEY}:{SECRET}")
        self.location = self.bucket.url(self.where("it's a #%20+é"))
        self.again = self.place == "folder"
        self.options = {"endpoint_url": self.bucket.endpoint}
        self.given = {"secret": "BUCKET_SECRET"}
        if self.again:
            self.location += "/"
            self.options, self.given = self.bucket.options, {}
        self.start()

    def write(self, name, content):
        self.bucket.put(f"it's a #%20+é/{name}", content)

    def idle(self):
        elsewhere = lambda: self.bucket.put("e/y.csv", b"id\n1\n")  # noqa: E731
        return {**super().idle(), "what lies elsewhere": elsewhere}

    def vanish(self):
        self.bucket.remove("it's a")


SITES = {
    "strong": {"etag": lambda body: f'"{hash(body)}"', "ranges": True},
    "weak": {"etag": lambda body: f'W/"{len(body)}"'},
    "nothing": {"required": "token=hunter2"},
    "no length": {"length": False, "head": False},
}


class OnSite(WrittenFile):
    """Behind a web server that tells of its files what SITES says; one wants a token."""

    def __init__(self, kind: str, site: str) -> None:
        super().__init__(kind)
        self.told = site
        self.second_look = Cost.METADATA if site in ("strong", "no length") else Cost.SCAN
        self.again = site == "nothing"

    def __str__(self) -> str:
        return f"OnSite-{self.kind}-{self.told}"

    def make(self, folder, get):
        self.site = get("site")
        for name, value in SITES[self.told].items():
            setattr(self.site, name, value)
        self.location = self.site.url(f"a.{self.kind}{'?token=hunter2' if self.again else ''}")
        self.start()

    def write(self, name, content):
        self.site.files[name] = content

    def idle(self):
        date = lambda: setattr(self.site, "modified", "Thu, 02 Jan 2020 00:00:00 GMT")  # noqa: E731
        return {**super().idle(), "another date": date}

    def vanish(self):
        self.site.files.clear()


class Workbook(Kind):
    kind, method, by_column, has_own_file = "xlsx", "digest of the bytes", False, True
    damaged = "is not a complete workbook"

    def make(self, folder, get):
        self.path = self.location = folder / "it's [1] 😀.xlsx"
        self.start()

    def put(self, table):
        lines = [table.column_names, *(row.values() for row in table.to_pylist())]
        workbook(self.path, people=lines)

    def restore(self):
        self.path.write_bytes(self.first)

    def edit(self):
        self.first = self.path.read_bytes()  # written once more it has another time inside
        super().edit()

    def idle(self):
        return {"touch": lambda: os.utime(self.path)}

    def vanish(self):
        self.path.unlink()

    damage = LocalFile.damage


class Frame(Kind):
    """A pandas frame that is changed in place. It ends with its kernel, and its state is told by
    its rows alone."""

    kind, method, again, takes_anchors = "frame", METHOD, True, False
    second_look = Cost.SCAN

    def make(self, folder, get):
        self.location = pd.DataFrame()
        self.start()

    def put(self, table):
        self.location.__init__(table.to_pydict())  # the same object, with other rows


class OfPackage(Kind):
    """Rows that the reader of an installed package reads."""

    kind, method, takes_anchors = "shelf", registry._METHOD, False
    second_look, vanishes = Cost.SCAN, False
    given: Mapping = {"kind": "shelf"}
    shelf: Path

    def make(self, folder, get):
        self.location = str(folder / "it's [1].shelf")
        OfPackage.shelf = folder / "rows"
        entry = importlib.metadata.EntryPoint("shelf", f"{__name__}:Shelf", "jammi_lab.connectors")
        for module in (entry_points, registry):
            get("monkeypatch").setattr(module, "package_entries", lambda _: {"shelf": entry})
        self.start()

    def put(self, table):
        pq.write_table(table, self.shelf)

    def vanish(self):
        self.shelf.unlink()


class Shelf:
    def __init__(self, location, options, secret):
        if options:
            raise ValueError(f"no option {min(options)!r}")

    def read(self, table):
        return pq.read_table(OfPackage.shelf)


# -- databases -------------------------------------------------------------------------------------


def literal(value: object) -> str:
    return "NULL" if value is None else sql_literal(str(value))


class Database(Kind):
    """A table of a database, whose owner writes it by `run(*statements)` with {t} in its place."""

    table = "we i'rd \"x"
    types: Mapping = {"id": "INTEGER", "name": "VARCHAR(20)", "note": "VARCHAR(20)"}

    def run(self, *statements: str) -> None:
        raise NotImplementedError

    def named(self, name: str) -> str:
        return quote_identifier(name)

    def start(self):
        self.run(f"CREATE TABLE {{t}} ({', '.join(f'{n} {t}' for n, t in self.types.items())})")
        super().start()

    def put(self, table):
        rows = (f"({', '.join(map(literal, row.values()))})" for row in table.to_pylist())
        self.run("DELETE FROM {t}", f"INSERT INTO {{t}} VALUES {', '.join(rows)}")

    def now(self, **columns):
        """Of rows that stay only the values that change are written."""
        for name, values in columns.items():
            was = zip(self.columns["id"], self.columns[name], values, strict=True)
            for number, before, after in was:
                if before != after:
                    self.run(f"UPDATE {{t}} SET {name} = {literal(after)} WHERE id = {number}")
        self.columns = {**self.columns, **columns}

    def grow(self):
        self.run("INSERT INTO {t} VALUES (4, 'd', 'x')")

    def widen(self):
        self.run("ALTER TABLE {t} ADD COLUMN extra VARCHAR(9) DEFAULT 'e'")

    def idle(self):
        return {
            "no-op update": lambda: self.run("UPDATE {t} SET name = name"),
            "a change that is undone": lambda: (self.edit(), self.restore()),
            "another table": lambda: self.run(
                "CREATE TABLE other (a INTEGER)", "INSERT INTO other VALUES (1)", "DROP TABLE other"
            ),
        }

    def vanish(self):
        self.run("DROP TABLE {t}")


class DatabaseFile(Database):
    has_own_file = True

    def make(self, folder, get):
        self.path = folder / f"it's [1].{self.kind}"
        self.location = self.path
        self.start()

    def idle(self):
        return {**super().idle(), "touch": lambda: os.utime(self.path)}

    def damage(self):
        whole = self.path.read_bytes()
        self.path.write_bytes(self.torn)
        return lambda: self.path.write_bytes(whole)


def write_sqlite(path: Path, *statements: str) -> None:
    """Each in a transaction of its own, or in none."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement).fetchall()


def write_duckdb(path: Path, *statements: str) -> None:
    with duckdb.connect(str(path)) as connection:
        for statement in statements:
            connection.execute(statement)


class Sqlite(DatabaseFile):
    kind, damaged = "sqlite", "is not a complete SQLite database"
    torn = b"SQLite format 3\0" + b"x" * 2000

    def run(self, *statements):
        write_sqlite(self.path, *(s.replace("{t}", self.named(self.table)) for s in statements))

    def idle(self):
        checkpoint = ("UPDATE {t} SET name = name", "PRAGMA wal_checkpoint(TRUNCATE)")
        return {
            **super().idle(),
            "an index": lambda: self.run("CREATE INDEX i ON {t}(name, id)"),
            "WAL": lambda: self.run("PRAGMA journal_mode = WAL"),
            "checkpoint": lambda: self.run(*checkpoint),
            "VACUUM": lambda: self.run("VACUUM"),
        }


class Duckdb(DatabaseFile):
    kind, damaged = "duckdb", "is not a complete DuckDB database"
    torn = b"\0" * 8 + b"DUCK" + b"\1" * 9000

    def run(self, *statements):
        write_duckdb(self.path, *(s.replace("{t}", self.named(self.table)) for s in statements))

    def idle(self):
        return {
            **super().idle(),
            "checkpoint": lambda: self.run("FORCE CHECKPOINT"),
            "VACUUM": lambda: self.run("VACUUM"),
        }


class Server(Database):
    """A table on a server, or a view over a view of it, as an owner of tables gives it to others."""

    method = "digest of the rows, by the server"
    second_look, second_look_when_idle = Cost.SCAN, Cost.METADATA
    rewrite = ""

    def __init__(self, shape: str = "table") -> None:
        self.deep = shape == "view"

    def __str__(self) -> str:
        return f"{type(self).__name__}-{'view' if self.deep else 'table'}"

    def make(self, folder, get):
        self.location = get(f"{type(self).__name__.lower()}_url")
        self.below = self.table = f"o'd \"d {secrets.token_hex(4)}"
        self.start()
        if self.deep:
            self.table = f"{self.below} view"
            self.run("CREATE VIEW {v}1 AS SELECT * FROM {t}")
            self.show("id, name, note", "id > 0")

    def show(self, columns: str, condition: str) -> None:
        said = f"CREATE OR REPLACE VIEW {{v}} AS SELECT {columns} FROM {{v}}1 WHERE {condition}"
        self.run(said)

    def run(self, *statements):
        names = {"{t}": self.named(self.below), "{v}1": self.named(f"{self.below} 1")}
        names["{v}"] = self.named(self.table)
        for old, new in names.items():
            statements = [statement.replace(old, new) for statement in statements]
        self.send(self.location, *statements)

    def idle(self):
        if not self.deep:
            return {**super().idle(), "a rewrite": lambda: self.run(self.rewrite)}
        hidden = "INSERT INTO {t} VALUES (-1, 'd', 'x')"
        return {
            **super().idle(),
            "a row that it does not show": lambda: self.run(hidden),
            "another text": lambda: self.show("id, name, note", "id >= 1"),
        }

    def widen(self):
        if self.deep:
            self.show("id, name, note, 7 AS extra", "id > 0")
        else:
            super().widen()

    def vanish(self):
        self.run("DROP VIEW {v}" if self.deep else "DROP TABLE {t}")

    def end(self):
        if self.deep:
            self.run("DROP VIEW IF EXISTS {v}", "DROP VIEW {v}1")
        self.run("DROP TABLE IF EXISTS {t}")


class Postgres(Server):
    kind, rewrite, send = "postgresql", "VACUUM FULL {t}", staticmethod(run_postgres)


class Mysql(Server):
    kind, rewrite, send = "mysql", "OPTIMIZE TABLE {t}", staticmethod(run_mysql)

    def named(self, name):
        return f"`{name}`"


# -- lakes -----------------------------------------------------------------------------------------


def lettered(ids, names=None):
    """Rows of these ids, with the letters of their places in the alphabet or other names."""
    names = names or ["abcdefghij"[i - 1] for i in ids]
    return pa.table({"id": pa.array(ids, pa.int64()), "name": pa.array(names)})


class Delta(Kind):
    kind, method, is_versioned = "delta", "version of the table", True
    second_look = Cost.METADATA
    damaged = "log of the Delta table"
    access: Mapping | None = None
    """The storage options of its writer."""

    def make(self, folder, get):
        self.location = folder / "events"
        self.start()

    def append(self, table, **how):
        write_deltalake(self.location, table, storage_options=self.access, **how)

    def lake(self):
        return DeltaTable(self.location, storage_options=self.access)

    def put(self, table):
        is_there = DeltaTable.is_deltatable(str(self.location), self.access)
        self.append(table, mode="overwrite", **({"schema_mode": "overwrite"} if is_there else {}))

    def edit(self):
        self.lake().update({"name": "'z'"}, predicate="id = 2")

    def restore(self):
        self.lake().restore(self.lake().version() - 1)

    def grow(self):
        table = pa.table({"id": pa.array([4], pa.int64()), "name": ["d"], "note": ["x"]})
        self.append(table, mode="append")

    def widen(self):
        self.lake().alter.add_columns([Field("extra", "string")])

    def idle(self):
        days = {"delta.logRetentionDuration": "interval 30 days"}
        return {
            **super().idle(),
            "a change that is undone": lambda: (self.edit(), self.restore()),
            "OPTIMIZE": lambda: self.lake().optimize.compact(),
            "no-op update": lambda: self.lake().update({"name": "name"}),
            "a checkpoint": lambda: self.lake().create_checkpoint(),
            "a property": lambda: self.lake().alter.set_table_properties(days),
        }

    def vanish(self):
        shutil.rmtree(self.location)

    def damage(self):
        commit = self.location / "_delta_log" / f"{0:020}.json"
        whole = commit.read_bytes()
        commit.write_bytes(whole[: len(whole) // 2])
        return lambda: commit.write_bytes(whole)


class Iceberg(Kind):
    kind, method, is_versioned = "iceberg", "snapshot of the table", True
    second_look = Cost.METADATA
    damaged = "not a complete metadata file"

    def make(self, folder, get):
        self.open(folder.parent, f"file://{folder}")
        self.location = self.lake.location().removeprefix("file://")

    def open(self, folder, warehouse, **access):
        uri = f"sqlite:///{folder}/catalog.db"
        self.catalog = SqlCatalog("test", uri=uri, warehouse=warehouse, **access)
        self.catalog.create_namespace("shop")
        self.lake = None
        self.start()

    def end(self):
        self.catalog.close()

    def put(self, table):
        if self.lake is None:
            self.lake = self.catalog.create_table("shop.notes", schema=table.schema)
        self.lake.overwrite(table)

    def widen(self):
        with self.lake.update_schema() as update:
            update.add_column("extra", StringType())
        super().widen()

    def restore(self):
        with self.lake.manage_snapshots() as manage:
            manage.rollback_to_snapshot(self.lake.metadata.snapshots[0].snapshot_id)
        self.columns["name"] = ["a", "b", "c"]

    def idle(self):
        def tag():
            with self.lake.manage_snapshots() as manage:
                manage.create_tag(self.lake.metadata.current_snapshot_id, "kept")

        undone = lambda: (self.edit(), self.restore())  # noqa: E731
        return {**super().idle(), "a tag": tag, "a change that is undone": undone}

    def vanish(self):
        shutil.rmtree(self.location)

    def damage(self):
        newest = Path(self.lake.metadata_location.removeprefix("file://"))
        whole = newest.read_bytes()
        newest.write_bytes(whole[:100])
        return lambda: newest.write_bytes(whole)


class InBucket:
    """A lake whose credential is typed."""

    again, damaged = True, ""

    def vanish(self):
        self.bucket.remove("lake/")


class DeltaInBucket(InBucket, Delta):
    def make(self, folder, get):
        self.bucket = get("bucket")
        self.location, self.options = self.bucket.url("lake/shop/orders"), self.bucket.options
        self.access = {
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_ENDPOINT_URL": self.bucket.endpoint,
            "AWS_REGION": "us-east-1",
            "AWS_ALLOW_HTTP": "true",
            "aws_conditional_put": "etag",
        }
        self.start()


class IcebergInBucket(InBucket, Iceberg):
    def make(self, folder, get):
        self.bucket = get("bucket")
        access = {
            "s3.endpoint": self.bucket.endpoint,
            "s3.access-key-id": KEY,
            "s3.secret-access-key": SECRET,
            "s3.region": "us-east-1",
        }
        self.open(folder.parent, self.bucket.url("lake"), **access)
        self.location, self.options = self.lake.location(), self.bucket.options
