"""What a failed file operation is called."""

import errno

import pytest

import jammi_lab as jl
from jammi_lab.core.errors import ResourceExhausted, WorkspaceReadOnly
from jammi_lab.store.storage_errors import storage_error


@pytest.mark.parametrize(
    ("number", "kind", "said"),
    [
        (errno.EACCES, WorkspaceReadOnly, "The files of 't' cannot be written: Permission denied."),
        (
            errno.EROFS,
            WorkspaceReadOnly,
            "The files of 't' cannot be written: Read-only file system.",
        ),
        (
            errno.ENOSPC,
            ResourceExhausted,
            "No space is left for the files of 't': No space left on device.",
        ),
        (
            errno.EMFILE,
            ResourceExhausted,
            "The files of 't' cannot be opened: too many open files.",
        ),
        (
            errno.EIO,
            ResourceExhausted,
            "The disk failed on the files of 't': Input/output error.",
        ),
    ],
)
def test_a_failure_is_said_in_the_system_s_words_and_names_no_temporary_file(number, kind, said):
    error = storage_error(
        OSError(
            number, f"Failed to open local file '/lab/results/.t.tmp'. Detail: [errno {number}]"
        ),
        "t",
    )
    assert type(error) is kind and error.message == said and error.hint


def test_a_folder_in_the_place_of_a_table_s_file_is_named_when_the_table_is_dropped_and_the_rest_goes_when_it_is_moved(
    ws,
):
    file = ws.materialize("one", "SELECT 1 AS a").path
    ws.materialize("two", "SELECT 2 AS a")
    file.unlink()
    file.mkdir()
    with pytest.raises(
        WorkspaceReadOnly, match="one of its files is not a regular file: Is a directory"
    ) as caught:
        ws.drop("one")
    assert "Move it elsewhere" in caught.value.hint and "one" not in ws
    file.rmdir()
    ws.drop("two")
    assert not any(file.parent.iterdir())


@pytest.mark.parametrize("letter", ["x", "é"])
def test_an_export_under_a_name_that_is_too_long_asks_for_a_shorter_one(tmp_path, letter):
    with jl.open(tmp_path / "ws") as ws:
        table = ws.materialize("t", "SELECT 1 AS a")
        with pytest.raises(jl.InvalidArgument, match="File name too long") as caught:
            table.export(tmp_path / f"{letter * 300}.parquet")
        long = letter * (220 // len(letter.encode()))
        assert table.export(tmp_path / f"{long}.parquet").is_file()
    assert caught.value.hint == "Choose a shorter name."


def denied(*_):
    raise PermissionError(errno.EACCES, "Permission denied")


@pytest.mark.parametrize(
    "step", ["pathlib.Path.is_dir", "jammi_lab.workspace.export.AtomicFile.commit"]
)
@pytest.mark.parametrize("name", ["t.parquet", "t.csv", "t.arrow"])
def test_an_export_to_where_one_may_not_write_says_what_to_do(
    ws, tmp_path, monkeypatch, name, step
):
    table = ws.materialize("t", "SELECT 1 AS a")
    with (
        monkeypatch.context() as patch,
        pytest.raises(jl.InvalidArgument, match="cannot be written: Permission denied") as caught,
    ):
        patch.setattr(step, denied)
        table.export(tmp_path / name)
    assert (
        "a folder where you have write permission" in caught.value.hint
        and not (tmp_path / name).exists()
    )
    assert table.export(tmp_path / name).exists()
