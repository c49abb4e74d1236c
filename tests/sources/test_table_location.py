"""What is special about Delta and Iceberg tables on an object store."""

import copy
import json

import pytest
from deltalake import write_deltalake

from jammi_lab.core.errors import InvalidArgument, SourceUnavailable
from tests.services.iceberg_deletes import data_files, delete_at
from tests.services.servers import free_port
from tests.sources.kinds import DeltaInBucket, IcebergInBucket
from tests.sources.kinds import lettered as rows
from tests.verdicts import doubt, is_fresh, is_stale

pytestmark = pytest.mark.services


@pytest.fixture(params=[DeltaInBucket(), IcebergInBucket()], ids=str)
def lake(request, tmp_path):
    made = copy.copy(request.param)
    made.make(tmp_path / "there", request.getfixturevalue)
    yield made
    made.end()


@pytest.mark.parametrize("lake", [IcebergInBucket()], indirect=True)
def test_rows_that_are_deleted_beside_the_data_are_gone_on_a_store_too(ws, lake):
    lake.add(ws)
    ws.materialize("t", "SELECT id FROM s")
    delete_at(lake.lake, data_files(lake.lake)[0], 0)
    assert is_stale(ws) and ws.sql("SELECT id FROM s ORDER BY id").fetchall() == [(2,), (3,)]


def test_a_store_that_is_silent_leaves_its_table_undecidable(ws, lake):
    lake.add(ws)
    ws.materialize("t", "SELECT id FROM s")
    down = {**lake.options, "endpoint_url": f"http://127.0.0.1:{free_port()}"}
    lake.add(ws, kind=lake.kind, options=down, check=False, replace=True)
    assert doubt(ws)
    lake.add(ws, replace=True)
    assert is_fresh(ws)


def test_a_missing_bucket_or_another_store_is_told_and_nothing_registered(ws, bucket, lake):
    location = lake.location
    lake.location = location.replace(bucket.name, "no-such-bucket")
    with pytest.raises(SourceUnavailable, match="the bucket does not exist"):
        lake.add(ws, kind=lake.kind)
    lake.location = location.replace("s3://", "gs://")
    with pytest.raises(InvalidArgument, match=r"from local folders and from s3, not from gs://"):
        lake.add(ws, kind=lake.kind)
    assert "s" not in ws.sources


@pytest.mark.parametrize("lake", [DeltaInBucket()], indirect=True)
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
def test_a_log_on_a_store_leads_to_no_other_files(ws, tmp_path, bucket, lake, elsewhere):
    write_deltalake(tmp_path / "here", rows([7]))
    [file] = (tmp_path / "here").glob("*.parquet")
    bucket.put(f"elsewhere/{file.name}", file.read_bytes())
    key = f"lake/shop/orders/_delta_log/{0:020}.json"
    said = [json.loads(line) for line in bucket.get(key).splitlines()]
    for line in said:
        if "add" in line:
            line["add"]["path"] = elsewhere.format(here=file, bucket=bucket.name, name=file.name)
    bucket.put(key, "\n".join(map(json.dumps, said)).encode())
    with pytest.raises(
        (InvalidArgument, SourceUnavailable), match=r"a file outside the table|one of its files"
    ):
        lake.add(ws)
