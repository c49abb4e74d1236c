"""The digest of a file that is taken while the file is written is that of its bytes."""

import hashlib
import random

import pyarrow as pa
import pytest

from jammi_lab.storage import digests, parquet
from jammi_lab.storage import write_digest as growing
from jammi_lab.storage.digests import digest_parquet, sha256_file
from jammi_lab.storage.parquet import ParquetSink
from jammi_lab.storage.write_digest import StreamingDigest


@pytest.mark.parametrize("seed", range(20))
def test_it_is_the_digest_of_the_bytes_however_they_came(tmp_path, monkeypatch, seed):
    monkeypatch.setattr(growing, "MIN_BACKGROUND_BYTES", 1)
    chance, whole = random.Random(seed), b""
    with open(tmp_path / "f", "wb", buffering=0) as file:
        taken = StreamingDigest(tmp_path / "f")
        for _ in range(chance.randrange(12)):
            piece = chance.randbytes(chance.randrange(200_000))
            file.write(piece)
            whole += piece
            if chance.random() < 0.7:
                taken.hash_in_background()
        assert taken.finish() == hashlib.sha256(whole).hexdigest()


def test_a_file_that_cannot_be_read_meanwhile_is_read_in_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr(growing, "MIN_BACKGROUND_BYTES", 1)
    taken = StreamingDigest(tmp_path / "f")
    taken.hash_in_background()
    (tmp_path / "f").write_bytes(b"all of it")
    assert taken.finish() == hashlib.sha256(b"all of it").hexdigest()


def test_a_file_that_is_gone_in_the_end_is_said_so(tmp_path, monkeypatch):
    monkeypatch.setattr(growing, "MIN_BACKGROUND_BYTES", 1)
    (tmp_path / "f").write_bytes(b"some of it")
    taken = StreamingDigest(tmp_path / "f")
    taken.hash_in_background()
    taken.abort()
    (tmp_path / "f").unlink()
    with pytest.raises(FileNotFoundError):
        taken.finish()


def test_without_a_thread_to_be_had_it_is_taken_in_the_end(tmp_path, monkeypatch):
    def none(*_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(growing, "MIN_BACKGROUND_BYTES", 1)
    monkeypatch.setattr(growing, "submit", none)
    (tmp_path / "f").write_bytes(b"all of it")
    taken = StreamingDigest(tmp_path / "f")
    taken.hash_in_background()
    assert taken.finish() == sha256_file(tmp_path / "f")


def test_a_table_that_is_digested_while_it_is_written_has_the_digests_of_its_bytes(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(growing, "MIN_BACKGROUND_BYTES", 1)
    monkeypatch.setattr(parquet, "ROW_GROUP_ROWS", 500)
    monkeypatch.setattr(digests, "SMALL_FILE_BYTES", 0)
    monkeypatch.setattr(digests, "PARALLEL_HASH_BYTES", 0)
    rows = pa.table({"a": range(3210), "b": [str(i) for i in range(3210)]})
    sink = ParquetSink(tmp_path / "f", rows.schema)
    for batch in rows.to_batches(max_chunksize=170):
        sink.write(batch)
    sink.close()
    found = digest_parquet(tmp_path / "f", sink.streaming_digest)
    assert len(found.leaves) == 14
    assert found == digest_parquet(tmp_path / "f")
    assert found.whole == sha256_file(tmp_path / "f")


def test_an_aborted_table_leaves_nothing_that_reads_it(tmp_path, monkeypatch):
    monkeypatch.setattr(growing, "MIN_BACKGROUND_BYTES", 1)
    monkeypatch.setattr(parquet, "ROW_GROUP_ROWS", 500)
    sink = ParquetSink(tmp_path / "f", pa.schema([("a", pa.int64())]))
    sink.write(pa.table({"a": range(3210)}))
    sink.abort()
    assert not sink.streaming_digest._read_lock.locked()
    assert list(tmp_path.iterdir()) == []
