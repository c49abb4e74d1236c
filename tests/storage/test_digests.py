import hashlib

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jammi_lab.storage.digests import (
    column_digests,
    digest_parquet,
    digest_parquet_stream,
    sha256_file,
)


def write(path, **columns):
    pq.write_table(pa.table(columns), path, row_group_size=2)


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
