"""The files of an index: nothing that was not written as it stands reaches the index's loader."""

import json
import os
import random

import msgspec
import numpy as np
import pyarrow as pa
import pytest

from jammi_lab.features.vectors.index import files as index_files
from jammi_lab.features.vectors.index import hnsw as ann
from jammi_lab.features.vectors.index.shape import BuildParameters
from jammi_lab.features.vectors.matrix import Matrix
from jammi_lab.storage.files import install_fault_hook
from jammi_lab.storage.user_key import is_own_seal, seal
from jammi_lab.store.sidecars import (
    INDEX_SUFFIXES,
    MANIFEST_SUFFIX,
    sidecar_path,
)
from tests.features.vectors.saved import bytes_of


def built(rows=300, seed=0):
    vectors = np.random.default_rng(seed).standard_normal((rows, 16)).astype(np.float32)
    matrix = Matrix(pa.array(np.arange(rows)), vectors)
    return matrix, ann.build_index(matrix, BuildParameters("bf16", 8, 32), 4, lambda done: None)


@pytest.fixture(scope="module")
def moved():
    """An index that was taken over, so that its numbers are not those of its rows."""
    matrix, old = built()
    body = bytes_of(old)
    later = Matrix(pa.array(np.arange(299)), np.ascontiguousarray(matrix.vectors[1:]))
    return ann.extend_index(
        ann.open_index(body, old.shape),
        later,
        np.arange(-1, 299),
        4,
        lambda done: None,
    ), later


@pytest.fixture
def parquet(tmp_path):
    return tmp_path / "table.parquet"


@pytest.fixture
def written(parquet, moved):
    return put(parquet, moved[0])


def put(parquet, index):
    """The manifest of an index that is written; it can be asked afterwards, other than one that is
    written itself."""
    again = ann.open_index(bytes_of(index), index.shape)
    return index_files.write_index(parquet, "d" * 64, again)[0]


def test_what_is_written_is_read_again(parquet, written, moved):
    assert index_files.read_manifest(parquet) == written and index_files.is_complete(
        parquet, written
    )
    shape = written.shape
    assert (written.table, written.metric, written.format_version) == ("d" * 64, "cosine", 3)
    assert shape.parameters == BuildParameters("bf16", 8, 32)
    assert (shape.dimensions, shape.count, shape.removed) == (16, 299, 1)
    found, (index, matrix) = index_files.load_index(parquet, written), moved
    assert (
        found.candidates(matrix.vectors[:5], 9) == index.candidates(matrix.vectors[:5], 9)
    ).all()
    assert sorted(p.name for p in parquet.parent.iterdir()) == sorted(
        "table" + suffix for suffix in INDEX_SUFFIXES
    )


def test_an_index_that_does_not_fit_on_the_disk_is_an_error_of_the_disk(tmp_path):
    resource = pytest.importorskip("resource")
    _, index = built()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OSError, match="index"):
            index.save(tmp_path / "index")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_thousand_damaged_copies_neither_end_the_process_nor_answer(parquet, written, moved):
    index, matrix = moved
    rng = random.Random(0)
    whole = {suffix: sidecar_path(parquet, suffix).read_bytes() for suffix in INDEX_SUFFIXES}
    expected = index.candidates(matrix.vectors[:3], 9)
    refused = 0
    for turn in range(1000):
        suffix = INDEX_SUFFIXES[turn % 2]
        path = sidecar_path(parquet, suffix)
        path.write_bytes(damaged(rng, whole[suffix], whole))
        manifest = index_files.read_manifest(parquet)
        found = None if manifest is None else index_files.load_index(parquet, manifest)
        if found is None:
            refused += 1
        else:  # the damage undid itself, as when bytes were overwritten by equal ones
            assert (
                path.read_bytes() == whole[suffix]
                and (found.candidates(matrix.vectors[:3], 9) == expected).all()
            )
        path.write_bytes(whole[suffix])
    assert (
        refused > 900
        and index_files.load_index(parquet, index_files.read_manifest(parquet)) is not None
    )


def damaged(rng, body, whole):
    at = rng.randrange(len(body))
    match rng.randrange(6):
        case 0:
            return body[:at] + bytes([body[at] ^ 1 << rng.randrange(8)]) + body[at + 1 :]
        case 1:
            return body[:at]
        case 2:
            return body[:at] + bytes(min(64, len(body) - at)) + body[at + 64 :]
        case 3:
            return body + rng.randbytes(9)
        case 4:
            return rng.choice(
                [b"", b"{}", b"[" * 5000, b'{"index":{},"digest":""}', rng.randbytes(400)]
            )
        case _:
            return whole[rng.choice(INDEX_SUFFIXES)]


def altered(parquet, **changes):
    """The manifest with other values, signed as this release would."""
    import hashlib

    path = sidecar_path(parquet, MANIFEST_SUFFIX)
    said = json.dumps(
        {**json.loads(path.read_bytes())["index"], **changes}, sort_keys=True, separators=(",", ":")
    ).encode()
    path.write_bytes(
        b'{"index":'
        + said
        + b',"digest":"'
        + hashlib.sha256(said).hexdigest().encode()
        + b'","seal":"'
        + seal(said).encode()
        + b'"}'
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"format_version": 1},
        {"metric": "l2"},
        {"further": 1},
        {"count": "many"},
    ],
    ids=str,
)
def test_a_manifest_of_another_format_or_metric_is_none(parquet, written, changes):
    altered(parquet, **changes)
    assert index_files.read_manifest(parquet) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"usearch_version": "1.0"},
        {"shape": {"count": 298}},
        {"shape": {"dimensions": 8}},
        {"shape": {"parameters": BuildParameters("f16", 8, 32)}},
    ],
    ids=str,
)
def test_an_index_of_another_version_or_shape_is_not_loaded(parquet, written, changes):
    if "shape" in changes:
        shape = msgspec.structs.replace(written.shape, **changes["shape"])
        changes = {"shape": msgspec.to_builtins(shape)}
    altered(parquet, **changes)
    assert index_files.load_index(parquet, index_files.read_manifest(parquet)) is None


def test_the_files_of_two_writers_that_were_mixed_are_refused(parquet, written):
    _, other = built(299, seed=1)
    mine = sidecar_path(parquet, MANIFEST_SUFFIX).read_bytes()
    put(parquet, other)
    sidecar_path(parquet, MANIFEST_SUFFIX).write_bytes(mine)
    assert index_files.load_index(parquet, index_files.read_manifest(parquet)) is None


@pytest.mark.timeout(60)
@pytest.mark.parametrize("suffix", INDEX_SUFFIXES)
@pytest.mark.parametrize("what", ["pipe", "device", "loop"])
def test_what_is_no_plain_file_is_a_damaged_one_that_nobody_waits_for_and_is_written_over(
    parquet, moved, suffix, what
):
    index_files.write_index(
        parquet,
        "d" * 64,
        ann.open_index(bytes_of(moved[0]), moved[0].shape),
    )
    path = sidecar_path(parquet, suffix)
    path.unlink()
    os.mkfifo(path) if what == "pipe" else path.symlink_to(
        "/dev/zero" if what == "device" else path.name
    )
    found = index_files.read_manifest(parquet)
    if suffix == MANIFEST_SUFFIX:
        assert found is None and index_files.missing_reason(parquet) == "damaged"
    else:
        assert index_files.load_index(parquet, found) is None and not index_files.is_complete(
            parquet, found
        )
    manifest = put(parquet, moved[0])
    assert (
        index_files.read_manifest(parquet) == manifest
        and index_files.load_index(parquet, manifest) is not None
        and not path.is_symlink()
    )


@pytest.mark.parametrize("point", ["index.before_write", "file.before_fsync", "file.before_rename"])
@pytest.mark.parametrize("nth", [1, 2])
def test_a_write_that_fails_leaves_no_temporary_file_and_no_index_that_lies(
    parquet, written, point, nth
):
    _, other = built(seed=2)
    passed = []

    def fail(name):
        passed.append(name)
        if name == point and passed.count(name) == nth:
            raise OSError(28, "No space left on device")

    install_fault_hook(fail)
    try:
        with pytest.raises(OSError, match="No space"):
            put(parquet, other)
    except pytest.fail.Exception:
        assert (point, nth) == ("file.before_fsync", 2)  # one sync point for all files
    finally:
        install_fault_hook(None)
    assert not [p for p in parquet.parent.iterdir() if p.name.endswith(".tmp")]
    manifest = index_files.read_manifest(parquet)
    found = None if manifest is None else index_files.load_index(parquet, manifest)
    assert found is None or found.shape.count == manifest.shape.count


def test_no_file_of_an_index_is_written_over_so_that_no_crash_mixes_two_of_one_size(parquet, moved):
    there = []
    put(parquet, moved[0])
    install_fault_hook(
        lambda name: (
            there.append(sorted(p.name for p in parquet.parent.iterdir() if p.suffix != ".tmp"))
            if "rename" in name
            else None
        )
    )
    try:
        put(parquet, built(299, seed=4)[1])
    finally:
        install_fault_hook(None)
    assert there[0] == []


def test_an_index_of_another_user_is_not_read_and_said_to_be_outdated(
    tmp_path, parquet, written, monkeypatch
):
    """Whoever forges a graph can make its digests fit; the seal needs the secret of this user."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "other"))
    assert index_files.read_manifest(parquet) is None
    assert index_files.missing_reason(parquet) == "outdated"
    assert (tmp_path / "other" / "jammi" / "key").stat().st_mode & 0o777 == 0o600
    monkeypatch.undo()
    assert index_files.read_manifest(parquet) == written


def test_without_a_home_a_seal_holds_as_long_as_the_process(monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", "")
    monkeypatch.setenv("HOME", "")
    assert is_own_seal(b"index", seal(b"index")) and not is_own_seal(b"other", seal(b"index"))
    assert not is_own_seal(b"index", "é") and not is_own_seal(b"index", "")
