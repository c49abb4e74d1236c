"""Places in a store behave as files do: whole or not there, created once, told apart by what the
store says of them."""

import datetime
import errno
import uuid
from typing import Any

import fsspec
import pytest

from jammi_lab.core.errors import ExtensionMissing, InvalidArgument, TableDamaged
from jammi_lab.storage.digests import sha256_file
from jammi_lab.storage.files import (
    Stat,
    atomic_file,
    commit_with,
    move_file,
    open_for_reading,
    remove_file,
    resolve_inside,
    stat_of,
    write_atomic,
    write_once,
)
from jammi_lab.storage.object_store import (
    UNREACHABLE_ERRNO,
    modified_ns,
    object_state,
    remote_path,
)


@pytest.fixture
def root() -> Any:
    place = remote_path(f"memory://{uuid.uuid4().hex}/lab", None)
    yield place
    place.fs.rm(place.parent.key, recursive=True) if place.fs.exists(place.parent.key) else None


def test_a_place_reads_like_a_path(root):
    path = root / "results/_global/x.parquet"
    assert (path.name, path.stem, path.parent.name) == ("x.parquet", "x", "_global")
    assert str(path).startswith("memory://") and str(path).endswith(
        "/lab/results/_global/x.parquet"
    )
    assert (
        path.with_name("y") == path.parent / "y"
        and path != path.parent
        and hash(path) == hash(root / "results/_global/x.parquet")
    )
    assert (
        path.relative_to(root) == "results/_global/x.parquet"
        and repr(path) == f"RemotePath({str(path)!r})"
    )


def test_what_is_put_is_whole_and_what_is_created_is_created_once(root, tmp_path):
    path = root / "a"
    assert stat_of(path) is None and write_once(path, b"one") and not write_once(path, b"two")
    assert open_for_reading(path).read() == b"one"
    write_atomic(path, b"three")
    assert (
        open_for_reading(path).read() == b"three"
        and sha256_file(path) == "8b5b9db0c13db24256c829aa364aa90c6d2eba318b9232a4ab9313b954d3555f"
    )
    file = atomic_file(path, create=True)
    file.temp.write_bytes(b"four")
    with pytest.raises(FileExistsError):
        file.commit()
    file.abort()
    assert not file.temp.exists() and open_for_reading(path).read() == b"three"


def test_a_table_is_put_before_what_says_that_it_is_whole(root, fault_hook):
    fault_points: list[str] = []
    fault_hook(fault_points.append)
    file = atomic_file(root / "t.parquet", create=True)
    file.temp.write_bytes(b"rows")
    commit_with(file, root / "t.json", b"{}")
    file.abort()
    assert fault_points == ["file.after_put", "file.before_write", "file.after_put"]
    assert sorted((root).list_objects()) == ["t.json", "t.parquet"]
    other = atomic_file(root / "u.parquet", create=True)
    with pytest.raises(FileExistsError):
        commit_with(other, root / "t.json", b"another")
    other.abort()


def test_a_change_moves_the_stat(root):
    path = root / "a"
    write_atomic(path, b"one")
    before = stat_of(path)
    write_atomic(path, b"two")
    assert stat_of(path) != before
    assert remove_file(path) and not remove_file(path) and stat_of(path) is None


@pytest.mark.parametrize("name", ["ETag", "etag", "generation"])
def test_a_tag_tells_states_apart_without_a_clock(name):
    one, two = (
        {"size": 3, name: tag, "LastModified": datetime.datetime.now(datetime.UTC)}
        for tag in ("a", "b")
    )
    assert (
        object_state(one) != object_state(two)
        and object_state(one)[:2] == (3, 0)
        and object_state(one) == object_state({**one, "LastModified": None})
    )
    assert Stat(*object_state(one)[:2], 0, object_state(one)[2])


def test_without_a_tag_the_time_stands_for_it():
    when = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    assert (
        object_state({"size": 3, "created": when}) == (3, 1767225600000000000, 0)
        and modified_ns({"mtime": 1.5}) == 1500000000
        and modified_ns({}) == 0
    )


def test_a_listing_tells_everything_below_by_its_name_from_there(root):
    for name in ("results/a/x", "results/b/y", "other"):
        write_atomic(root / name, name.encode())
    assert {name: said["size"] for name, said in (root / "results").list_objects().items()} == {
        "a/x": 11,
        "b/y": 11,
    }
    assert (root / "none").list_objects() == {} and (root / "results").info() is None


def test_a_file_moves_into_another_folder(root):
    write_atomic(root / "a/x", b"1")
    move_file(root / "a/x", root / "b")
    assert (
        (root / "a/x").info() is None
        and (root / "b/x").read(10) == b"1"
        and (root / "b/x").read(0) is None
        and (root / "none").read(1) is None
    )
    with pytest.raises(FileNotFoundError):
        move_file(root / "a/x", root / "b")


@pytest.mark.parametrize("relative", ["", "/x", "../x", "a/../../x", "a//b", "a\0b", "./a"])
def test_a_stored_location_cannot_leave_its_place(root, relative):
    with pytest.raises(TableDamaged):
        resolve_inside(root, relative)
    assert resolve_inside(root, "results/a.parquet") == root / "results/a.parquet"


@pytest.mark.parametrize(
    "url",
    [
        "s3://key:hunter2@bucket/lab",
        "s3://bucket/lab?secret=hunter2",
        "https://host/hunter2",
        "nonsense://x/hunter2",
        "s3://",
        "memory://",
    ],
)
def test_a_place_where_no_workspace_can_be_is_refused_without_repeating_the_url(url):
    with pytest.raises(InvalidArgument) as refused:
        remote_path(url, None)
    assert "hunter2" not in "".join(refused.value.lines())


def test_a_missing_package_names_the_extra(monkeypatch):
    def missing(_: str) -> Any:
        raise ImportError

    monkeypatch.setattr(fsspec, "get_filesystem_class", missing)
    with pytest.raises(ExtensionMissing, match=r"jammi-lab\[gcs\]"):
        remote_path("gs://bucket/lab", None)


def test_options_that_are_not_the_filesystems_are_named_and_not_their_values(
    monkeypatch,
):
    class Strict(fsspec.AbstractFileSystem):
        def __init__(
            self, key: str, use_listings_cache: bool = False, skip_instance_cache: bool = False
        ) -> None:
            super().__init__()

    monkeypatch.setattr(fsspec, "get_filesystem_class", lambda _: Strict)
    with pytest.raises(InvalidArgument, match="pasword") as refused:
        remote_path("x://bucket/lab", {"pasword": "hunter2"})
    assert "hunter2" not in str(refused.value)


class _Odd(Exception):
    def __init__(self, code: str = "") -> None:
        super().__init__("AKIA hunter2")
        self.response = {"Error": {"Code": code}} if code else None


_EXPIRED = PermissionError("hunter2")
_EXPIRED.__cause__ = _Odd("ExpiredToken")


@pytest.mark.parametrize(
    ("raised", "number"),
    [
        (_EXPIRED, UNREACHABLE_ERRNO),
        (_Odd("PreconditionFailed"), errno.EEXIST),
        (_Odd("AccessDenied"), errno.EACCES),
        (_Odd("SlowDown"), UNREACHABLE_ERRNO),
        (_Odd(), UNREACHABLE_ERRNO),
        (FileNotFoundError("hunter2"), UNREACHABLE_ERRNO),
        (PermissionError("hunter2"), errno.EACCES),
    ],
)
def test_what_a_store_raises_is_an_os_error_that_tells_nothing(root, monkeypatch, raised, number):
    def refuse(*_: Any, **__: Any) -> None:
        raise raised

    monkeypatch.setattr(root.fs, "pipe_file", refuse)
    with pytest.raises(OSError) as failed:
        (root / "a").put(b"", create=True)
    assert (
        failed.value.errno == number
        and "hunter2" not in str(failed.value)
        and failed.value.__suppress_context__
    )
