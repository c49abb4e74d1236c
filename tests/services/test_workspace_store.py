"""A workspace in an object store: results, manifests, quarantine and checkpoints are objects; the
catalog is on a server."""

import gc
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import jammi_lab as jl
from jammi_lab.core.errors import (
    InvalidArgument,
    JammiError,
    SourceUnavailable,
    TableDamaged,
    WorkspaceNotFound,
)
from jammi_lab.core.verdicts import Damaged, Fresh, Match, Mismatch, MissingBytes, verdict_code
from jammi_lab.core.verdicts import MissingManifest as NoManifest
from jammi_lab.storage.object_store import RemotePath
from tests.inside import record_of, services_of
from tests.services.servers import run_postgres
from tests.services.stores import KEY, SECRET, bucket_of, without_aws

VENUES = "SELECT venue, count(*) AS n FROM papers GROUP BY venue"


def names_in(folder: Path | RemotePath) -> list[str]:
    """The names of results, manifests, what was put aside, and checkpoints."""
    found = (
        folder.list_objects()
        if isinstance(folder, RemotePath)
        else [str(each.relative_to(folder)) for each in folder.rglob("*") if each.is_file()]
    )
    kept = ("results", "quarantine", "checkpoints")
    return sorted(name for name in found if name.split("/")[0] in kept)


class Opened:
    """A workspace and the store that it is in."""

    def __init__(self, url: str, **options: Any) -> None:
        self.url, self.options = url, options
        self.ws: Any = None

    def open(self, **more: Any) -> Any:
        if self.ws is not None:
            self.ws.close()
        self.ws = jl.open(self.url, **{**self.options, **more})
        return self.ws

    @property
    def root(self) -> RemotePath:
        return services_of(self.ws).folder

    def names(self) -> list[str]:
        return names_in(self.root)


STORES = ["memory", pytest.param("s3", marks=pytest.mark.services)]


@pytest.fixture(params=STORES)
def store(
    request: pytest.FixtureRequest, nothing_left_behind: None, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Opened]:
    if request.param == "memory":
        made = Opened(f"memory://{uuid.uuid4().hex}/lab")
    elif request.param == "server":
        folder = request.getfixturevalue("tmp_path") / "lab"
        made = Opened(str(folder), catalog=request.getfixturevalue("fresh_postgres_url"))
    else:
        without_aws(monkeypatch)
        bucket = bucket_of(request.getfixturevalue("endpoint"))
        made = Opened(
            bucket.url("lab"),
            catalog=request.getfixturevalue("fresh_postgres_url"),
            storage_options=bucket.options,
        )
    yield made
    if made.ws is not None:
        made.ws.close()


@pytest.fixture
def papers(tmp_path: Path) -> Path:
    path = tmp_path / "papers.csv"
    path.write_text("id,venue\n1,a\n2,b\n3,a\n")
    return path


@pytest.fixture
def lab(store: Opened, papers: Path) -> Any:
    ws = store.open()
    ws.sources.add("papers", papers)
    return ws


@pytest.mark.parametrize(
    "store", [*STORES, pytest.param("server", marks=pytest.mark.services)], indirect=True
)
def test_the_whole_story_runs_in_a_store_and_with_a_catalog_on_a_server(
    store, lab, papers, tmp_path
):
    table = lab.materialize("venues", VENUES, key="venue")
    busy = lab.materialize("busy", "SELECT venue FROM jammi.venues WHERE n > 1")
    assert str(table.path) == f"{store.url}/{record_of(table).path}"
    assert busy.read().fetchall() == [("a",)] and len(store.names()) == 4
    assert lab.materialize("venues", VENUES, key="venue").outcome == "reused"
    for engine, rows in (
        ("polars", lambda f: f.collect().rows()),
        ("duckdb", lambda r: r.fetchall()),
        ("pyarrow", lambda d: d.to_table().to_pylist()),
    ):
        assert len(rows(table.scan(engine))) == 2
    with pytest.raises(InvalidArgument):
        table.scan("excel")
    assert pq.read_table(table.export(tmp_path / "x.parquet")).num_rows == 2
    assert table.export(tmp_path / "x.csv").exists()
    papers.write_text("id,venue\n1,a\n2,b\n3,b\n")
    assert [verdict_code(row.verdict) for row in lab.status()] == ["possibly_stale", "stale"]
    assert [step.outcome for step in lab.recompute().steps] == ["computed", "computed"]
    assert lab.staleness("busy") == Fresh() and len(lab.lineage("papers").edges) == 2
    assert len(lab.table("venues").diff().changed) == 2
    gc.collect()  # a scan that is part of a cycle keeps its version until it is collected
    assert lab.expire("venues") == [] or lab.fsck().orphans == []
    again = store.open()
    assert not (tmp_path / "lab" / "catalog.sqlite3").exists()
    assert not again.recovery and again.lineage("papers").edges
    assert [verdict_code(row.verdict) for row in again.status()] == ["fresh", "fresh"]
    assert again.table("busy").read().fetchall() == [("b",)]
    assert again.table("busy").verify() == Match() and again.fsck().orphans == []
    again.drop("busy", force=True)
    assert "busy" not in again and len(store.names()) == 2 * len(list(again.tables()))


def test_vectors_are_made_and_searched_in_a_store(store, lab):
    lab.embed("vectors", "papers", key="id", text="venue", model="hashing")
    assert [row["key"] for row in lab.search("vectors", "b", k=1).arrow().to_pylist()] == [2]
    assert (
        lab.embed("vectors", "papers", key="id", text="venue", model="hashing").outcome == "reused"
    )


def test_an_interrupted_embed_leaves_one_checkpoint_that_the_next_uses(store, lab):
    class Slow:
        name, version, dimensions, calls = "slow", "1", 2, 0

        def encode(self, texts: list[str]) -> Any:
            import numpy as np

            self.calls += 1
            if self.calls == 2:
                raise KeyboardInterrupt
            return np.ones((len(texts), 2), np.float32)

    lab.sources["papers"]
    encoder = Slow()
    rows = "\n".join(f"{i},text {i}" for i in range(20_000))
    (Path(lab.sources["papers"].location)).write_text(f"id,venue\n{rows}\n")
    with pytest.raises(KeyboardInterrupt):
        lab.embed("vectors", "papers", key="id", text="venue", model=encoder)
    assert [name.split("/")[0] for name in store.names()] == ["checkpoints"]
    lab.embed("vectors", "papers", key="id", text="venue", model=encoder)
    assert {name.split("/")[0] for name in store.names()} == {"results"}


def test_changed_and_lost_objects_are_found_by_the_next_look(store, lab):
    table = lab.materialize("venues", VENUES)
    place = store.root / record_of(table).path
    whole = place.open().read()
    assert lab.staleness("venues") == Fresh()
    place.put(whole[:-1] + b"x", create=False)
    assert isinstance(lab.staleness("venues"), Damaged) and isinstance(table.verify(), Mismatch)
    with pytest.raises(TableDamaged):
        table.read().fetchall()
    place.put(whole, create=False)
    assert lab.staleness("venues") == Fresh()
    place.unlink()
    assert lab.staleness("venues") == Damaged(found=None) and table.verify() == MissingBytes()
    assert lab.recover().missing == [table.table_name] and lab.fsck().missing == [table.table_name]


def test_an_object_that_was_replaced_before_the_first_look_is_not_taken_for_ours(store, lab):
    table = lab.materialize("venues", VENUES)
    place = store.root / record_of(table).path
    body = bytearray(place.open().read())
    body[len(body) // 2] ^= 1
    place.put(bytes(body), create=False)
    assert isinstance(lab.staleness("venues"), Damaged)


@pytest.mark.only_soak
def test_a_look_asks_for_one_listing_and_not_for_each_table(store, monkeypatch):
    lab = store.open(settings={"look.racy_seconds": 0})  # what has no ETag is told by its time
    for i in range(5):
        lab.materialize(f"t{i}", f"SELECT {i} AS x")
    lab.status()
    asked: list[str] = []
    for name in ("list_objects", "info", "open"):
        real = getattr(RemotePath, name)
        monkeypatch.setattr(
            RemotePath,
            name,
            lambda self, *a, _real=real, _name=name: (asked.append(_name), _real(self, *a))[1],
        )
    assert [verdict_code(row.verdict) for row in lab.status()] == ["fresh"] * 5
    assert asked == ["list_objects"]


def test_a_lost_manifest_is_healed_and_what_nothing_vouches_for_is_put_aside(store, lab):
    kept, torn = lab.materialize("kept", "SELECT 1 AS x"), lab.materialize("torn", "SELECT 2 AS x")
    for table in (kept, torn):
        (store.root / record_of(table).path.replace(".parquet", ".materialization.json")).unlink()
    assert kept.verify() == NoManifest()
    place = store.root / record_of(torn).path
    place.put(place.open().read()[:-1] + b"x", create=False)
    report = lab.recover()
    assert report.healed == [kept.table_name] and report.quarantined == [torn.table_name]
    assert kept.verify() == Match() and sorted(name.split("/")[0] for name in store.names()) == [
        "quarantine",
        "quarantine",
        "results",
        "results",
    ]
    assert not lab.recover()


def test_a_check_finds_orphans_and_a_repair_reclaims_them_when_they_are_old(store, lab):
    lab.materialize("venues", VENUES)
    (store.root / "results/_global/stray.parquet").put(b"x", create=True)
    assert (
        lab.fsck().orphans == ["results/_global/stray.parquet"]
        and lab.fsck(repair=True).reclaimed == []
    )
    report = lab.fsck(repair=True, grace=0, deep=True)
    assert (
        report.reclaimed == ["results/_global/stray.parquet"]
        and report.bytes_reclaimed == 1
        and len(store.names()) == 2
    )


@pytest.mark.parametrize(
    "point", ["publish:building", "publish:sealed", "file.after_put", "publish:manifest-durable"]
)
def test_a_failure_between_put_and_catalog_leaves_failed_and_no_objects(store, lab, point):
    from jammi_lab.storage.files import install_fault_hook

    def fail(name: str) -> None:
        if name == point:
            install_fault_hook(None)
            raise OSError(5, "Input/output error")

    install_fault_hook(fail)
    try:
        with pytest.raises((JammiError, OSError)):
            lab.materialize("venues", VENUES)
    finally:
        install_fault_hook(None)
    assert [t.status for t in lab.tables(status=None)] == ["failed"] and store.names() == []
    assert lab.materialize("venues", VENUES).version == 2


def test_a_read_only_workspace_reads_and_puts_nothing(store, lab):
    lab.materialize("venues", VENUES)
    before = store.names()
    ws = store.open(read_only=True)
    assert (
        [verdict_code(row.verdict) for row in ws.status()] == ["fresh"]
        and len(ws.table("venues").read().fetchall()) == 2
        and store.names() == before
    )


def test_a_store_needs_a_catalog_and_says_how_to_name_one():
    with pytest.raises(InvalidArgument, match="object store") as refused:
        jl.open("s3://bucket/lab", storage_options={"key": KEY, "secret": SECRET})
    assert "postgresql+psycopg://" in refused.value.hint and SECRET not in repr(refused.value)
    with pytest.raises(InvalidArgument, match="storage_options"):
        jl.open("lab", storage_options={"key": KEY})


# -- S3 alone --------------------------------------------------------------------------------------


@pytest.mark.services
def test_credentials_of_the_store_are_neither_stored_nor_shown(
    bucket, fresh_postgres_url, papers, tmp_path
):
    with jl.open(
        bucket.url("lab"), catalog=fresh_postgres_url, storage_options=bucket.options
    ) as ws:
        ws.sources.add("papers", papers)
        table = ws.materialize("venues", VENUES)
        for shown in (
            repr(ws),
            repr(ws.settings),
            repr(table),
            repr(table.path),
            repr(services_of(ws).folder),
            repr(ws.status()),
            repr(ws.fsck()),
            repr(table.manifest),
        ):
            assert SECRET not in shown and KEY not in shown
        ws.backup(tmp_path / "backup.sqlite3")
        for body in [
            (tmp_path / "backup.sqlite3").read_bytes(),
            *(
                (services_of(ws).folder / name).open().read()
                for name in services_of(ws).folder.list_objects()
            ),
        ]:
            assert SECRET.encode() not in body and KEY.encode() not in body


@pytest.mark.services
def test_a_store_that_refuses_or_does_not_answer_is_typed_and_tells_nothing(
    bucket, fresh_postgres_url, monkeypatch
):
    wrong = {**bucket.options, "endpoint_url": "http://127.0.0.1:1"}
    for url, options in (
        (bucket.url("lab"), wrong),
        ("s3://no-such-bucket-here/lab", bucket.options),
    ):
        with pytest.raises(JammiError) as failed:
            jl.open(url, catalog=fresh_postgres_url, storage_options=options)
        assert isinstance(failed.value, SourceUnavailable) and SECRET not in "".join(
            failed.value.lines()
        )
    with jl.open(
        bucket.url("lab"), catalog=fresh_postgres_url, storage_options=bucket.options
    ) as ws:
        ws.materialize("one", "SELECT 1 AS x")
        with monkeypatch.context() as down:
            for name in ("info", "find", "open", "cat_file", "pipe_file", "put_file"):
                down.setattr(services_of(ws).folder.fs, name, unreachable)
            with pytest.raises(SourceUnavailable, match="cannot be reached"):
                ws.table("one").read().fetchall()
            with pytest.raises(SourceUnavailable, match="cannot be reached"):
                ws.materialize("two", "SELECT 2 AS x")
            assert [verdict_code(row.verdict) for row in ws.status()] != ["fresh"]
        assert ws.table("one").read().fetchall() == [(1,)] and ws.materialize(
            "two", "SELECT 2 AS x"
        ).read().fetchall() == [(2,)]


def unreachable(*_: Any, **__: Any) -> None:
    from botocore.exceptions import EndpointConnectionError

    raise EndpointConnectionError(endpoint_url="http://user:secret@host")


@pytest.mark.services
@pytest.mark.parametrize("store", STORES[1:], indirect=True)
def test_credentials_that_expire_in_the_middle_are_told_and_new_ones_are_enough(
    store, lab, monkeypatch
):
    import botocore.exceptions

    lab.materialize("kept", VENUES)

    async def expired(*_, **__):
        answer = {"Error": {"Code": "ExpiredToken", "Message": "The provided token has expired."}}
        raise botocore.exceptions.ClientError(answer, "PutObject")

    with monkeypatch.context() as late:
        late.setattr(type(store.root.fs), "_call_s3", expired)
        with pytest.raises(JammiError, match="ExpiredToken"):
            lab.materialize("more", "SELECT id FROM papers")
        assert verdict_code(lab.staleness("kept")) != "fresh"
    again = store.open()  # with new ones
    assert again.materialize("more", "SELECT id FROM papers").verify() == Match()
    assert again.staleness("kept") == Fresh() and again.fsck().orphans == []
    assert len(store.names()) == 4 and again.table("kept").verify() == Match()


@pytest.mark.only_soak
@pytest.mark.services
@pytest.mark.skipif(shutil.which("pg_dump") is None, reason="PostgreSQL's clients are needed")
def test_a_dump_of_the_catalog_and_copies_of_the_objects_restore_a_workspace(
    bucket, fresh_postgres_url
):
    options = {"catalog": fresh_postgres_url, "storage_options": bucket.options}
    with jl.open(bucket.url("lab"), **options) as ws:
        ws.materialize("x", "SELECT 1 AS x")
        ws.mutable.create("labels", {"id": "int64"}, primary_key=["id"]).insert([{"id": 7}])
        # the commands of docs/guides/back-up-and-restore.md
        url = fresh_postgres_url.replace("+psycopg", "")
        dump = subprocess.run(
            ["pg_dump", "--schema=jammi", url], check=True, capture_output=True
        ).stdout
        root = services_of(ws).folder
        objects = {name: (root / name).open().read() for name in root.list_objects()}
        ws.materialize("later", "SELECT 2 AS x")
    for name in root.list_objects():
        (root / name).unlink()
    run_postgres(fresh_postgres_url, "DROP SCHEMA jammi CASCADE")

    for name, body in objects.items():
        (root / name).put(body, create=False)
    subprocess.run(["psql", "--quiet", "--file=-", url], check=True, input=dump)
    with jl.open(bucket.url("lab"), **options) as ws:
        assert [recipe.name for recipe in ws.recipes()] == ["x"] and not ws.recovery
        assert ws.staleness("x") == Fresh() and ws.verify("x") == Match()
        assert ws.sql("SELECT id FROM mutable.labels").fetchall() == [(7,)]
        assert not ws.fsck(deep=True)


@pytest.mark.only_soak
@pytest.mark.services
def test_two_workspaces_in_one_bucket_are_kept_apart_and_one_can_be_rebuilt(
    bucket, fresh_postgres_url
):
    options = {"storage_options": bucket.options}
    with jl.open(bucket.url("one"), catalog=fresh_postgres_url, **options) as ws:
        ws.materialize("x", "SELECT 1 AS x")
    with pytest.raises(InvalidArgument, match="belongs to"):
        jl.open(bucket.url("two"), catalog=fresh_postgres_url, **options)
    with pytest.raises(WorkspaceNotFound, match="is new"):
        jl.open(bucket.url("one"), catalog=f"{fresh_postgres_url}?schema=other", **options)
    run_postgres(fresh_postgres_url, "DROP SCHEMA jammi CASCADE")
    report = jl.rebuild(bucket.url("one"), catalog=fresh_postgres_url, **options)
    assert report.recipes == ["x"] and report.missing == []
    with jl.open(bucket.url("one"), catalog=fresh_postgres_url, **options) as ws:
        assert ws.table("x").read().fetchall() == [(1,)] and ws.table("x").verify() == Match()
    with pytest.raises(InvalidArgument, match="object store"):
        jl.rebuild(bucket.url("one"), **options)
