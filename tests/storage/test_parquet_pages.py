"""Digests of Parquet columns hold where readers find values in just the bytes that were digested;
else the whole file tells."""

import io
import struct
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jammi_lab.core.verdicts import Stale
from jammi_lab.storage.digests import (
    digest_parquet,
    digest_parquet_stream,
    pages_match_footer,
    parquet_payload,
)

ROWS = pa.table(
    {
        "n": pa.array(range(3000), pa.int64()),
        "t": [None if i % 7 == 0 else f"x{i % 50}" for i in range(3000)],
        "l": [[i, i + 1] if i % 3 else None for i in range(3000)],
        "s": [{"a": i, "b": {"c": str(i)}} for i in range(3000)],
    }
)
PLAIN = {"use_dictionary": False, "compression": "none", "write_statistics": False}


def payload(path):
    with open(path, "rb") as file:
        return parquet_payload(digest_parquet(path), file)


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"compression": "zstd", "data_page_version": "2.0"},
        {"compression": "gzip", "use_dictionary": False},
        {"row_group_size": 100},
        {"data_page_size": 500},
        {"dictionary_pagesize_limit": 100},
        {"write_page_index": True},
        {"write_page_checksum": True},
    ],
    ids=str,
)
def test_what_writers_write_is_told_by_column(tmp_path, how):
    pq.write_table(ROWS, tmp_path / "f", **how)
    assert set(payload(tmp_path / "f")["by_column"]) == {"n", "t", "l", "s"}


@pytest.mark.parametrize(
    "options", ["", ", COMPRESSION zstd", ", PARQUET_VERSION v2", ", ROW_GROUP_SIZE 2048"]
)
def test_what_duckdb_writes_is_told_by_column(tmp_path, options):
    with duckdb.connect() as connection:
        connection.register("rows", ROWS)
        connection.execute(f"COPY rows TO '{tmp_path}/f' (FORMAT parquet{options})")
    assert set(payload(tmp_path / "f")["by_column"]) == {"n", "t", "l", "s"}


def test_a_long_header_is_read_to_its_end(tmp_path):
    pq.write_table(
        pa.table({"t": ["a" * 70_000, "b" * 70_000]}), tmp_path / "f", use_dictionary=False
    )
    assert payload(tmp_path / "f")["by_column"] is not None


def test_a_file_without_rows_is_told_by_column(tmp_path):
    pq.write_table(ROWS.slice(0, 0), tmp_path / "f")
    assert set(payload(tmp_path / "f")["by_column"]) == {"n", "t", "l", "s"}


def varint(value):
    value, out = value << 1, bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def retold(path, former, now, which=0):
    """The file with a number of its footer replaced by one that takes as many bytes; `which`: how
    often the same number stands before it."""
    raw = path.read_bytes()
    begins = len(raw) - 8 - struct.unpack("<I", raw[-8:-4])[0]
    one, other = varint(former), varint(now)
    at = [place for place in range(begins, len(raw)) if raw.startswith(one, place)][which]
    assert len(one) == len(other)
    path.write_bytes(raw[:at] + other + raw[at + len(one) :])


def two_pages(path, last=2999):
    """One column of two pages of one size; `last` is in the second one."""
    values = pa.table({"n": pa.array([*range(2999), last], pa.int64())})
    pq.write_table(
        values, path, data_page_size=12_000, write_batch_size=1500, store_schema=False, **PLAIN
    )
    return pq.read_metadata(path).row_group(0).column(0)


def shortened(path, chunk):
    """What the column's chunk is said to have is halved; the number before it is that of its bytes
    before compression."""
    retold(path, chunk.total_compressed_size, chunk.total_compressed_size // 2, 1)
    assert (
        pq.read_metadata(path).row_group(0).column(0).total_compressed_size
        == chunk.total_compressed_size // 2
    )


def test_bytes_that_a_lying_footer_does_not_cover_are_seen_to_change(ws, tmp_path):
    """The footer says that the chunk ends after its first page; DuckDB reads the second one all the
    same."""
    path = tmp_path / "f.parquet"
    for last in (2999, 77):
        chunk = two_pages(path, last)
        shortened(path, chunk)
        assert duckdb.sql(
            f"SELECT max_by(n, r) FROM (SELECT n, file_row_number r FROM read_parquet('{path}', file_row_number=true))"
        ).fetchall() == [(last,)]
        assert payload(path)["by_column"] is None
        if last == 2999:
            ws.sources.add("s", path)
            ws.materialize("t", "SELECT sum(n) AS n FROM s")
    assert isinstance(ws.staleness("t"), Stale)


@pytest.mark.parametrize("lie", ["longer", "fewer values", "begins elsewhere", "rows"])
def test_a_footer_that_lies_leaves_the_whole_file(tmp_path, lie):
    path = tmp_path / "f.parquet"
    chunk = two_pages(path)
    if lie == "longer":
        retold(path, chunk.total_compressed_size, chunk.total_compressed_size + 8, 1)
    elif lie == "begins elsewhere":
        pq.write_table(
            ROWS.select(["t"]), path, compression="none", write_statistics=False, store_schema=False
        )
        chunk = pq.read_metadata(path).row_group(0).column(0)
        retold(path, chunk.data_page_offset, chunk.data_page_offset - 1)
    elif lie == "rows":
        retold(path, 3000, 2900)
        assert pq.read_metadata(path).num_rows == 2900
    else:
        retold(path, 3000, 2900, 1)
        assert pq.read_metadata(path).row_group(0).column(0).num_values == 2900
    found = payload(path)
    assert found["by_column"] is None and found["whole"] == digest_parquet(path).whole


def test_a_stream_is_looked_at_likewise(tmp_path):
    chunk = two_pages(tmp_path / "f")
    raw = (tmp_path / "f").read_bytes()
    assert parquet_payload(
        digest_parquet_stream(io.BytesIO(raw), len(raw)), io.BytesIO(raw)
    ) == payload(tmp_path / "f")
    shortened(tmp_path / "f", chunk)
    raw = (tmp_path / "f").read_bytes()
    assert (
        parquet_payload(digest_parquet_stream(io.BytesIO(raw), len(raw)), io.BytesIO(raw))[
            "by_column"
        ]
        is None
    )


def test_what_is_no_page_is_no_header(tmp_path):
    path = tmp_path / "f"
    chunk = two_pages(path)
    footer, raw = pq.read_metadata(path), bytearray(path.read_bytes())
    for junk in (b"\xff" * 64, b"\x00" * 64, b"\x1c" * 64, b"\x19\xfc" + b"\xff" * 62):
        raw[chunk.data_page_offset : chunk.data_page_offset + 64] = junk
        assert not pages_match_footer(io.BytesIO(bytes(raw)), footer)


def _patched(path: Path, old: bytes, new: bytes) -> None:
    """Replace bytes of the footer by as many others."""
    raw = path.read_bytes()
    start = len(raw) - 8 - int.from_bytes(raw[-8:-4], "little")
    assert old in raw[start:]
    path.write_bytes(raw[:start] + raw[start:].replace(old, new))


STATISTICS = {
    "bounds": ((1000).to_bytes(8, "little"), (5).to_bytes(8, "little")),
    "null count": (b"\x16\x06", b"\x16\x00"),
}
"""How the footer of `_numbered` is changed: the largest id, or the number of NULLs, 3 as zigzag 6."""


def _numbered(path: Path) -> Path:
    ids = [None if i in (2, 3, 4) else i for i in range(1, 1001)]
    pq.write_table(pa.table({"id": ids, "v": [1] * 1000}), path)
    return path


@pytest.mark.parametrize("change", STATISTICS)
def test_statistics_are_part_of_the_column_that_they_are_about(tmp_path, change):
    path = _numbered(tmp_path / "t.parquet")
    before = payload(path)["by_column"]
    _patched(path, *STATISTICS[change])
    after = payload(path)["by_column"]
    assert before["id"] != after["id"] and before["v"] == after["v"]


def test_a_bloom_filter_is_part_of_its_column(tmp_path):
    path = tmp_path / "t.parquet"
    duckdb.sql(f"COPY (SELECT i, i % 7 AS k FROM range(5000) t(i)) TO '{path}' (FORMAT parquet)")
    before = payload(path)["by_column"]
    chunk = pq.read_metadata(path).row_group(0).column(1)
    raw = bytearray(path.read_bytes())
    raw[chunk.bloom_filter_offset + chunk.bloom_filter_length - 1] ^= 255
    path.write_bytes(raw)
    after = payload(path)["by_column"]
    assert before["k"] != after["k"] and before["i"] == after["i"]
