"""A queue that holds little in memory: the same batches come out in the same order, and nothing of
it stays."""

import os
import queue

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jammi_lab.engine import stream as overflow
from jammi_lab.engine.stream import SpillQueue, _End

END = _End(None)


def batch(rows: int, start: int = 0) -> pa.RecordBatch:
    return pa.record_batch({"i": list(range(start, start + rows)), "s": ["x" * 10] * rows})


@given(st.lists(st.integers(1, 50), max_size=12), st.integers(0, 4000))
def test_what_is_put_in_comes_out_whole_and_in_order(sizes, limit):
    before, overflow.MAX_MEMORY_BYTES = overflow.MAX_MEMORY_BYTES, limit
    try:
        line: SpillQueue = SpillQueue()
        batches = [batch(rows, 100 * n) for n, rows in enumerate(sizes)]
        for each in batches:
            line.put(each)
        line.put(END)
        assert [line.get(timeout=1) for _ in range(len(batches) + 1)] == [*batches, END]
        assert line.empty()
    finally:
        overflow.MAX_MEMORY_BYTES = before


def test_what_memory_should_not_hold_waits_in_a_file_without_a_name(tmp_path, monkeypatch):
    monkeypatch.setattr(overflow, "MAX_MEMORY_BYTES", 1)
    line: SpillQueue = SpillQueue(tmp_path)
    for n in range(3):
        line.put(batch(1000, n))
    assert line._file._rolled and line._file.tell() > 20_000
    assert os.listdir(tmp_path) == []
    with pytest.raises(queue.Empty):
        line.get(timeout=0.01)
    line.put(END)
    assert line.get().num_rows == 1000
