import errno
import os
import time

import numpy as np
import pyarrow as pa
import pytest

from tests.inside import services_of
from tests.store.conftest import VENUES

VECTORS = pa.array(np.arange(800, dtype=np.float32))
ROWS = pa.table({"id": range(100), "vector": pa.FixedSizeListArray.from_arrays(VECTORS, 8)})


def test_an_index_that_could_not_be_written_is_named_by_fsck_and_made_by_recover(
    lab, reopen, monkeypatch
):
    from jammi_lab.features.vectors.index import files as index_files

    def full(*_):
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as broken:
        broken.setattr(index_files, "write_index", full)
        table = lab.import_embeddings("points", ROWS)
    ws = reopen()
    assert not ws.recovery and len(ws.fsck().indexes) == 1
    assert ws.recover().healed == [table.table_name]
    assert not ws.fsck()


def test_a_table_without_an_index_leaves_nothing_to_be_looked_after(lab, reopen):
    lab.materialize("venues", VENUES)
    assert not services_of(reopen()).recovery.have_folders_changed()


@pytest.mark.timeout(60)
@pytest.mark.parametrize("what", ["pipe", "loop"])
def test_an_index_whose_file_is_a_pipe_or_a_link_to_itself_is_made_anew_and_nobody_waits(
    lab, reopen, what
):
    from jammi_lab.store.sidecars import GRAPH_SUFFIX, MANIFEST_SUFFIX, sidecar_path

    table = lab.import_embeddings("points", ROWS)
    place = table.path
    for suffix in (MANIFEST_SUFFIX, GRAPH_SUFFIX):
        lab.close()
        time.sleep(0.02)  # the time of a folder is kept in steps of some milliseconds
        path = sidecar_path(place, suffix)
        path.unlink()
        os.mkfifo(path) if what == "pipe" else path.symlink_to(path.name)
        lab = reopen()
        assert (
            lab.recovery.healed == [table.table_name] and not lab.recovery.errors and path.is_file()
        )
        assert lab.search("points", row=3, k=2).arrow().num_rows == 2 and not lab.fsck(deep=True)
