"""The file that an interrupted embedding leaves."""

import os
import tracemalloc
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from jammi_lab.steps.checkpoint import Checkpoint
from jammi_lab.steps.checkpoint_removal import remove_checkpoints_of_table

VECTORS = np.random.default_rng(3).normal(size=(20_000, 4)).astype(np.float32)
DIGESTS = [i.to_bytes(16, "big") for i in range(len(VECTORS))]
NAMED = np.frombuffer(b"".join(DIGESTS), "V16")


@pytest.fixture
def checkpoint(tmp_path: Path) -> Checkpoint:
    return Checkpoint(tmp_path / "checkpoints" / "abc.parquet")


def save(checkpoint: Checkpoint, rows: Sequence[int]) -> None:
    checkpoint.save(NAMED, VECTORS, np.array(rows, np.int64))


def loaded(checkpoint: Checkpoint, dimensions: int = 4) -> dict[bytes, list[float]]:
    return {
        d: v.tolist()
        for digests, vectors in checkpoint.load(dimensions)
        for d, v in zip(digests, vectors, strict=True)
    }


@pytest.mark.parametrize(
    "rows", [[3, 1], list(range(len(VECTORS))), list(range(8192)), list(range(9000, 0, -1)), []]
)
def test_what_is_saved_is_loaded(checkpoint: Checkpoint, rows: list[int]) -> None:
    save(checkpoint, rows)
    assert loaded(checkpoint) == {DIGESTS[r]: VECTORS[r].tolist() for r in rows}


def test_saving_again_takes_the_place_of_what_was_there(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    save(checkpoint, [1])
    save(checkpoint, [1, 2])
    assert len(loaded(checkpoint)) == 2 and len(list((tmp_path / "checkpoints").iterdir())) == 1


def test_one_of_another_width_counts_as_none(checkpoint: Checkpoint) -> None:
    save(checkpoint, [1])
    assert loaded(checkpoint, 5) == {}


def test_none_is_empty_and_can_be_removed(checkpoint: Checkpoint) -> None:
    assert loaded(checkpoint) == {}
    checkpoint.remove()


def test_any_flipped_byte_makes_it_count_as_none_or_changes_nothing(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    save(checkpoint, range(40))
    whole = loaded(checkpoint)
    path = tmp_path / "checkpoints" / "abc.parquet"
    body = path.read_bytes()
    for at in range(0, len(body), 7):
        path.write_bytes(body[:at] + bytes([body[at] ^ 0x10]) + body[at + 1 :])
        assert loaded(checkpoint) in ({}, whole)
    for cut in (0, 10, len(body) // 2, len(body) - 1):
        path.write_bytes(body[:cut])
        assert loaded(checkpoint) == {}


def test_removing_takes_what_a_dead_writer_left_too(checkpoint: Checkpoint, tmp_path: Path) -> None:
    from jammi_lab.storage.files import AtomicFile

    save(checkpoint, [1])
    AtomicFile(tmp_path / "checkpoints" / "abc.parquet").temp.write_bytes(b"half")
    checkpoint.remove()
    assert list((tmp_path / "checkpoints").iterdir()) == []


def test_saving_holds_little_beside_the_vectors(checkpoint: Checkpoint) -> None:
    wide = np.ones((len(VECTORS), 256), np.float32)
    tracemalloc.start()
    try:
        assert checkpoint.save(NAMED, wide, np.arange(len(wide)))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < wide.nbytes / 5


@pytest.mark.skipif(os.name != "posix", reason="a file where a folder should be")
def test_what_cannot_be_saved_is_left(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_text("in the way")
    checkpoint = Checkpoint(tmp_path / "checkpoints" / "abc.parquet")
    save(checkpoint, [1])
    assert loaded(checkpoint) == {}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("what", ["pipe", "device", "loop"])
def test_what_is_no_plain_file_counts_as_none_and_is_not_waited_for_and_is_saved_over(
    checkpoint: Checkpoint, tmp_path: Path, what: str
) -> None:
    path = tmp_path / "checkpoints" / "abc.parquet"
    path.parent.mkdir()
    os.mkfifo(path) if what == "pipe" else path.symlink_to(
        "/dev/zero" if what == "device" else path.name
    )
    assert loaded(checkpoint) == {}
    remove_checkpoints_of_table(tmp_path, 7)
    save(checkpoint, [1])
    assert loaded(checkpoint) == {DIGESTS[1]: VECTORS[1].tolist()}
