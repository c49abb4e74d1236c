"""What sources cost: a join over three of them, the state of a million rows, and how often a board
asks."""

import contextlib
import datetime
import importlib
import itertools
import os
import secrets
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock
from urllib.parse import urlsplit, urlunsplit

import duckdb
import polars as pl

import jammi_lab as jl
from bench import fixtures
from bench.anchors import ROWS, measure_kinds
from bench.harness import Line, cpu_timer, measure_pair, unmeasured_line, wall_timer
from jammi_lab.core.identifiers import sql_literal
from jammi_lab.sources import attach, database_urls, duckdb_extensions
from jammi_lab.sources.base import Attachment
from jammi_lab.sources.databases.server import ServerConnector
from jammi_lab.sources.files.connector import FileConnector

_SERVERS = {
    "postgresql": ("JAMMI_TEST_POSTGRES", "postgresql://postgres@127.0.0.1:5432/postgres"),
    "mysql": ("JAMMI_TEST_MYSQL", "mysql://root@127.0.0.1:3306/mysql"),
}
_ROWS = {
    "postgresql": "CREATE TABLE {name} AS SELECT i AS id, (i::bigint * 7919) % 1000 AS grp, i * "
    "0.5::float8 AS x, 'row ' || (i % 5000) AS label "
    "FROM generate_series(0, {rows} - 1) i",
    "mysql": "CREATE TABLE {name} AS SELECT seq AS id, (seq * 7919) % 1000 AS grp, seq * 0.5e0 AS x, "
    "CONCAT('row ', seq % 5000) AS label "
    "FROM seq_0_to_{rows} WHERE seq < {rows}",
}


_TIMES = 40
"""How often a small statement is run for one figure."""


def plain_attachment(kind: str, url: str) -> Attachment:
    """A plain read-write attachment of a server, as written by hand."""
    address, password = database_urls.parse_url(url)
    word = "postgres" if kind == "postgresql" else "mysql"
    return Attachment(
        f"bench {kind}",
        word,
        secret=database_urls.secret_parameters(address, password),
    )


def attach_by_hand(connection: duckdb.DuckDBPyConnection, attachment: Attachment) -> None:
    """Load the extension of an attachment and attach it."""
    duckdb_extensions.load(connection, [attachment.extension or ""])
    attach.attach(connection, attachment)


@contextlib.contextmanager
def database(kind: str) -> Iterator[tuple[str, Callable[[str], object]]]:
    """The address of a database of this run alone, and what runs a statement there. duckdb.Error
    when there is no such server."""
    variable, usual = _SERVERS[kind]
    server, name = os.environ.get(variable, usual), f"jammi_bench_{secrets.token_hex(4)}"
    with duckdb.connect() as con:
        said = plain_attachment(kind, server)
        attach_by_hand(con, said)
        con.execute(
            f"DETACH {said.alias}; ATTACH '' AS server (TYPE {said.type}, SECRET {said.alias})"
        )

        def run(statement: str) -> None:
            con.execute(
                f"CALL {said.type}_execute('server', "
                f"{sql_literal(statement)}{', use_transaction=false' if said.type == 'postgres' else ''})"
            )

        run(f"CREATE DATABASE {name}")
        try:
            url = urlunsplit(urlsplit(server)._replace(path=f"/{name}"))
            with duckdb.connect() as inside:
                attach_by_hand(inside, plain_attachment(kind, url))
                alias = plain_attachment(kind, url).alias
                inside.execute(
                    f"DETACH {alias}; ATTACH '' AS it (TYPE {said.type}, SECRET {alias})"
                )
                yield (
                    url,
                    lambda statement: inside.execute(
                        f"CALL {said.type}_execute('it', {sql_literal(statement)})"
                    ),
                )
        finally:
            run(f"DROP DATABASE {name}{' WITH (FORCE)' if kind == 'postgresql' else ''}")


def joining(folder: Path, repeats: int) -> Iterator[Line]:
    """Three sources of 200,000 rows each, joined and grouped, against the same statement over
    attachments made by hand."""
    what = "join PostgreSQL, MySQL and Parquet, 200,000 rows each, against hand-written DuckDB"
    rows = 200_000
    file = fixtures.parquet_of_rows(folder / "rows.parquet", rows)
    text = (
        "SELECT f.grp, count(*) AS n, sum(p.x + m.x + f.x) AS total, max(m.label) AS last "
        "FROM {p} p JOIN {m} m ON m.id = p.id JOIN {f} f ON f.id = p.id WHERE p.grp < 900 "
        "GROUP BY f.grp ORDER BY f.grp"
    )
    try:
        with (
            database("postgresql") as (pg, in_pg),
            database("mysql") as (my, in_my),
            duckdb.connect() as con,
            jl.open(folder / "lab") as ws,
        ):
            in_pg(_ROWS["postgresql"].format(name="t", rows=rows))
            in_my(_ROWS["mysql"].format(name="t", rows=rows))
            for kind, url in (("postgresql", pg), ("mysql", my)):
                attach_by_hand(con, plain_attachment(kind, url))
            ws.sources.add("pg", pg)
            ws.sources.add("my", my)
            ws.sources.add("f", str(file))
            by_hand = text.format(
                p=f"{plain_attachment('postgresql', pg).alias}.public.t",
                m=f"{plain_attachment('mysql', my).alias}.{urlsplit(my).path[1:]}.t",
                f=f"'{file}'",
            )
            ours = wall_timer(lambda: ws.sql(text.format(p="pg.t", m="my.t", f="f")).arrow())
            other = wall_timer(lambda: con.execute(by_hand).to_arrow_table())
            yield measure_pair(what, ours, other, repeats=repeats, limit=1.1)
    except duckdb.Error as error:
        yield unmeasured_line(what, f"no server ({type(error).__name__})")


def anchors(folder: Path, repeats: int) -> Iterator[Line]:
    """What the state of a million rows costs by kind, against reading them all; and again, while
    the server's log stands still."""
    rows = ROWS
    for kind in _SERVERS:
        what = f"anchor of 1 M rows in {kind}"
        try:
            with (
                database(kind) as (url, run),
                jl.open(folder / kind, settings={"look.racy_seconds": 0}) as ws,
            ):
                run(_ROWS[kind].format(name="t", rows=rows))
                always = ws.sources.add("always", url, anchor="content")
                gated = ws.sources.add("gated", url)
                reading = wall_timer(partial(_read, ws, "always.t"))
                for columns in (["id", "x"], None):
                    said = (
                        f"{what}, {'two columns' if columns else 'all columns'}, against "
                        "reading them"
                    )
                    yield measure_pair(
                        said,
                        wall_timer(partial(always.anchor, "t", columns)),
                        reading,
                        repeats=repeats,
                        limit=None,
                    )
                yield measure_pair(
                    f"{what}, the log stands still, against reading them",
                    wall_timer(partial(gated.anchor, "t")),
                    reading,
                    repeats=repeats,
                    limit=0.5,
                )
        except duckdb.Error as error:
            yield unmeasured_line(what, f"no server ({type(error).__name__})")
    yield from measure_kinds(folder, repeats)


def _read(ws: jl.Workspace, name: str) -> None:
    ws.sql(f"SELECT * FROM {name}").arrow()


def asking(folder: Path, _repeats: int) -> Iterator[Line]:
    """A look at 200 tables over 20 sources asks each source once."""
    sources, tables = 20, 200
    with jl.open(
        fixtures.workspace_of_files(folder / "files", tables, per_file=tables // sources)
    ) as ws:
        yield _count_observations(
            ws,
            FileConnector,
            f"status: {tables} tables over {sources} files, observations against one each",
            sources,
        )
    what = (
        f"status: {tables} tables over {sources} tables of a server, observations against one each"
    )
    try:
        with database("postgresql") as (url, run), jl.open(folder / "server") as ws:
            ws.sources.add("s", url)
            for number in range(sources):
                run(
                    f"CREATE TABLE t{number} AS SELECT i AS a, i * 2 AS b FROM "
                    "generate_series(1, 50) i"
                )
            for number in range(tables):
                ws.materialize(
                    f"m{number}",
                    f"SELECT {'a' if number % 3 else 'b'}, {number} AS n FROM "
                    f"s.t{number % sources}",
                )
            yield _count_observations(ws, ServerConnector, what, sources)
    except duckdb.Error as error:
        yield unmeasured_line(what, f"no server ({type(error).__name__})")


def _count_observations(
    ws: jl.Workspace, connector: type[FileConnector | ServerConnector], what: str, sources: int
) -> Line:
    with mock.patch.object(
        connector, "observe", autospec=True, side_effect=connector.observe
    ) as observe:
        ws.status()
    return Line(what, observe.call_count, sources, observe.call_count / sources, 1.0)


def _read_first_rows(ws: jl.Workspace) -> None:
    for _ in range(_TIMES):
        ws.sql("SELECT * FROM s.big LIMIT 10").fetchall()


def _run_often(con: duckdb.DuckDBPyConnection, statement: str) -> None:
    for _ in range(_TIMES):
        con.execute(statement).fetchall()


def limiting(folder: Path, repeats: int) -> Iterator[Line]:
    """`LIMIT 10` over a table of a server: what it takes of the processor beyond DuckDB's own
    extension, against 10 ms."""
    for kind in _SERVERS:
        what = f"LIMIT 10 of 200,000 rows, {kind}, beyond DuckDB's extension against 10 ms"
        try:
            with (
                database(kind) as (url, run),
                jl.open(folder / kind) as ws,
                duckdb.connect(config={"autoload_known_extensions": "false"}) as con,
            ):
                run(_ROWS[kind].format(name="big", rows=200_000))
                ws.sources.add("s", url)
                attachment = plain_attachment(kind, url)
                attach_by_hand(con, attachment)
                schema = "public" if kind == "postgresql" else urlsplit(url).path[1:]
                bare = f"SELECT * FROM {attachment.alias}.{schema}.big LIMIT 10"

                ours = cpu_timer(partial(_read_first_rows, ws))
                other = cpu_timer(partial(_run_often, con, bare))
                line = measure_pair(what, ours, other, repeats=repeats, limit=None)
                beyond = (line.ours - line.other) / _TIMES
                yield Line(f"{what} (processor)", beyond, 0.01, beyond / 0.01, 1.0)
        except duckdb.Error as error:
            yield unmeasured_line(what, f"no server ({type(error).__name__})")


def workbooks(folder: Path, repeats: int) -> Iterator[Line]:
    """The first read of a sheet of 100,000 rows × 10, digest included, against polars by openpyxl."""
    openpyxl: Any = importlib.import_module("openpyxl")  # it has no type stubs
    book = openpyxl.Workbook(write_only=True)
    sheet = book.create_sheet("rows")
    sheet.append([f"c{column}" for column in range(10)])
    day = datetime.date(2020, 1, 1)
    for row in range(100_000):
        numbers = [row, row % 7, row * 10, row / 3, row * 0.37]
        texts = [f"name {row}", f"key {row % 100}", f"text of {row}"]
        sheet.append([*numbers, *texts, row % 2 == 0, day + datetime.timedelta(days=row % 1000)])
    book.save(folder / "book.xlsx")
    content, turns = (folder / "book.xlsx").read_bytes(), itertools.count()
    with jl.open(folder / "lab") as ws:

        def read_first() -> None:
            copy = folder / f"copy{next(turns)}.xlsx"
            copy.write_bytes(content)
            # the comment of a zip archive, so that no sheet in memory is of these bytes
            with zipfile.ZipFile(copy, "a") as archive:
                archive.comment = copy.name.encode()
            ws.sources.add("rows", str(copy), replace=True)
            ws.sql("FROM rows").arrow()

        yield measure_pair(
            "first read of a workbook of 100,000 rows × 10, against polars by openpyxl",
            wall_timer(read_first),
            wall_timer(lambda: pl.read_excel(folder / "book.xlsx", engine="openpyxl")),
            repeats=repeats,
            limit=1.0,
        )


CASES = {
    "workbooks": workbooks,
    "joining": joining,
    "anchors": anchors,
    "asking": asking,
    "limiting": limiting,
}
