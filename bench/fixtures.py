"""Workspaces of a given size, made for measuring."""

from pathlib import Path

import duckdb
import msgspec
import numpy as np
from numpy.typing import NDArray

import jammi_lab as jl
from jammi_lab.catalog import Catalog
from jammi_lab.core.anchors import Anchor, AnchorKind, Input, result_input
from jammi_lab.core.canonical_json import digest_of
from jammi_lab.core.clock import SystemClock
from jammi_lab.core.identifiers import physical_name
from jammi_lab.core.records import RecipeRecord, TableRecord, TableStatus
from jammi_lab.core.tenancy import TenantScope
from jammi_lab.store.manifests import digest, manifest_path, parse

ROWS = (
    "SELECT i AS id, (i * 7919) % 1000 AS grp, random() AS x, 'row ' || (i % 5000) AS label "
    "FROM range($n) AS t(i)"
)


def workspace_with_rows(folder: Path, tables: int) -> Path:
    """A workspace whose catalog holds that many ready tables in chains of ten, without files: what
    opening has to do with them is nothing."""
    jl.open(folder).close()
    clock = SystemClock()
    with Catalog(folder / "catalog.sqlite3", scope=TenantScope(), clock=clock) as catalog:
        writer = catalog.writers.register()
        with catalog.transaction():
            for number in range(tables):
                _publish(catalog, clock, writer, number)
        catalog.writers.retire(writer)
    return folder


def _publish(catalog: Catalog, clock: SystemClock, writer: str, number: int) -> None:
    parent = (
        result_input(f"t{number - 1}", columns=("a",))
        if number % 10
        else Input("source", "papers", columns=("a",))
    )
    kind = AnchorKind.RESULT_DIGEST if number % 10 else AnchorKind.SOURCE_VERSION
    anchor = Anchor(parent, kind, digest_of({"state": number}), "made for measuring")
    descriptor = {
        "producer": "sql",
        "statement": f"SELECT a + {number} AS a FROM {parent.label}",
        "revision": 1,
    }
    definition = digest_of(descriptor)
    name = physical_name(parent.label, "sql", None, clock)
    catalog.recipes.put(
        RecipeRecord(
            name=f"t{number}",
            kind="sql",
            descriptor=descriptor,
            environment={},
            definition_hash=definition,
            inputs=[parent.identity],
        )
    )
    begun = catalog.table_status.begin(
        TableRecord(
            table_name=name,
            kind="sql",
            status=TableStatus.BUILDING,
            recipe=f"t{number}",
            version=0,
            writer_id=writer,
            definition_hash=definition,
            path=f"results/_global/{name}.parquet",
            row_count=1,
            anchors=[anchor],
        )
    )
    catalog.table_status.publish(begun, b"{}")


def workspace_of_crashes(folder: Path, tables: int, *, whole: bool) -> Path:
    """A workspace in which so many builds of one dead writer were stopped: with torn bytes, or one
    step before they were ready."""
    with jl.open(folder) as ws:
        made = ws.materialize("seen", "SELECT i, i * i AS s FROM range(100) t(i)")
        manifest, path = made.manifest, Path(made.path)
        assert manifest is not None
        body, parent = path.read_bytes(), path.parent
    clock = SystemClock()
    with Catalog(folder / "catalog.sqlite3", scope=TenantScope(), clock=clock) as catalog:
        writer = catalog.writers.register()
        with catalog.transaction():
            for number in range(tables):
                name = physical_name("crashed", "sql", None, clock)
                begun = TableRecord(
                    table_name=name,
                    kind="sql",
                    status=TableStatus.BUILDING,
                    recipe=f"t{number}",
                    version=0,
                    writer_id=writer,
                    definition_hash=manifest.definition_hash,
                    path=f"results/_global/{name}.parquet",
                    flight=False,
                )
                catalog.table_status.begin(begun)
                (parent / f"{name}.parquet").write_bytes(body if whole else body[: len(body) // 2])
                if whole:
                    own = msgspec.structs.replace(
                        manifest, table_name=name, recipe=f"t{number}", version=1
                    )
                    (parent / f"{name}.materialization.json").write_bytes(own.encode_sealed())
    # the writer was never retired, and its lock went with the catalog: it counts as dead
    return folder


def workspace_of_files(
    folder: Path, tables: int, per_file: int = 20, url: str | None = None
) -> Path:
    """A workspace of that many small result tables, really made, from CSV files that `per_file` of
    them share. `url`: of the catalog, if it is on a server."""
    data = folder.with_name(folder.name + "-data")
    data.mkdir(parents=True)
    with jl.open(folder, catalog=url) as ws:
        for number in range(tables):
            source = f"s{number // per_file}"
            if number % per_file == 0:
                (data / f"{source}.csv").write_text(
                    "a,b\n" + "".join(f"{i},{i * number}\n" for i in range(50))
                )
                ws.sources.add(source, str(data / f"{source}.csv"))
            ws.materialize(f"t{number}", f"SELECT a, b + {number} AS b FROM {source} WHERE a < 10")
    return folder


def workspace_of_copies(
    folder: Path, tables: int, per_file: int = 200, url: str | None = None
) -> Path:
    """The same with one of the tables of each file really made, and the others copied from it,
    under names and with manifests of their own: what a look has to do with them is the same, and a
    hundred times as many are made in the time."""
    workspace_of_files(folder, tables // per_file, 1, url)
    place, clock = url or folder / "catalog.sqlite3", SystemClock()
    with Catalog(place, scope=TenantScope(), clock=clock) as catalog:
        writer = catalog.writers.register()
        with catalog.transaction():
            for version, record in catalog.result_tables.current():
                recipe = catalog.recipes.get(version.recipe)
                manifest = parse(catalog.result_tables.manifest(record.table_name))
                assert recipe is not None
                assert manifest is not None
                rows = (folder / record.path).read_bytes()
                for number in range(per_file - 1):
                    name = physical_name("copied", "sql", None, clock)
                    called = f"{version.recipe}_{number}"
                    path = f"{Path(record.path).parent}/{name}.parquet"
                    catalog.recipes.put(msgspec.structs.replace(recipe, name=called))
                    own = msgspec.structs.replace(
                        record,
                        table_name=name,
                        recipe=called,
                        version=0,
                        path=path,
                        writer_id=writer,
                        status=TableStatus.BUILDING,
                        flight=False,
                    )
                    begun = catalog.table_status.begin(own)
                    said = msgspec.structs.replace(
                        manifest, table_name=name, recipe=called, version=1
                    ).encode_sealed()
                    (folder / path).write_bytes(rows)
                    manifest_path(folder / path).write_bytes(said)
                    catalog.table_status.publish(
                        msgspec.structs.replace(begun, manifest_digest=digest(said)), said
                    )
        catalog.writers.retire(writer)
    return folder


def parquet_of_rows(path: Path, rows: int) -> Path:
    """A Parquet file with an id, a group, a number and a label per row."""
    return _write(path, rows, "FORMAT parquet, COMPRESSION zstd")


def csv_of_rows(path: Path, rows: int) -> Path:
    """The same as CSV."""
    return _write(path, rows, "FORMAT csv, HEADER")


def _write(path: Path, rows: int, form: str) -> Path:
    with duckdb.connect() as con:
        con.execute(f"COPY ({ROWS}) TO '{path}' ({form})", {"n": rows})
    return path


def parquet_of_texts(path: Path, rows: int, edited: int = 0) -> Path:
    """A Parquet file with an id and a short text per row, all different; the first `edited` ones
    say something else."""
    text = (
        "CASE WHEN i < $edited THEN 'edited ' ELSE '' END || 'note ' || i || ' on topic ' || (i "
        "* 7919) % 1000 || ' and its neighbours'"
    )
    with duckdb.connect() as con:
        con.execute(
            f"COPY (SELECT i AS id, {text} AS text FROM range($n) AS t(i)) TO '{path}' "
            "(FORMAT parquet)",
            {"n": rows, "edited": edited},
        )
    return path


def vectors(rows: int, dimensions: int = 384) -> NDArray[np.float32]:
    """Random directions of unit length."""
    made = np.random.default_rng(0).standard_normal((rows, dimensions), np.float32)
    made /= np.linalg.norm(made, axis=1, keepdims=True)
    return made


def clustered_vectors(rows: int, dimensions: int = 384, seed: int = 0) -> NDArray[np.float32]:
    """Clustered unit vectors, like embeddings of texts: a thousand clusters, the same for every
    seed."""
    centres = np.random.default_rng(99).standard_normal((1_000, dimensions), np.float32)
    draw = np.random.default_rng(seed)
    made = centres[draw.integers(len(centres), size=rows)] + 0.6 * draw.standard_normal(
        (rows, dimensions), np.float32
    )
    made /= np.linalg.norm(made, axis=1, keepdims=True)
    found: NDArray[np.float32] = made
    return found


def aligned_vectors(
    rows: int, dimensions: int = 384, seed: int = 0, alike: float = 0.9
) -> NDArray[np.float32]:
    """Clustered vectors with a common component, as many models produce: any two are similar. Half
    of the common part lies in one dimension."""
    common = np.random.default_rng(98).standard_normal(dimensions, np.float32)
    common /= np.linalg.norm(common)
    common[0] += 1
    common *= np.sqrt(alike) / np.linalg.norm(common)
    made = clustered_vectors(rows, dimensions, seed) * np.float32(np.sqrt(1 - alike)) + common
    found: NDArray[np.float32] = made / np.linalg.norm(made, axis=1, keepdims=True)
    return found
