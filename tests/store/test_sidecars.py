import errno

import numpy as np
import pyarrow as pa

from tests.store.conftest import VENUES


def test_an_index_that_could_not_be_written_is_made_when_the_workspace_is_next_opened(lab, reopen, monkeypatch):
    from jammi_lab.vectors import index_files

    def full(*_):
        raise OSError(errno.EIO, "Input/output error")

    rows = pa.table({"id": range(100), "vector": pa.FixedSizeListArray.from_arrays(pa.array(np.arange(800, dtype=np.float32)), 8)})
    with monkeypatch.context() as broken:
        broken.setattr(index_files, "write", full)
        table = lab.import_embeddings("points", rows)
    assert reopen().recovery.healed == [table.table_name]
    assert not reopen().recovery


def test_a_table_without_an_index_leaves_nothing_to_be_looked_after(lab, reopen):
    lab.materialize("venues", VENUES)
    assert not reopen()._rooms.recovery._folders_moved()
