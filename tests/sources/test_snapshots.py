"""States of local files: from what was seen of them if their stat proves it, else from their bytes."""

import hashlib
import mmap
import os
import random
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jammi_lab.sources.base import ObservationContext
from jammi_lab.sources.files import snapshots
from jammi_lab.sources.files.file_sets import stat_file
from jammi_lab.storage.digests import digest_parquet, sha256_file, sha256_stream
from jammi_lab.storage.files import stat_of, write_atomic
from tests.contracts.source import DictMemo
from tests.sizes import examples


def look(path, memo, *, later=False, kind="csv", now_ns=0, racy_seconds=2.0):
    """The payload of a file, and whether it was read."""
    now_ns = now_ns or time.time_ns() + (3600 * 10**9 if later else 0)
    ctx = ObservationContext(memo, describe=dict, now_ns=now_ns, racy_seconds=racy_seconds)
    file = stat_file(str(path), "")
    known = snapshots.cached_payload(file, kind, ctx, False)
    return known or snapshots.read_payload(file, kind, ctx), known is None


def by_column(path):
    payload, _ = look(path, DictMemo(), kind="parquet")
    return payload["by_column"]


def test_a_stat_that_was_young_when_seen_or_that_moved_proves_nothing(tmp_path):
    (tmp_path / "f").write_bytes(b"x")
    memo = DictMemo()
    first, _ = look(tmp_path / "f", memo)
    assert look(tmp_path / "f", memo, later=True) == (first, True)
    assert look(tmp_path / "f", memo, later=True) == (first, False)
    os.utime(tmp_path / "f", ns=(1, 1))
    assert look(tmp_path / "f", memo, later=True) == (first, True)


def test_what_is_known_of_bytes_does_not_answer_for_parquet(tmp_path):
    pq.write_table(pa.table({"a": [1]}), tmp_path / "f")
    memo = DictMemo()
    assert look(tmp_path / "f", memo, later=True)[0]["by_column"] is None
    found, was_read = look(tmp_path / "f", memo, later=True, kind="parquet")
    assert was_read and list(found["by_column"]) == ["a"] and found["rows"] == 1


def test_a_file_that_changes_under_the_read_is_read_again(tmp_path, monkeypatch):
    (tmp_path / "f").write_bytes(b"one")
    reads = []

    def reading(file):
        found = sha256_stream(file)
        if not reads:
            write_atomic(tmp_path / "f", b"two")
        reads.append(found)
        return found

    monkeypatch.setattr(snapshots, "sha256_stream", reading)
    payload, _ = look(tmp_path / "f", DictMemo())
    assert payload["whole"] == hashlib.sha256(b"two").hexdigest() and len(reads) == 2


def test_a_file_that_never_rests_is_an_error(tmp_path, monkeypatch):
    (tmp_path / "f").write_bytes(b"one")

    def reading(_):
        write_atomic(tmp_path / "f", os.urandom(3))
        return "?"

    monkeypatch.setattr(snapshots, "sha256_stream", reading)
    with pytest.raises(OSError, match="changes while being read"):
        look(tmp_path / "f", DictMemo())


def test_a_missing_file_is_said_so(tmp_path):
    with pytest.raises(FileNotFoundError):
        look(tmp_path / "f", DictMemo())


def test_a_parquet_column_moves_when_only_the_footer_reads_it_differently(tmp_path):
    pq.write_table(
        pa.table({"a": pa.array([1, 2], pa.int64())}),
        tmp_path / "f",
        use_dictionary=False,
        compression="none",
        write_statistics=False,
    )
    pq.write_table(
        pa.table({"a": pa.array([1, 2], pa.timestamp("us"))}),
        tmp_path / "g",
        use_dictionary=False,
        compression="none",
        write_statistics=False,
    )
    assert (
        digest_parquet(tmp_path / "f").leaves[0].digest
        == digest_parquet(tmp_path / "g").leaves[0].digest
    )
    assert by_column(tmp_path / "f") != by_column(tmp_path / "g")


def test_chunks_without_rows_and_pages_are_no_damage(tmp_path):
    """Without a dictionary pyarrow writes no page for no rows, and no offset into the footer."""
    empty = pa.table({"a": pa.array([], pa.int64()), "b": pa.array([], pa.int64())})
    pq.write_table(empty, tmp_path / "f", use_dictionary=False)
    chunk = pq.read_metadata(tmp_path / "f").row_group(0).column(0)
    assert chunk.data_page_offset == chunk.total_compressed_size == 0
    assert list(by_column(tmp_path / "f")) == ["a", "b"]


def test_what_is_written_through_a_mapping_after_a_look_moves_the_stat(tmp_path):
    """Of two writes to one page only the first moves it, unless the page was put down in
    between."""
    path, memo = tmp_path / "f", DictMemo()
    path.write_bytes(bytes(mmap.PAGESIZE))
    with open(path, "r+b") as file, mmap.mmap(file.fileno(), mmap.PAGESIZE) as mapping:
        mapping[0] = 1
        before = stat_of(path)
        with open(path, "rb") as other:
            os.fsync(other.fileno())
        mapping[0] = 2
        if stat_of(path) == before:
            pytest.skip("this file system does not tell of writes through a mapping")
        first, _ = look(path, memo, later=True)
        mapping[0] = 3
        payload, _ = look(path, memo, later=True)
        assert payload["whole"] == sha256_file(path) != first["whole"]


@pytest.mark.parametrize("hours", [-5, 0, 5])
def test_a_file_is_written_before_it_is_hashed_whatever_the_clock_says(
    tmp_path, monkeypatch, hours
):
    (tmp_path / "f").write_bytes(b"x")
    written, now = list[int](), time.time_ns
    monkeypatch.setattr("jammi_lab.storage.digests.writeback_function", lambda: written.append)
    monkeypatch.setattr(time, "time_ns", lambda: now() + hours * 3600 * 10**9)
    look(tmp_path / "f", DictMemo())
    assert len(written) == 1


@settings(max_examples=examples(40))
@given(
    edits=st.lists(
        st.tuples(
            st.sampled_from(
                ["rewrite", "same size", "restore mtime", "touch", "replace", "look", "late look"]
            ),
            st.integers(0, 255),
        ),
        max_size=14,
    )
)
def test_the_stat_shortcut_tells_what_the_bytes_tell(tmp_path_factory, edits):
    path = tmp_path_factory.mktemp("f") / "f"
    path.write_bytes(b"\0" * 8)
    memo, chance = DictMemo(), random.Random(1)
    for edit, byte in edits:
        stat = os.stat(path)
        match edit:
            case "rewrite":
                path.write_bytes(bytes([byte]) * chance.randint(1, 9))
            case "same size":
                path.write_bytes(bytes([byte]) * stat.st_size)
            case "restore mtime":
                path.write_bytes(bytes([byte]) * stat.st_size)
                os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
            case "touch":
                os.utime(path, ns=(byte, byte))
            case "replace":
                write_atomic(path, path.read_bytes())
            case _:
                # a look of the near future, in which what is written next shares the clock with
                # what was seen
                now = time.time_ns() + (2 * 10**9 + 10**6 if edit == "late look" else 0)
                now = min(now, time.time_ns())
                payload, _ = look(path, memo, now_ns=now, racy_seconds=0.05)
                assert payload["whole"] == sha256_file(path)
        payload, _ = look(path, memo, racy_seconds=0.05)
        assert payload["whole"] == sha256_file(path)
    assert stat_of(path) is not None
