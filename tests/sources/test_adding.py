"""Adding a source: once more under another spelling, and from a server that says nothing."""

import datetime
import os
import signal
import threading

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import jammi_lab as jl
from jammi_lab.core.anchors import source_input
from jammi_lab.core.errors import InvalidArgument, SourceExists, SourceUnavailable
from jammi_lab.sources.base import ReadPlan, Relation
from jammi_lab.sources.scratch_duckdb import preview
from tests.conftest import settled
from tests.inside import record_of
from tests.services.proxy import listening
from tests.services.stores import without_aws


def test_the_very_same_source_under_another_spelling_keeps_the_first_one(ws, tmp_path):
    (tmp_path / "papers.csv").write_text("id\n1\n")
    first = ws.sources.add("papers", tmp_path / "papers.csv")
    assert ws.sources.add("Papers", tmp_path / "papers.csv").name == "papers" and list(
        ws.sources
    ) == ["papers"]
    assert record_of(ws.sources["papers"]) == record_of(first), (
        "nothing of it changes, the moment it was added included"
    )
    (tmp_path / "other.csv").write_text("id\n1\n")
    with pytest.raises(SourceExists, match="'papers' already"):
        ws.sources.add("Papers", tmp_path / "other.csv")
    assert ws.sources.add("Papers", tmp_path / "other.csv", replace=True).name == "Papers"


def test_an_interrupt_while_a_source_is_looked_at_is_an_interrupt(ws):
    relation = Relation(
        source_input("endless"),
        ReadPlan(body="SELECT count(*) AS n FROM range(1000000000000)"),
    )
    timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        preview(relation, 1)
    timer.join()


@pytest.mark.parametrize(
    "how",
    [
        {"options": ["delimiter"]},
        {"options": "delimiter=;"},
        {"options": {1: ";"}},
        {"anchor": 5},
        {"anchor": None},
    ],
)
@pytest.mark.parametrize("what", ["a file", "a frame"])
def test_options_and_an_anchor_of_another_type_are_refused_with_a_sentence(ws, tmp_path, how, what):
    import pyarrow as pa

    (tmp_path / "papers.csv").write_text("id\n1\n")
    with pytest.raises(
        InvalidArgument,
        match="options must be a dict of values by name"
        if "options" in how
        else "anchor must be a string",
    ):
        ws.sources.add(
            "papers", tmp_path / "papers.csv" if what == "a file" else pa.table({"a": [1]}), **how
        )
    assert "papers" not in ws.sources


def test_options_are_stored_as_plain_values_or_refused(ws, tmp_path):
    import numpy as np

    (tmp_path / "papers.csv").write_text("id;t\n1;a\n")
    with pytest.raises(InvalidArgument, match="lone surrogate"):
        ws.sources.add("papers", tmp_path / "papers.csv", options={"delim": "\ud800"})
    ws.sources.add("papers", tmp_path / "papers.csv", options={"delim": np.str_(";")})
    assert ws.sql("FROM papers").fetchall() == [(1, "a")]
    with pytest.raises(InvalidArgument, match="must be an SQL expression"):
        ws.mutable.create("m", {"id": "int64"}, primary_key=["id"]).delete("\ud800")


@pytest.mark.parametrize(
    ("scheme", "kind"),
    [
        ("mysql", "mariadb"),
        ("mariadb", "mariadb"),
        ("mariadb", "mysql"),
        ("postgresql", "postgres"),
    ],
)
def test_a_kind_of_server_may_be_said_as_in_an_address(ws, scheme, kind):
    added = ws.sources.add("crm", f"{scheme}://someone@127.0.0.1:1/crm", kind=kind, check=False)
    assert added.kind == {"mariadb": "mysql", "mysql": "mysql", "postgres": "postgresql"}[kind]
    with pytest.raises(InvalidArgument, match="not a URL of kind"):
        ws.sources.add("other", "papers.csv", kind=kind, check=False)


@pytest.mark.parametrize(
    "location",
    [
        "http://127.0.0.1:{}/x.csv",
        "s3://bucket/x.csv",
        "s3://bucket/d/",
        "postgresql://me@127.0.0.1:{}/x",
        "mysql://me@127.0.0.1:{}/x",
    ],
)
def test_a_server_that_says_nothing_is_waited_for_as_long_as_is_set(
    tmp_path, location, monkeypatch
):
    without_aws(monkeypatch)
    before = set(threading.enumerate())
    with jl.open(tmp_path / "lab", settings={"look.timeout_seconds": 0.5}) as ws:
        with listening() as port:
            options = {"endpoint_url": f"http://127.0.0.1:{port}", "key": "k", "secret": "s"}
            with pytest.raises(
                SourceUnavailable,
                match=r"did not respond within 0\.5 s \(the setting look\.timeout_seconds\)",
            ) as caught:
                ws.sources.add(
                    "s",
                    location.format(port),
                    options=options if location.startswith("s3") else None,
                )
            assert "check=False" in caught.value.hint and "s" not in ws.sources
            assert ws.sql("SELECT 1").fetchall() == [(1,)]
        assert not settled(
            lambda: [t for t in set(threading.enumerate()) - before if t.name == "jammi-engine"],
            120,
        )


@pytest.mark.parametrize("name", ["loop", "loop.csv"])
def test_a_link_that_leads_to_itself_is_a_source_that_cannot_be_read(ws, tmp_path, name):
    (tmp_path / name).symlink_to(tmp_path / name)
    with pytest.raises(SourceUnavailable, match=r"symbolic links|cannot be read|no file"):
        ws.sources.add("s", str(tmp_path / name))


def test_the_form_of_a_source_has_values_as_people_write_them_and_counts_what_a_footer_tells(
    ws, tmp_path
):
    days = [datetime.datetime(2024, 1, day) for day in range(1, 6)]
    rows = pa.table({"share": [0.1 + 0.2] * 5, "f": pa.array([0.1] * 5, pa.float32()), "day": days})
    pq.write_table(rows, tmp_path / "rows.parquet")
    (tmp_path / "text.csv").write_text("share\n0.30000000000000004\n1\n2\n3\n4\n")
    for name, source, count in [
        ("known", tmp_path / "rows.parquet", "showing 3 of 5 rows"),
        ("frame", rows, "showing 3 of 5 rows"),
        ("text", tmp_path / "text.csv", "first 3 rows"),
    ]:
        *_, first, second, third, last = str(ws.sources.add(name, source)).split("\n")
        assert last == count
        values = ["0.3"] if name == "text" else ["0.3", "0.1", "2024-01-01"]
        assert first.split() == values, (second, third)


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "pattern", ["**/*.csv", "**/**/**/*.csv", "**/*/**/*.csv", "*/" * 30 + "*.csv", "[" * 60_000]
)
def test_a_pattern_lists_each_file_once_however_links_lead_in_a_circle(ws, tmp_path, pattern):
    for name in ("x", "y"):
        (tmp_path / "d" / "x" / name).mkdir(parents=True)
        (tmp_path / "d" / name).mkdir(exist_ok=True)
        for other in ("1", "2"):
            (tmp_path / "d" / name / other).symlink_to("..")
    (tmp_path / "d" / "x" / "x" / "a.csv").write_text("id\n1\n")
    ws.sources.add("s", tmp_path / "d" / pattern, kind="csv", check=False)
    if pattern.startswith("["):
        with pytest.raises(SourceUnavailable):
            ws.sql("FROM s")
    elif pattern.startswith("*/"):
        assert ws.sources["s"].anchor() is not None
    else:
        assert ws.sql("FROM s").fetchall() == [(1,)]
