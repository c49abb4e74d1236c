"""What a list of sources tells, without asking any of them."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import jammi_lab as jl
from jammi_lab.observing.seen import Seen
from jammi_lab.sources.files import FileConnector


@pytest.fixture
def path(tmp_path):
    pq.write_table(pa.table({"id": [1, 2]}), tmp_path / "p.parquet")
    return tmp_path / "p.parquet"


def test_nothing_is_said_before_a_look(ws, path):
    source = ws.sources.add("p", path)
    assert source.last_seen is None
    assert "last seen" not in repr(ws.sources)


def test_the_method_of_the_last_look_is_shown_also_after_a_restart(tmp_path, path):
    with jl.open(tmp_path / "lab") as ws:
        ws.sources.add("p", path)
        ws.materialize("t", "FROM p")
        assert ws.sources["p"].last_seen.state == "there"
    with jl.open(tmp_path / "lab") as ws:
        assert ws.sources["p"].last_seen.method == "digest of the columns"
        assert "digest of the columns" in repr(ws.sources) and "digest of the columns" in ws.sources._repr_html_()
        path.unlink()
        ws.staleness("t")
        assert str(ws.sources["p"].last_seen) == "gone"


def test_what_cannot_be_told_says_why(ws, path):
    ws.sources.add("p", path, anchor="none")
    ws.sources["p"].anchor()
    assert str(ws.sources["p"].last_seen) == 'unknown: its owner chose anchor="none"'


def test_a_list_asks_and_reads_nothing(tmp_path, path, monkeypatch):
    with jl.open(tmp_path / "lab") as ws:
        ws.sources.add("p", path)
        ws.materialize("t", "FROM p")

        def refuse(*_, **__):
            raise AssertionError("a source was asked")

        for verb in ("tables", "relation", "observe", "check"):
            monkeypatch.setattr(FileConnector, verb, refuse)
        assert "digest of the columns" in repr(ws.sources)
        assert [source.name for source in ws.sources.list()] == ["p"]
        assert ws.sources["p"].last_seen is not None


def test_another_source_of_the_name_was_not_seen_yet(ws, path, tmp_path):
    ws.sources.add("p", path)
    ws.sources["p"].anchor()
    pq.write_table(pa.table({"id": [1]}), tmp_path / "q.parquet")
    assert ws.sources.add("p", tmp_path / "q.parquet", replace=True).last_seen is None


def test_tenants_do_not_share_what_was_seen_of_their_own_sources(ws, path):
    with ws.tenant("acme"):
        ws.sources.add("p", path)
        ws.sources["p"].anchor()
    with ws.tenant("globex"):
        assert ws.sources.add("p", path).last_seen is None


@pytest.mark.parametrize(
    ("seen", "text"), [(("there", "digest"), "digest"), (("gone", ""), "gone"), (("unknown", "server down"), "unknown: server down")]
)
def test_it_reads_as_a_clause(seen, text):
    assert str(Seen("2026-01-01T00:00:00Z", *seen)) == text


def test_tables_inside_are_listed_once_they_were_found(ws, tmp_path):
    import duckdb

    with duckdb.connect(str(tmp_path / "d.duckdb")) as db:
        db.execute("CREATE TABLE one AS SELECT 1 AS x; CREATE TABLE two AS SELECT 2 AS x")
    ws.sources.add("d", tmp_path / "d.duckdb")
    assert ws.sources["d"].tables() == ["one", "two"]
    assert "one, two" in repr(ws.sources)
