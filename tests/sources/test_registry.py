import os
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jammi_lab.core.errors import InvalidArgument, JammiError, SourceUnavailable
from jammi_lab.core.records import SourceRecord
from jammi_lab.sources.locations import (
    display_location,
    escape,
    full_location,
    literal_path,
    store_location,
)
from jammi_lab.sources.registry import check_anchor, check_options, connector_for, infer_kind


def test_a_folder_and_a_glob_have_their_files_kind(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "x.parquet").touch()
    for beside in (".hidden.csv", "_SUCCESS", "README.md"):
        (tmp_path / "a" / beside).touch()
    assert infer_kind(tmp_path / "a") == "parquet"
    assert infer_kind(tmp_path / "a" / "*" / "*") == "parquet"


@pytest.mark.parametrize("hidden", [True, False])
def test_mixed_kinds_are_refused_by_name_unless_the_kind_is_said(tmp_path, hidden):
    (tmp_path / "a.parquet").touch()
    (tmp_path / ("." * hidden + "b.csv")).touch()
    if hidden:
        assert infer_kind(tmp_path) == "parquet"
        return
    with pytest.raises(InvalidArgument, match=r"csv, parquet"):
        infer_kind(tmp_path)
    assert infer_kind(tmp_path, "csv") == "csv"


@pytest.mark.parametrize(("magic", "kind"), [(b"PAR1rest", "parquet"), (b"ARROW1rest", "arrow")])
def test_a_file_without_ending_is_known_by_its_first_bytes(tmp_path, magic, kind):
    (tmp_path / "f").write_bytes(magic)
    assert infer_kind(tmp_path / "f") == kind


def test_a_kind_that_cannot_be_told_asks_for_it(tmp_path):
    (tmp_path / "f.dat").write_text("a,b\n")
    (tmp_path / "f.bin").write_text("a,b\n")
    with pytest.raises(InvalidArgument, match="cannot be inferred") as error:
        infer_kind(tmp_path / "f.bin")
    assert "kind=" in error.value.hint
    with pytest.raises(SourceUnavailable, match=r"f\.dat: .* what separates the values") as asked:
        infer_kind(tmp_path / "f.dat")
    assert '"delim"' in asked.value.hint
    assert infer_kind(tmp_path / "f.dat", "csv") == "csv"


def test_nothing_there_is_said_rather_than_an_unknown_kind(tmp_path):
    (tmp_path / "papers").mkdir()
    (tmp_path / "papers" / "x.csv").touch()
    with pytest.raises(SourceUnavailable) as error:
        infer_kind(tmp_path / "paper")
    assert error.value.near == ("papers",)
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceUnavailable, match="contains no file"):
        infer_kind(tmp_path / "empty")


ELSEWHERE = {
    "postgresql://me:hunter2@host/db": "postgresql",
    "postgres://me:hunter2@host/db": "postgresql",
    "mysql://me:hunter2@host/db": "mysql",
    "mariadb://me:hunter2@host/db": "mysql",
    "sqlite:///x.db": "sqlite",
    "duckdb:///x.duckdb": "duckdb",
    "s3://key:hunter2@bucket/x.parquet": "parquet",
    "gs://bucket/x.csv": "csv",
    "az://container/x.json": "json",
    "https://me:hunter2@host/x.csv?token=hunter2": "csv",
    "https://host/x.csv.gz?format=parquet": "csv",
    "f.parquet": "parquet",
    "f.PQ": "parquet",
    "f.csv": "csv",
    "f.csv.gz": "csv",
    "f.tsv": "tsv",
    "f.tab": "tsv",
    "f.json": "json",
    "f.ndjson": "ndjson",
    "f.jsonl.gz": "ndjson",
    "f.arrow": "arrow",
    "f.feather": "arrow",
    "f.ipc": "arrow",
    "a.b.c.csv": "csv",
    "x.sqlite": "sqlite",
    "x.duckdb": "duckdb",
    "*.csv": "csv",
    **dict.fromkeys(("x.xlsx", "x.XLSM", "x.xlsb", "x.xls", "x.ods"), "xlsx"),
}


@pytest.mark.parametrize("location", ELSEWHERE)
def test_an_address_tells_the_kind_without_being_asked(location):
    assert infer_kind(location) == ELSEWHERE[location]


@pytest.mark.parametrize("scheme", ["ftp", "hf", "gopher"])
def test_what_nothing_reads_is_refused_without_a_credential(scheme):
    with pytest.raises(InvalidArgument, match=f"{scheme}://") as error:
        infer_kind(f"{scheme}://me:hunter2@host/x.csv", "csv")
    assert "hunter2" not in str(error.value)


def test_a_kind_of_a_later_version_is_said_so():
    with pytest.raises(InvalidArgument, match="'avro'"):
        connector_for(SourceRecord(name="s", kind="avro", location="x"))


def test_unknown_schemes_and_kinds_are_refused():
    with pytest.raises(InvalidArgument, match="gopher://"):
        infer_kind("gopher://x/y.csv")
    with pytest.raises(InvalidArgument) as error:
        infer_kind("x.csv", "parkuet")
    assert error.value.near == ("parquet",)


def test_an_unknown_option_lists_the_known_ones():
    with pytest.raises(ValueError, match="delimter") as error:
        check_options("csv", {"delimter": ";"})
    assert isinstance(error.value, InvalidArgument)
    assert error.value.near == ("delimiter", "delim")
    assert all(name in error.value.hint for name in ("delim", "header", "nullstr", "encoding"))
    with pytest.raises(InvalidArgument, match="has no option"):
        check_options("parquet", {"header": True})


@pytest.mark.parametrize(
    "options",
    [
        {"header": "yes"},
        {"delimiter": ""},
        {"delimiter": "\n"},
        {"delimiter": '"'},
        {"delimiter": 3},
        {"null": 3},
        {"null": [1]},
        {"encoding": "klingon"},
        {"types": {"zip": "VARCHARR"}},
        {"types": {"zip": "INTEGER[]"}},
        {"types": {"zip": "VARCHAR'}) --"}},
        {"types": {"zip": 3}},
        {"types": {("zip", 1): "VARCHAR"}},
        {"types": "zip"},
    ],
)
def test_options_of_a_wrong_type_are_refused(options):
    with pytest.raises(InvalidArgument):
        check_options("csv", options)


def test_good_options_pass():
    given_ = {"delimiter": ";", "header": "false", "null": ("NA", "-"), "encoding": "latin-1"}
    assert check_options("csv", given_) == {
        "delim": ";",
        "header": False,
        "nullstr": ["NA", "-"],
        "encoding": "latin-1",
    }


def test_anchors():
    assert [check_anchor(a) for a in ("auto", "content", "none", "column:updated at")]
    for bad in ("", "column:", "mtime", "Auto"):
        with pytest.raises(InvalidArgument):
            check_anchor(bad)


# -- locations -------------------------------------------------------------------------------------


def test_inside_the_project_it_is_stored_relative_and_outside_absolute(tmp_path, monkeypatch):
    lab = tmp_path / "lab"
    (lab / "data").mkdir(parents=True)
    monkeypatch.chdir(lab / "data")
    assert store_location("f.csv", lab) == "data/f.csv"
    assert store_location("../../f.csv", lab) == "../f.csv"
    assert store_location(lab / "data" / "*.csv", lab) == "data/*.csv"
    assert store_location("*.csv", lab) == "data/*.csv"
    assert store_location("f.csv", None) == str(lab / "data" / "f.csv")
    assert store_location(tmp_path / "labour" / "f.csv", lab) == "../labour/f.csv"
    assert store_location(tmp_path.parent / "f.csv", lab) == str(tmp_path.parent / "f.csv")


@pytest.mark.parametrize("name", ["x[1].csv", "a*b.csv", "q?.csv", "[[]"])
def test_a_name_that_could_glob_is_stored_so_that_it_never_does(tmp_path, name):
    (tmp_path / name).touch()
    stored = store_location(tmp_path / name, None)
    assert literal_path(stored) == str(tmp_path / name)
    assert display_location(stored) == str(tmp_path / name)


def test_folders_above_a_glob_never_glob_themselves(tmp_path, monkeypatch):
    odd = tmp_path / "a[1]" / "lab"
    odd.mkdir(parents=True)
    monkeypatch.chdir(odd)
    for folder in (odd, None):
        full = full_location(store_location("*.csv", folder), folder)
        assert full == escape(str(odd)) + "/*.csv"


def test_home_and_file_urls_are_paths(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert store_location("~/f.csv", None) == str(tmp_path / "f.csv")
    assert store_location(f"file://{tmp_path}/f.csv", None) == str(tmp_path / "f.csv")
    assert full_location(f"file://{tmp_path}/f.csv", None) == str(tmp_path / "f.csv")


@pytest.mark.parametrize("location", ["", "a\0b"])
def test_no_location_is_refused(location):
    with pytest.raises(InvalidArgument):
        store_location(location, None)


@given(
    st.text(
        alphabet=st.characters(blacklist_characters="\0", blacklist_categories=["Cs"]), min_size=1
    )
)
@example("~")
@example("~root/x")
def test_an_escaped_path_means_itself_and_stored_locations_come_back(path):
    assert literal_path(escape(path)) == path
    inner = os.path.normpath("/w/" + path.lstrip("/"))
    try:
        stored = store_location(inner, Path("/w"))
    except JammiError:
        return
    if os.path.lexists(inner) or not set(inner) & set("*?["):
        assert full_location(stored, Path("/w")) == escape(inner)
    else:
        assert full_location(stored, Path("/w")) == inner
