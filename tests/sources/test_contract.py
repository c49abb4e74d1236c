"""Every kind of source is held to one suite."""

import copy
import os
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import jammi_lab
from jammi_lab.core.anchors import Unknown, source_input
from jammi_lab.core.errors import SourceUnavailable
from jammi_lab.core.verdicts import Fresh, Undecidable
from jammi_lab.sources.scratch_duckdb import query
from tests.contracts.source import SourceSuite, Suite, look, observed
from tests.sizes import soak
from tests.sources.kinds import (
    FILE_KINDS,
    SITES,
    Delta,
    DeltaInBucket,
    Duckdb,
    Frame,
    Iceberg,
    IcebergInBucket,
    LocalFile,
    Mysql,
    OfPackage,
    OnSite,
    OnStore,
    Postgres,
    Sqlite,
    Workbook,
)
from tests.verdicts import doubt, is_fresh, is_stale


class TestFiles(SourceSuite):
    kinds = [
        *map(LocalFile, FILE_KINDS),
        *(LocalFile(kind, "folder") for kind in ("parquet", "csv", "ndjson")),
        *(LocalFile(kind, "glob") for kind in ("parquet", "csv", "arrow")),
    ]


class TestRemoteFiles(SourceSuite):
    kinds = [
        *map(OnStore, ("parquet", "csv", "ndjson", "arrow")),
        OnStore("parquet", "folder"),
        OnStore("csv", "glob"),
        *map(OnSite, ("parquet", "csv", "json", "arrow"), SITES),
        OnSite("csv", "strong"),
    ]


class TestWorkbook(SourceSuite):
    kinds = [Workbook()]


class TestFrame(SourceSuite):
    kinds = [Frame()]

    def test_what_is_gone_is_told_in_a_few_lines_and_leaves_the_others(self, ws, kind, tmp_path):
        """What is gone is undecidable here: the next kernel may make it again."""
        ws.materialize("t", "SELECT id FROM s")
        ws.close()
        with jammi_lab.open(tmp_path / "ws") as again:
            verdict = again.staleness("t")
            assert isinstance(verdict, Undecidable) and "not in this kernel" in str(verdict)
            with pytest.raises(SourceUnavailable, match="is not in this kernel") as caught:
                again.sql("SELECT id FROM s")
            assert "ws.sources.add('s', frame, replace=True)" in caught.value.hint
            for shown in (again.sources, again.sources["s"]):
                assert "absent: not in this kernel" in repr(shown)
                assert "absent: not in this kernel" in shown._repr_html_()
            assert "ws.sources.add(" in repr(again.sources["s"])


class TestPackage(SourceSuite):
    kinds = [OfPackage()]


class TestSqlite(SourceSuite):
    kinds = [Sqlite()]


class TestDuckdb(SourceSuite):
    kinds = [Duckdb()]


@pytest.mark.services
class TestServers(SourceSuite):
    kinds = [Postgres(), Mysql()]


@pytest.mark.services
class TestViews(SourceSuite):
    kinds = [Postgres("view")]


class TestDelta(SourceSuite):
    kinds = [Delta(), DeltaInBucket()]


class TestIceberg(SourceSuite):
    kinds = [Iceberg(), IcebergInBucket()]


class TestLakes(Suite):
    """What Delta and Iceberg tables have in common: snapshots, and data files that stay."""

    kinds = [Delta(), Iceberg()]

    @pytest.fixture
    def files(self, kind):
        return list(Path(kind.location).rglob("*.parquet"))

    def test_a_relation_reads_the_snapshot_of_its_making(self, kind, connector):
        relation = connector.relation(None)
        kind.grow()
        assert query(relation, "SELECT count(*) FROM it") == [(3,)]
        assert query(connector.relation(None), "SELECT count(*) FROM it") == [(4,)]

    def test_a_data_file_that_is_gone_is_named(self, ws, kind, files):
        ws.materialize("t", "SELECT count(*) AS n FROM s")
        for file in files:
            file.unlink()
        assert f"A data file of the {type(kind).__name__} table" in doubt(ws)
        for act in (lambda: ws.sql("FROM s").arrow(), lambda: kind.add(ws, "other")):
            with pytest.raises(
                SourceUnavailable, match=r"data file of the \w+ table .* is missing"
            ):
                act()

    def test_a_data_file_that_is_rewritten_in_place_is_a_change(self, ws, files):
        ws.materialize("t", "SELECT sum(id) AS n FROM s")
        [file] = files
        times = file.stat()
        pq.write_table(pq.read_table(file).take([0, 0, 2]), file)
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
        assert is_stale(ws)
        assert ws.recompute("t").executed == ["t"] and is_fresh(ws)

    def test_a_comparison_that_is_too_dear_for_the_look_is_undecided(self, kind, connector):
        recorded = observed(connector).anchor(source_input("s"))
        kind.now()
        answer = connector.same_rows(recorded, look(scan_rows=5))
        assert isinstance(answer, Unknown) and answer.why.startswith("would scan about 6 rows")
        assert connector.same_rows(recorded, look(scan_rows=6)) is True


EVERY = [
    *map(LocalFile, FILE_KINDS),
    OnStore("parquet"),
    OnSite("csv", "strong"),
    *(kind() for kind in (Workbook, Frame, Sqlite, Duckdb, Postgres, Mysql, Delta, Iceberg)),
]


@pytest.fixture
def together(tmp_path, request):
    """A workspace with every kind, each under its name, and the addresses of their tables."""
    kinds = {f"k{number}": copy.copy(kind) for number, kind in enumerate(EVERY)}
    with jammi_lab.open(tmp_path / "ws") as ws:
        for name, kind in kinds.items():
            (tmp_path / name / "there").mkdir(parents=True)
            kind.make(tmp_path / name / "there", request.getfixturevalue)
            kind.add(ws, name)
        yield ws, kinds
    for kind in kinds.values():
        kind.end()


def joined(kinds):
    first, *rest = (kind.address_in(name) for name, kind in kinds.items())
    return f"SELECT id FROM {first} {' '.join(f'JOIN {each} USING (id)' for each in rest)}"


@soak
@pytest.mark.services
@pytest.mark.slow
class TestTogether:
    """All kinds of sources in one workspace and one statement."""

    def test_one_statement_joins_every_kind_with_every_other(self, together):
        ws, kinds = together
        made = ws.materialize("all_of_them", joined(kinds))
        assert sorted(ws.sql("FROM jammi.all_of_them").fetchall()) == [(1,), (2,), (3,)]
        assert {each.name for each in made.inputs} == kinds.keys()
        assert isinstance(ws.staleness("all_of_them"), Fresh)
