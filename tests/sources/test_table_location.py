"""Delta and Iceberg tables on an object store."""

import json

import pytest
from deltalake import DeltaTable, write_deltalake
from pyiceberg.catalog.sql import SqlCatalog

import jammi_lab as jl
from jammi_lab.core.errors import InvalidArgument, SourceUnavailable
from jammi_lab.core.verdicts import Fresh, InputVanished, Stale
from tests.services.iceberg_deletes import data_files, delete_at
from tests.services.servers import free_port
from tests.services.stores import KEY, SECRET
from tests.sources.kinds import lettered as rows
from tests.verdicts import doubt, is_fresh, is_stale

pytestmark = pytest.mark.services


class Delta:
    kind, method = "delta", "version of the table"

    def __init__(self, bucket, _):
        self.url, self.bucket = bucket.url("lake/orders"), bucket
        self.told = {
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_ENDPOINT_URL": bucket.endpoint,
            "AWS_REGION": "us-east-1",
            "AWS_ALLOW_HTTP": "true",
            "aws_conditional_put": "etag",
        }
        write_deltalake(self.url, rows([1, 2]), storage_options=self.told)

    def append(self):
        write_deltalake(self.url, rows([3]), storage_options=self.told, mode="append")

    def compact(self):
        DeltaTable(self.url, storage_options=self.told).optimize.compact()


def lake_catalog(bucket, uri):
    told = {
        "s3.endpoint": bucket.endpoint,
        "s3.access-key-id": KEY,
        "s3.secret-access-key": SECRET,
        "s3.region": "us-east-1",
    }
    return SqlCatalog("lake", uri=uri, warehouse=bucket.url("lake"), **told)


class Iceberg:
    kind, method = "iceberg", "snapshot of the table"

    def __init__(self, bucket, tmp_path):
        self.url = bucket.url("lake/shop/orders")
        self.catalog = lake_catalog(bucket, f"sqlite:///{tmp_path}/catalog.db")
        self.catalog.create_namespace("shop")
        self.table = self.catalog.create_table("shop.orders", schema=rows([1]).schema)
        self.table.append(rows([1, 2]))

    def append(self):
        self.table.append(rows([3]))

    def compact(self):
        self.table.overwrite(self.table.scan().to_arrow())


@pytest.fixture(params=[Delta, Iceberg])
def lake(request, bucket, tmp_path):
    made = request.param(bucket, tmp_path)
    yield made
    if request.param is Iceberg:
        made.catalog.close()


@pytest.fixture
def orders(ws, bucket, lake):
    """The table is the source orders."""
    ws.sources.add("orders", lake.url, options=bucket.options)


def test_a_table_on_a_store_is_told_read_and_anchored_on_its_snapshot(
    ws, tmp_path, bucket, lake, monkeypatch, orders
):
    assert ws.sources["orders"].kind == lake.kind and ws.sources["orders"].location == lake.url
    ws.materialize("t", "SELECT id, name FROM orders")
    assert is_fresh(ws) and isinstance(ws.status()["t"].verdict, Fresh)
    lake.append()
    verdict = ws.staleness("t")
    assert isinstance(verdict, Stale) and verdict.reasons[0].recorded.method == lake.method
    ws.recompute("t")
    assert (
        ws.sql("SELECT count(*) FROM jammi.t").fetchall()
        == ws.sql("SELECT count(*) FROM orders").fetchall()
        == [(3,)]
    )
    lake.compact()
    assert is_fresh(ws), "the same rows in other files"
    ws.close()
    assert not [
        p
        for p in tmp_path.rglob("*")
        if p.is_file() and SECRET.encode() in p.read_bytes() and "catalog.db" not in p.name
    ]
    with jl.open(tmp_path / "lab") as again:
        assert doubt(again), "what was typed is not kept"
        monkeypatch.setenv("LAKE", f"{KEY}:{SECRET}")
        again.sources.add(
            "orders",
            lake.url,
            secret="LAKE",
            options={"endpoint_url": bucket.endpoint},
            replace=True,
        )
        assert is_fresh(again)


@pytest.mark.parametrize("lake", [Iceberg], indirect=True)
def test_rows_that_are_deleted_beside_the_data_are_gone_on_a_store_too(ws, bucket, lake, orders):
    ws.materialize("t", "SELECT id FROM orders")
    delete_at(lake.table, data_files(lake.table)[0], 0)
    assert is_stale(ws) and ws.sql("SELECT id FROM orders").fetchall() == [(2,)]


def test_a_table_that_is_gone_has_vanished_and_a_store_that_is_silent_leaves_it_undecidable(
    ws, bucket, lake, orders
):
    ws.materialize("t", "SELECT id FROM orders")
    down = {**bucket.options, "endpoint_url": f"http://127.0.0.1:{free_port()}"}
    ws.sources.add("orders", lake.url, kind=lake.kind, options=down, check=False, replace=True)
    assert doubt(ws)
    ws.sources.add("orders", lake.url, options=bucket.options, replace=True)
    assert is_fresh(ws)
    bucket.remove("lake/")
    verdict = ws.staleness("t")
    assert isinstance(verdict, Stale) and isinstance(verdict.reasons[0], InputVanished)
    with pytest.raises(SourceUnavailable, match=r"there is no \w+ table at s3://"):
        ws.sql("SELECT * FROM orders")


def test_a_missing_bucket_or_a_refused_credential_is_said_and_nothing_registered(ws, bucket, lake):
    with pytest.raises(SourceUnavailable, match="the bucket does not exist"):
        ws.sources.add(
            "orders",
            lake.url.replace(bucket.name, "no-such-bucket"),
            kind=lake.kind,
            options=bucket.options,
        )
    with pytest.raises(InvalidArgument, match=r"from local folders and from s3, not from gs://"):
        ws.sources.add("orders", lake.url.replace("s3://", "gs://"), kind=lake.kind)
    assert "orders" not in ws.sources


@pytest.mark.parametrize(
    "elsewhere",
    [
        "file://{here}",
        "{here}",
        "s3://{bucket}/elsewhere/{name}",
        "../../elsewhere/{name}",
        "s3://another/{name}",
    ],
)
def test_a_log_on_a_store_leads_to_no_other_files(ws, tmp_path, bucket, elsewhere):
    lake = Delta(bucket, None)
    write_deltalake(tmp_path / "here", rows([7]))
    [file] = (tmp_path / "here").glob("*.parquet")
    bucket.put(f"elsewhere/{file.name}", file.read_bytes())
    key = "lake/orders/_delta_log/00000000000000000000.json"
    said = [
        json.loads(line)
        for line in bucket.client.get_object(Bucket=bucket.name, Key=key)["Body"]
        .read()
        .decode()
        .splitlines()
    ]
    for line in said:
        if "add" in line:
            line["add"]["path"] = elsewhere.format(here=file, bucket=bucket.name, name=file.name)
    bucket.put(key, "\n".join(map(json.dumps, said)).encode())
    with pytest.raises((InvalidArgument, SourceUnavailable)) as caught:
        ws.sources.add("orders", lake.url, options=bucket.options)
    assert "a file outside the table" in str(caught.value) or "one of its files" in str(
        caught.value
    )
