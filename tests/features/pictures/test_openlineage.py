"""OpenLineage: run events that are valid, complete, and free of credentials."""

import json
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from jsonschema import Draft202012Validator, FormatChecker

import jammi_lab as jl
from jammi_lab.core.records import SourceRecord
from jammi_lab.features.pictures.openlineage import external_dataset
from tests.freshness.lab import Lab

SCHEMA = Draft202012Validator(
    json.loads(
        (Path(__file__).parent / "data" / "openlineage.schema.json").read_text(encoding="utf-8")
    ),
    format_checker=FormatChecker(),
)
Event = dict[str, Any]


def written(lab: Lab, **how: Any) -> list[Event]:
    """The events as they stand in the file, each checked against the schema."""
    path = lab.data / "events.ndjson"
    number = lab.export_openlineage(path, **how)
    events = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    for event in events:
        SCHEMA.validate(event)
    assert len(events) == number
    return events


def ends(events: list[Event], name: str) -> list[Event]:
    return [e for e in events if e["job"]["name"] == name and e["eventType"] != "START"]


def test_every_table_has_a_start_and_an_end_with_one_run_id(papers):
    events = written(papers)
    assert [(e["job"]["name"], e["eventType"]) for e in events] == [
        ("titles", "START"),
        ("titles", "COMPLETE"),
        ("first", "START"),
        ("first", "COMPLETE"),
    ]
    for name in ("titles", "first"):
        start, end = (e for e in events if e["job"]["name"] == name)
        assert start["run"]["runId"] == end["run"]["runId"]
        assert (
            start["eventTime"] == papers.table(name).created_at
            and end["eventTime"] == papers.table(name).completed_at
        )
    assert len({e["run"]["runId"] for e in events}) == 2


def test_outputs_have_schema_version_statistics_and_column_lineage(papers):
    [end] = ends(written(papers), "titles")
    [output] = end["outputs"]
    table = papers.table("titles")
    assert (output["namespace"], output["name"]) == ("jammi_lab", "titles")
    assert [(f["name"], f["type"]) for f in output["facets"]["schema"]["fields"]] == [
        ("id", "BIGINT"),
        ("title", "VARCHAR"),
    ]
    assert output["facets"]["version"]["datasetVersion"] == "1"
    assert (
        output["outputFacets"]["outputStatistics"]["rowCount"],
        output["outputFacets"]["outputStatistics"]["size"],
    ) == (3, table.bytes)
    fields = output["facets"]["columnLineage"]["fields"]
    told = {
        c: {(i["field"], i["transformations"][0]["type"]) for i in f["inputFields"]}
        for c, f in fields.items()
    }
    assert told == {
        "id": {("id", "DIRECT"), ("year", "INDIRECT")},
        "title": {("title", "DIRECT"), ("year", "INDIRECT")},
    }
    assert {(i["namespace"], i["name"]) for f in fields.values() for i in f["inputFields"]} == {
        ("file", str(papers.path("papers.csv")))
    }


def test_inputs_have_the_columns_read_and_the_state_that_was_read(papers):
    events = written(papers)
    [titles], [first] = ends(events, "titles"), ends(events, "first")
    [source], [parent] = titles["inputs"], first["inputs"]
    assert (source["namespace"], source["name"]) == ("file", str(papers.path("papers.csv")))
    assert (
        source["facets"]["version"]["datasetVersion"]
        == papers.table("titles").manifest.anchors[0].value
    )
    assert [f["name"] for f in source["facets"]["schema"]["fields"]] == ["id", "title", "year"]
    assert (parent["namespace"], parent["name"], parent["facets"]["version"]["datasetVersion"]) == (
        "jammi_lab",
        "titles",
        "1",
    )
    assert (
        titles["job"]["facets"]["sql"]["query"] == "SELECT id, title FROM papers WHERE year > 2019"
    )


def test_a_failed_table_ends_with_fail_and_why(papers):
    with pytest.raises(jl.JammiError):
        papers.materialize("broken", "SELECT error('no such luck') AS x FROM papers")
    [end] = ends(written(papers), "broken")
    assert end["eventType"] == "FAIL"
    assert end["run"]["facets"]["errorMessage"]["message"] == "No such luck."


def test_each_version_is_a_run_and_a_reused_one_is_none(papers):
    papers.materialize("titles", "SELECT id, title FROM papers")
    assert papers.materialize("again", "SELECT id, title FROM papers").outcome == "reused"
    events = written(papers)
    assert [
        e["outputs"][0]["facets"]["version"]["datasetVersion"] for e in ends(events, "titles")
    ] == ["1", "2"]
    assert ends(events, "again") == []


def test_exporting_twice_says_the_same(papers):
    assert written(papers) == written(papers)


def test_tables_of_the_clock_and_of_frames_have_valid_events(papers):
    papers.materialize("now", "SELECT id, now() AS t, current_date AS d FROM papers")
    papers.sources.add("frame", pa.table({"x": [1]}))
    papers.materialize("framed", "SELECT x FROM frame")
    papers.register("given", pa.table({"x": [1]}), producer="job", inputs=["papers", "titles"])
    events = written(papers)
    read = {
        name: {i["name"] for i in ends(events, name)[0]["inputs"]} for name in ("framed", "given")
    }
    assert read == {"framed": {"frame.frame"}, "given": {str(papers.path("papers.csv")), "titles"}}
    assert ends(events, "now")


def test_the_lineage_gives_the_events_of_the_newest_versions_in_it(papers):
    from openlineage.client.event_v2 import RunEvent
    from openlineage.client.serde import Serde

    papers.csv("other", "id", "1")
    papers.materialize("apart", "SELECT id FROM other")
    papers.materialize("titles", "SELECT id, title FROM papers")
    events = papers.lineage("titles").to_openlineage()
    assert all(isinstance(e, RunEvent) for e in events)
    for event in events:
        SCHEMA.validate(Serde.to_dict(event))
    assert {
        (e.job.name, e.outputs[0].facets["version"].datasetVersion)
        for e in events
        if e.eventType.value == "COMPLETE"
    } == {
        ("titles", "2"),
        ("first", "1"),
    }


def test_a_tenant_exports_what_it_sees_in_a_namespace_of_its_own(lab):
    lab.csv("shared", "id", "1")
    with lab.tenant("acme"):
        lab.materialize("own", "SELECT id FROM shared")
        assert {e["outputs"][0]["namespace"] for e in written(lab, namespace="plant")} == {
            "plant/acme"
        }
    assert written(lab) == []


@pytest.mark.parametrize(
    ("kind", "location", "table", "expected"),
    [
        ("parquet", "s3://bucket/a/b.parquet", None, ("s3://bucket", "a/b.parquet")),
        ("csv", "https://host/x.csv", None, ("https://host", "x.csv")),
        (
            "postgresql",
            "postgresql://host:5432/db",
            "public.t",
            ("postgres://host:5432", "db.public.t"),
        ),
        ("mysql", "mysql://host/db", "t", ("mysql://host:3306", "db.t")),
    ],
)
def test_what_lies_outside_has_the_name_that_openlineage_gives_it(kind, location, table, expected):
    assert (
        external_dataset(SourceRecord(name="s", kind=kind, location=location), table, None)
        == expected
    )


def test_no_credential_is_in_an_event():
    record = SourceRecord(
        name="s", kind="csv", location="https://me:hunter2@host/x.csv?token=hunter3"
    )
    assert "hunter" not in str(external_dataset(record, None, None))


def test_places_that_are_no_files_are_refused(papers):
    for place in ("s3://bucket/events.ndjson", "http://me:hunter2@host/"):
        with pytest.raises(jl.InvalidArgument, match="written to a file") as refused:
            papers.export_openlineage(place)
        assert "hunter2" not in str(refused.value)
    with pytest.raises(jl.SourceUnavailable):
        papers.export_openlineage(papers.data / "no" / "such" / "folder.ndjson")


def test_without_the_client_the_error_says_what_to_install(papers, monkeypatch):
    for name in [n for n in sys.modules if n.startswith("openlineage")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "openlineage", None)
    with pytest.raises(jl.ExtensionMissing) as missing:
        papers.export_openlineage(papers.data / "x.ndjson")
    assert "jammi-lab[openlineage]" in str(missing.value)
