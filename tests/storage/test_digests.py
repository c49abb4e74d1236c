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

from jammi_lab.core.anchors import Cost
from jammi_lab.storage import digests
from jammi_lab.storage.digests import (
    cache_key,
    column_digests,
    digest_parquet,
    digest_parquet_stream,
    fingerprint,
    sha256_file,
)
from jammi_lab.storage.files import stat_of, write_atomic
from tests.contracts.source import DictMemo
from tests.sizes import examples


def write(path, **columns):
    pq.write_table(pa.table(columns), path, row_group_size=2)


def look(path, memo, later=False, parquet=False):
    return fingerprint(
        path,
        memo,
        parquet=parquet,
        now_ns=time.time_ns() + (3600 * 10**9 if later else 0),
        racy_seconds=2.0,
    )


def test_one_pass_gives_all_of_a_file_or_of_a_stream_of_it(tmp_path):
    write(tmp_path / "f", a=[1, 2, 3], b=["x", "y", None])
    data = (tmp_path / "f").read_bytes()
    found = digest_parquet(tmp_path / "f")
    assert found.whole == sha256_file(tmp_path / "f") == hashlib.sha256(data).hexdigest()
    assert (found.rows, found.bytes) == (3, len(data))
    places = [(leaf.column, leaf.row_group) for leaf in found.leaves]
    assert places == [("a", 0), ("b", 0), ("a", 1), ("b", 1)]
    for leaf in found.leaves:
        own = data[leaf.offset : leaf.offset + leaf.length]
        assert leaf.digest == hashlib.sha256(own).hexdigest()
    with open(tmp_path / "f", "rb") as file:
        assert digest_parquet_stream(file, found.bytes) == found


def test_nested_and_dotted_columns_are_named_by_their_top(tmp_path):
    write(
        tmp_path / "f",
        **{
            "a.b": [1, 2],
            "a": [{"b": 1, "c": [1]}, None],
            "m": pa.array([[("k", 1)], []], pa.map_(pa.string(), pa.int8())),
        },
    )
    assert [leaf.column for leaf in digest_parquet(tmp_path / "f").leaves] == [
        "a.b",
        "a",
        "a",
        "m",
        "m",
    ]


def test_a_column_s_digest_follows_its_row_groups_in_order(tmp_path):
    write(tmp_path / "f", a=[1, 2, 3, 4])
    write(tmp_path / "g", a=[3, 4, 1, 2])
    f, g = digest_parquet(tmp_path / "f").leaves, digest_parquet(tmp_path / "g").leaves
    assert {leaf.digest for leaf in f} == {leaf.digest for leaf in g}
    assert column_digests(f) != column_digests(g)
    assert column_digests(f) == column_digests(f[::-1])


def test_a_torn_parquet_is_said_so(tmp_path):
    write(tmp_path / "f", a=[1, 2, 3])
    whole = (tmp_path / "f").read_bytes()
    torn = [whole[:length] for length in range(0, len(whole) - 1, 7)]
    for body in (*torn, b"PAR1PAR1", b"id,name\n1,a\n"):
        (tmp_path / "t").write_bytes(body)
        with pytest.raises((pa.ArrowInvalid, OSError)):
            digest_parquet(tmp_path / "t")


def test_a_stat_that_was_young_when_seen_or_that_moved_proves_nothing(tmp_path):
    (tmp_path / "f").write_bytes(b"x")
    memo = DictMemo()
    first = look(tmp_path / "f", memo)
    assert look(tmp_path / "f", memo, later=True).cost is Cost.SCAN
    assert look(tmp_path / "f", memo, later=True).cost is Cost.FREE
    os.utime(tmp_path / "f", ns=(1, 1))
    touched = look(tmp_path / "f", memo, later=True)
    assert touched.cost is Cost.SCAN and touched.whole == first.whole


def test_the_memo_of_bytes_does_not_answer_for_parquet(tmp_path):
    write(tmp_path / "f", a=[1])
    memo = DictMemo()
    assert look(tmp_path / "f", memo, later=True).by_column is None
    found = look(tmp_path / "f", memo, later=True, parquet=True)
    assert list(found.by_column) == ["a"] and found.row_count == 1
    assert set(memo) == {cache_key(tmp_path / "f", True), cache_key(tmp_path / "f", False)}


def test_a_file_that_changes_under_the_read_is_read_again(tmp_path, monkeypatch):
    (tmp_path / "f").write_bytes(b"one")
    plain, reads = sha256_file, []

    def reading(path, **options):
        found = plain(path, **options)
        if not reads:
            write_atomic(tmp_path / "f", b"two")
        reads.append(path)
        return found

    monkeypatch.setattr(digests, "sha256_file", reading)
    assert (
        look(tmp_path / "f", DictMemo()).whole == hashlib.sha256(b"two").hexdigest()
        and len(reads) == 2
    )


def test_a_file_that_never_rests_is_an_error(tmp_path, monkeypatch):
    (tmp_path / "f").write_bytes(b"one")

    def reading(path, **_):
        write_atomic(tmp_path / "f", os.urandom(3))
        return "?"

    monkeypatch.setattr(digests, "sha256_file", reading)
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
    f, g = (look(tmp_path / name, DictMemo(), parquet=True) for name in "fg")
    assert (
        digest_parquet(tmp_path / "f").leaves[0].digest
        == digest_parquet(tmp_path / "g").leaves[0].digest
    )
    assert f.by_column != g.by_column


def test_chunks_without_rows_and_pages_are_no_damage(tmp_path):
    """Without a dictionary pyarrow writes no page for no rows, and no offset into the footer."""
    empty = pa.table({"a": pa.array([], pa.int64()), "b": pa.array([], pa.int64())})
    pq.write_table(empty, tmp_path / "f", use_dictionary=False)
    chunk = pq.read_metadata(tmp_path / "f").row_group(0).column(0)
    assert chunk.data_page_offset == chunk.total_compressed_size == 0
    assert list(look(tmp_path / "f", DictMemo(), parquet=True).by_column) == ["a", "b"]


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
        first = look(path, memo, later=True)
        mapping[0] = 3
        assert look(path, memo, later=True).whole == sha256_file(path) != first.whole


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
                assert fingerprint(
                    path, memo, parquet=False, now_ns=min(now, time.time_ns()), racy_seconds=0.05
                ).whole == sha256_file(path)
        assert fingerprint(
            path, memo, parquet=False, now_ns=time.time_ns(), racy_seconds=0.05
        ).whole == sha256_file(path)
    assert stat_of(path) is not None


def test_a_file_that_was_read_before_is_hashed_once(tmp_path, monkeypatch):
    """Its stat proves nothing for two seconds after a write; then its bytes do, without those of
    each column."""
    path, memo = tmp_path / "f", DictMemo()
    write(path, a=[1, 2, 3])
    first = look(path, memo, parquet=True)
    digested = []
    monkeypatch.setattr(
        digests, "digest_parquet", lambda path: digested.append(path) or digest_parquet(path)
    )
    assert look(path, memo, parquet=True) == first and not digested
    raw = bytearray(path.read_bytes())
    raw[4] ^= 1
    path.write_bytes(bytes(raw))
    changed = look(path, memo, parquet=True)
    assert changed.whole == sha256_file(path) != first.whole and digested
