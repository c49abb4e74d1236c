"""Files on an object store, against a server that answers for S3."""

import contextlib
import socket
import time

import fsspec
import pytest

from jammi_lab.core.anchors import Cost, Snapshot, Unknown, Vanished
from jammi_lab.core.errors import (
    ExtensionMissing,
    InvalidArgument,
    SourceUnavailable,
)
from jammi_lab.core.records import SourceRecord
from jammi_lab.sources.base import SourceContext
from jammi_lab.sources.credentials import location_options, resolve_credentials, strip_credentials
from jammi_lab.sources.files import object_stores as objects
from jammi_lab.sources.files import remote_files
from jammi_lab.sources.files import snapshots as sightings
from jammi_lab.sources.files.formats import check_options
from jammi_lab.sources.files.fsspec_mount import MountedFilesystem
from jammi_lab.sources.locations import without_credentials
from jammi_lab.sources.registry import connector_for
from jammi_lab.sources.scratch_duckdb import query
from tests.cases import cases
from tests.contracts.source import DictMemo, observed, same_state
from tests.services.stores import KEY, SECRET, Bucket, bucket_of, parquet_bytes, s3_server
from tests.sources.kinds import workbook
from tests.sources.remote import remote_source
from tests.verdicts import is_fresh, is_stale


def source(bucket: Bucket, key, kind=None, **more):
    return remote_source(bucket.url(key), kind, bucket.options, **more)


def test_a_store_and_duckdb_s_own_reader_give_the_same_rows(bucket, monkeypatch):
    monkeypatch.setattr(remote_files, "MAX_PART_BYTES", 0)
    bucket.put("d/x.parquet", parquet_bytes(id=[1, 2], name=["a", "b"]))
    direct = source(bucket, "d/").relation(None)
    bucket.put("e/what?.parquet", parquet_bytes(id=[1, 2], name=["a", "b"]))
    through = source(bucket, "e/").relation(None)
    assert direct.requirements.scoped_secret and direct.requirements.filesystem is None
    assert through.requirements.scoped_secret is None
    assert isinstance(through.requirements.filesystem, MountedFilesystem)
    assert query(direct, "FROM it") == query(through, "FROM it") == [(1, "a"), (2, "b")]


def test_two_ways_to_one_prefix_never_share_a_credential(bucket):
    bucket.put("d/x.parquet", parquet_bytes(id=[1]))
    access = [
        objects.StoreAccess("s3", {"endpoint_url": bucket.endpoint}, {"key": key, "secret": "s"})
        for key in ("one", "two")
    ]
    held = objects.duckdb_secret(access[0], f"{bucket.name}/d/")
    assert held is not None
    assert objects.duckdb_secret(access[0], f"{bucket.name}/d/") is not None
    assert objects.duckdb_secret(access[1], f"{bucket.name}/") is None
    assert objects.duckdb_secret(access[1], f"{bucket.name}/d/x") is None
    assert objects.duckdb_secret(access[1], f"{bucket.name}/e/") is not None
    del held
    assert objects.duckdb_secret(access[1], f"{bucket.name}/d/x") is not None


def test_the_same_bytes_uploaded_in_parts_are_not_a_change(bucket):
    rows = parquet_bytes(id=[1, 2, 3])
    bucket.put("x.parquet", rows)
    connector, memo = source(bucket, "x.parquet"), DictMemo()
    before = observed(connector, memo)
    [one] = connector.file_set.list_files("parquet")
    bucket.put_in_parts("x.parquet", rows)
    [other] = connector.file_set.list_files("parquet")
    assert one.mark != other.mark
    assert same_state(before, observed(connector, memo))


def test_large_objects_are_known_by_what_their_store_says(bucket, monkeypatch):
    monkeypatch.setattr(sightings, "MIN_MARKED_BYTES", 100)
    bucket.put("d/x.parquet", parquet_bytes(id=[1, 2, 3]))
    connector = source(bucket, "d/")
    before = observed(connector, scan_bytes=0)
    assert (
        isinstance(before, Snapshot)
        and before.method == "ETag with size"
        and before.cost is Cost.METADATA
    )
    assert same_state(before, observed(connector))
    bucket.put("d/x.parquet", parquet_bytes(id=[1, 2, 4]))
    after = observed(connector)
    assert isinstance(after, Snapshot) and not same_state(before, after)
    bucket.put("d/y.parquet", parquet_bytes(id=[5]))
    assert not same_state(after, observed(connector))


def test_a_version_id_is_taken_before_an_etag(bucket, monkeypatch):
    monkeypatch.setattr(sightings, "MIN_MARKED_BYTES", 100)
    bucket.client.put_bucket_versioning(
        Bucket=bucket.name, VersioningConfiguration={"Status": "Enabled"}
    )
    bucket.put("x.parquet", parquet_bytes(id=[1]))
    connector = source(bucket, "x.parquet")
    before = observed(connector)
    assert before.method == "VersionId with size"
    bucket.put("x.parquet", parquet_bytes(id=[2]))
    assert not same_state(before, observed(connector))


def test_the_version_id_of_a_bucket_that_keeps_no_versions_is_none(bucket, monkeypatch):
    monkeypatch.setattr(sightings, "MIN_MARKED_BYTES", 1)
    bucket.put("x.csv", b"a\n1\n")
    connector = source(bucket, "x.csv", "csv")
    told = connector.file_set.filesystem.info
    # what s3 tells of every object that was written while versioning is suspended; the server of
    # these tests leaves it out
    monkeypatch.setattr(
        connector.file_set.filesystem,
        "info",
        lambda path, **how: {**told(path, **how), "VersionId": "null"},
    )
    before = observed(connector)
    bucket.put("x.csv", b"a\n2\n")
    assert before.method == "ETag with size" and not same_state(before, observed(connector))


def test_anchor_content_reads_even_large_objects(bucket, monkeypatch):
    monkeypatch.setattr(sightings, "MIN_MARKED_BYTES", 100)
    bucket.put("x.parquet", parquet_bytes(id=[1]))
    assert observed(source(bucket, "x.parquet", anchor="content")).method == "digest of the columns"


def test_what_is_fetched_is_what_was_listed(bucket):
    bucket.put("x.csv", b"id\n1\n")
    [listed] = source(bucket, "x.csv").file_set.list_files("csv")
    bucket.put("x.csv", b"id\n2\n")
    with pytest.raises(OSError, match="changed during the read"):
        listed.open()


def test_one_listing_serves_a_whole_prefix(bucket, monkeypatch):
    for n in range(5):
        bucket.put(f"d/{n}.parquet", parquet_bytes(id=[n]))
    connector, memo = source(bucket, "d/"), DictMemo()
    observed(connector, memo)
    fs, asked = connector.file_set.filesystem, []
    plain = fs._call_s3
    monkeypatch.setattr(
        fs, "_call_s3", lambda *args, **more: asked.append(args) or plain(*args, **more)
    )
    assert observed(connector, memo).cost is Cost.METADATA
    assert [a[0] for a in asked] == ["list_objects_v2"]


def test_a_workbook_on_a_store_is_read_as_one_here(ws, bucket, tmp_path):
    def put(*ids):
        workbook(tmp_path / "b.xlsx", one=[["id"], *([each] for each in ids)])
        bucket.put("d/b.xlsx", (tmp_path / "b.xlsx").read_bytes())

    put(1, 2)
    assert ws.sources.add("book", bucket.url("d/b.xlsx"), options=bucket.options).kind == "xlsx"
    assert ws.materialize("t", "SELECT id FROM book").read().fetchall() == [(1,), (2,)]
    assert is_fresh(ws)
    put(1, 2, 3)
    assert is_stale(ws)


# -- what is wrong ---------------------------------------------------------------------------------


def test_a_missing_bucket_is_unknown_and_said(bucket):
    lost = Bucket("no-such-bucket-here", bucket.endpoint, bucket.client)
    with pytest.raises(SourceUnavailable, match="the bucket does not exist"):
        source(lost, "d/", "parquet").check()
    for key in ("x.parquet", "d/", "d/*.parquet"):
        assert isinstance(observed(source(lost, key, "parquet")), Unknown)


def test_a_server_that_is_down_is_unknown_within_seconds(bucket):
    down = Bucket(bucket.name, "http://127.0.0.1:9", bucket.client)
    started = time.monotonic()
    for key in ("x.parquet", "d/"):
        seen = observed(source(down, key, "parquet"))
        assert isinstance(seen, Unknown) and "cannot be reached" in seen.why
    with pytest.raises(SourceUnavailable, match="cannot be reached"):
        source(down, "x.parquet").check()
    assert time.monotonic() - started < 15


def test_a_server_that_says_nothing_is_asked_twice(bucket, monkeypatch):
    monkeypatch.setitem(objects._CLIENT_LIMITS, "read_timeout", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as server:
        mute = Bucket(bucket.name, f"http://127.0.0.1:{server.getsockname()[1]}", bucket.client)
        assert isinstance(observed(source(mute, "x.parquet", "parquet")), Unknown)
        server.settimeout(0.5)
        lines = []
        with contextlib.suppress(TimeoutError):
            while True:
                lines.append(server.accept()[0])
        for line in lines:
            line.close()
    assert len(lines) == 2


def test_denied_is_unknown_and_not_vanished(bucket, monkeypatch):
    bucket.put("x.parquet", parquet_bytes(id=[1]))
    connector = source(bucket, "x.parquet")
    monkeypatch.setattr(
        connector.file_set.filesystem,
        "info",
        lambda *a, **k: (_ for _ in ()).throw(PermissionError("Access Denied")),
    )
    seen = observed(connector)
    assert isinstance(seen, Unknown) and "permission denied" in seen.why


def test_unknown_options_list_the_known_ones():
    with pytest.raises(InvalidArgument, match="kay") as error:
        check_options("csv", {"kay": "1"}, location_options("s3://b/x.csv"))
    assert all(word in error.value.hint for word in ("delim", *objects.OPTIONS))
    with pytest.raises(InvalidArgument) as error:
        check_options("csv", {"secret": 12345678}, location_options("s3://b/x.csv"))
    assert "12345678" not in str(error.value)


@pytest.mark.parametrize(("scheme", "extra"), [("gs", "gcs"), ("az", "azure"), ("abfs", "azure")])
def test_a_missing_library_names_the_extra(scheme, extra, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "gcsfs", None)
    monkeypatch.setitem(__import__("sys").modules, "adlfs", None)
    objects.open_filesystem.cache_clear()
    connector = connector_for(SourceRecord(name="s", kind="csv", location=f"{scheme}://b/x.csv"))
    with pytest.raises(ExtensionMissing) as error:
        connector.check()
    assert f"jammi-lab[{extra}]" in error.value.hint


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        (
            "gs://b/x.csv",
            {"token": "tok", "endpoint_url": "http://127.0.0.1:1", "timeout": objects.READ_SECONDS},
        ),
        (
            "az://b/x.csv",
            {
                "sas_token": "tok",
                "account_name": "k",
                "account_key": "s",
                "account_host": "127.0.0.1:1",
                "anon": False,
            },
        ),
    ],
)
def test_the_other_stores_get_their_arguments_and_are_read_through_fsspec(
    location, expected, monkeypatch
):
    """No server of Google's or Microsoft's is asked here: what is held is how their fsspec
    filesystems are made and used."""
    from fsspec.implementations.memory import MemoryFileSystem

    made = {}

    class Fake(MemoryFileSystem):
        protocol = location.split(":", 1)[0]
        cachable = False
        store: dict = {}

        def __init__(
            self,
            token=None,
            endpoint_url=None,
            timeout=None,
            account_name=None,
            account_key=None,
            sas_token=None,
            account_host=None,
            anon=None,
            **_,
        ):
            made.update(locals())
            super().__init__()

        @classmethod
        def _strip_protocol(cls, path):
            return "/" + path.split("://", 1)[-1].strip("/")

        def unstrip_protocol(self, path):
            return f"{self.protocol}:/{path}"

        def info(self, path, **more):
            return {**super().info(path, **more), "etag": str(len(self.store[path].getvalue()))}

    monkeypatch.setattr(fsspec, "get_filesystem_class", lambda _: Fake)
    objects.open_filesystem.cache_clear()
    alone = {"gs": "token", "az": "account_key"}[Fake.protocol]
    assert objects.StoreAccess(Fake.protocol, {}, {"secret": "alone"}).filesystem
    assert made[alone] == "alone", "the text of a secret without a colon"
    typed = {"key": "k", "secret": "s", "token": "tok", "endpoint_url": "http://127.0.0.1:1"}
    clean, options, taken = strip_credentials(location, typed)
    assert set(taken) == {"key", "secret", "token"}
    connector = connector_for(
        SourceRecord(name="s", kind="csv", location=clean, options=options),
        context=SourceContext(credentials=lambda: (taken, None)),
    )
    connector.file_set.filesystem.pipe_file("/b/x.csv", b"id\n1\n")
    try:
        assert {k: v for k, v in made.items() if k in expected} == expected
        assert query(connector.relation(None), "FROM it") == [(1,)]
        memo = DictMemo()
        assert [observed(connector, memo).cost for _ in range(2)] == [
            Cost.SCAN,
            Cost.METADATA,
        ]
        connector.file_set.filesystem.rm("/b/x.csv")
        assert isinstance(observed(connector, memo), Vanished)
    finally:
        objects.open_filesystem.cache_clear()


# -- credentials -----------------------------------------------------------------------------------


def test_an_address_with_parameters_is_refused_without_repeating_them():
    with pytest.raises(InvalidArgument, match="takes no parameters") as caught:
        strip_credentials("s3://b/x.csv?s3_access_key_id=k&s3_secret_access_key=hidden", {})
    assert "hidden" not in str(caught.value) and "secret" in caught.value.hint


@pytest.mark.parametrize(
    ("location", "options", "clean", "taken"),
    cases("sources/store_credentials", "location", "options", "clean", "taken"),
)
def test_credentials_are_taken_out_of_address_and_options(location, options, clean, taken):
    found = strip_credentials(location, options)
    assert (found[0], found[2]) == (clean, taken)
    assert not set(found[1]) & set(taken)
    assert without_credentials(location) == clean


def test_an_endpoint_with_a_password_is_refused_without_telling_it():
    with pytest.raises(InvalidArgument) as error:
        strip_credentials("s3://b/x.csv", {"endpoint_url": "http://me:hunter2@host"})
    assert "hunter2" not in str(error.value)
    with pytest.raises(InvalidArgument):
        strip_credentials("s3://b/x.csv", {"endpoint_url": "host"})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("k:s", {"key": "k", "secret": "s"}),
        ("k:s:t:u", {"key": "k", "secret": "s", "token": "t:u"}),
        ("s", {"secret": "s"}),
    ],
)
def test_what_a_secret_s_text_means(text, expected):
    record = SourceRecord(name="s", kind="csv", location="s3://b/x.csv", secret="X")
    assert resolve_credentials(record, lambda: ({}, text)).credentials == expected


def test_a_secret_that_is_json_is_refused_without_telling_it():
    record = SourceRecord(name="s", kind="csv", location="s3://b/x.csv", secret="X")
    with pytest.raises(InvalidArgument) as error:
        resolve_credentials(record, lambda: ({}, '{"key": hunter2}'))
    assert "hunter2" not in str(error.value)


# -- a workspace -----------------------------------------------------------------------------------


def test_credentials_from_the_environment_are_enough_also_after_a_restart(
    tmp_path, bucket, monkeypatch
):
    import jammi_lab as jl

    bucket.put("x.csv", b"id\n1\n")
    for name, value in (
        ("AWS_ACCESS_KEY_ID", KEY),
        ("AWS_SECRET_ACCESS_KEY", SECRET),
        ("AWS_ENDPOINT_URL", bucket.endpoint),
    ):
        monkeypatch.setenv(name, value)
    objects.open_filesystem.cache_clear()
    for again in (False, True):
        with jl.open(tmp_path / "lab") as ws:
            if not again:
                ws.sources.add("o", bucket.url("x.csv"))
                ws.materialize("t", "FROM o")
            assert ws.sql("FROM o").fetchall() == [(1,)]
            assert is_fresh(ws)
    objects.open_filesystem.cache_clear()


def test_two_stores_with_a_bucket_of_one_name_are_joined_without_mixing(tmp_path, bucket, endpoint):
    import jammi_lab as jl

    with s3_server() as second:
        other = bucket_of(second)
        other.client.create_bucket(Bucket=bucket.name)
        other.name = bucket.name
        bucket.put("x.csv", b"id,here\n1,first\n")
        other.put("x.csv", b"id,there\n1,second\n")
        with jl.open(tmp_path / "lab") as ws:
            ws.sources.add("a", bucket.url("x.csv"), options=bucket.options)
            ws.sources.add("b", other.url("x.csv"), options=other.options)
            assert ws.sql("SELECT here, there FROM a JOIN b USING (id)").fetchall() == [
                ("first", "second")
            ]
