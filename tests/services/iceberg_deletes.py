"""Commits that delete rows of an Iceberg table without writing its data files anew, as the format's
specification has them: pyiceberg writes none."""

import time
import uuid

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.manifest import (
    DataFile,
    DataFileContent,
    FileFormat,
    ManifestContent,
    ManifestEntry,
    ManifestEntryStatus,
    ManifestWriterV2,
    write_manifest_list,
)
from pyiceberg.table.snapshots import Operation, Snapshot, Summary
from pyiceberg.table.update import AddSnapshotUpdate, SetSnapshotRefUpdate
from pyiceberg.typedef import Record

_PLACES = pa.schema(
    [
        pa.field(
            "file_path", pa.string(), nullable=False, metadata={"PARQUET:field_id": "2147483546"}
        ),
        pa.field("pos", pa.int64(), nullable=False, metadata={"PARQUET:field_id": "2147483545"}),
    ]
)


WHOLE = Record()
"""The one partition of a table that has none."""


class _DeleteManifest(ManifestWriterV2):
    def content(self):
        return ManifestContent.DELETES

    @property
    def _meta(self):
        return {**super()._meta, "content": "deletes"}


def data_files(table):
    """The data files of a table's current snapshot, in the order of their rows' writing."""
    table.refresh()
    entries = [
        entry
        for manifest in table.current_snapshot().manifests(table.io)
        for entry in manifest.fetch_manifest_entry(table.io)
    ]
    data = [entry for entry in entries if entry.data_file.content == DataFileContent.DATA]
    return [
        entry.data_file.file_path for entry in sorted(data, key=lambda entry: entry.sequence_number)
    ]


def delete_at(table, file_path, *positions, partition=WHOLE):
    """A commit that deletes rows of one data file by their places in it."""
    rows = pa.table(
        {"file_path": [file_path] * len(positions), "pos": pa.array(positions, pa.int64())},
        schema=_PLACES,
    )
    _commit(table, rows, DataFileContent.POSITION_DELETES, None, partition)


def delete_equal(table, column, *values):
    """A commit that deletes the rows in which a column has one of some values."""
    field, kind = table.schema().find_field(column), table.schema().as_arrow().field(column).type
    metadata = {"PARQUET:field_id": str(field.field_id)}
    rows = pa.table(
        [pa.array(values, kind)], pa.schema([pa.field(column, kind, metadata=metadata)])
    )
    _commit(table, rows, DataFileContent.EQUALITY_DELETES, [field.field_id], WHOLE)


def _commit(table, rows, content, ids, partition):
    table.refresh()
    metadata, name = table.metadata, uuid.uuid4()
    snapshot, number, parent = (
        metadata.new_snapshot_id(),
        metadata.next_sequence_number(),
        metadata.current_snapshot(),
    )
    path = f"{table.location()}/data/{name}-deletes.parquet"
    with table.io.new_output(path).create() as file:
        pq.write_table(rows, file)
    deletes = DataFile.from_args(
        content=content,
        file_path=path,
        file_format=FileFormat.PARQUET,
        partition=partition,
        record_count=rows.num_rows,
        file_size_in_bytes=len(table.io.new_input(path)),
        equality_ids=ids,
    )
    deletes.spec_id = metadata.default_spec_id
    output = table.io.new_output(f"{table.location()}/metadata/{name}-m0.avro")
    with _DeleteManifest(metadata.spec(), metadata.schema(), output, snapshot, "null") as writer:
        writer.add(
            ManifestEntry.from_args(
                status=ManifestEntryStatus.ADDED,
                snapshot_id=snapshot,
                sequence_number=None,
                data_file=deletes,
            )
        )
    listed = f"{table.location()}/metadata/snap-{snapshot}-0-{name}.avro"
    with write_manifest_list(
        2, table.io.new_output(listed), snapshot, parent.snapshot_id, number, "null"
    ) as of_all:
        of_all.add_manifests([*parent.manifests(table.io), writer.to_manifest_file()])
    made = Snapshot(
        snapshot_id=snapshot,
        parent_snapshot_id=parent.snapshot_id,
        sequence_number=number,
        timestamp_ms=max(time.time_ns() // 10**6, parent.timestamp_ms + 1),
        manifest_list=listed,
        summary=Summary(Operation.DELETE),
        schema_id=metadata.current_schema_id,
    )
    table.catalog.commit_table(
        table,
        (),
        (
            AddSnapshotUpdate(snapshot=made),
            SetSnapshotRefUpdate(snapshot_id=snapshot, ref_name="main", type="branch"),
        ),
    )
    table.refresh()
