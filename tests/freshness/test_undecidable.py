"""What cannot be told, or only while something lasts: frames, the clock, volatile functions,
owners' words."""

import datetime
import os
import time

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import jammi_lab as jl
from jammi_lab.workspace.stamp_checks import Workspaces, shown_in_file
from tests.freshness.lab import Lab, said
from tests.inside import services_of

# -- frames ----------------------------------------------------------------------------------------


def people():
    return pl.DataFrame({"id": [1, 2]})


def test_a_table_of_a_frame_that_is_gone_is_judged_by_what_the_frame_was_made_from(
    lab,
):
    lab.csv("a", "id", "1", "2")
    lab.materialize("t", "SELECT id FROM a")
    lab.sources.add("f", lab.table("t").read().arrow())
    lab.materialize("u", "SELECT id + 1 AS id FROM f")
    lab.reopen()
    assert lab.verdict("u") == "undecidable"
    lab.csv("a", "id", "1", "2", "3")
    assert str(lab.staleness("u")).endswith("by way of f ← t")
    plan = lab.plan()
    assert [step.name for step in plan.blocked] == ["u"]
    assert str(plan.blocked[0].reasons[-1]).endswith(
        "create it again, and add it: ws.sources.add('f', frame, replace=True)"
    )
    assert lab.recompute("t").executed == ["t"]
    assert isinstance(lab.staleness("u"), jl.PossiblyStale)
    lab.sources.add("f", lab.table("t").read().arrow(), replace=True)
    assert lab.recompute("u").executed == ["u"]
    assert lab.verdict("u") == "fresh"


def test_what_rests_on_a_stale_table_is_possibly_stale_whatever_else_it_rests_on(lab):
    lab.csv("a", "id", "1", "2")
    lab.materialize("t", "SELECT id FROM a")
    lab.sources.add("f", people())
    lab.materialize("of_frame", "SELECT id + 1 AS id FROM f")
    lab.materialize("beside", "SELECT count(*) AS n FROM jammi.t JOIN jammi.of_frame USING (id)")
    lab.materialize("direct", "SELECT count(*) AS n FROM jammi.t JOIN f USING (id)")
    lab.reopen()
    assert {lab.verdict(name) for name in ("of_frame", "beside", "direct")} == {"undecidable"}
    lab.csv("a", "id", "1", "2", "3")
    for name in ("beside", "direct"):
        assert isinstance(lab.staleness(name), jl.PossiblyStale)
    run = lab.recompute()
    assert run.executed == ["t", "beside"]
    assert [step.name for step in run.steps if step.outcome == "blocked"] == ["direct"]
    # The frame is as unknown as it was.
    assert lab.verdict("of_frame") == lab.verdict("beside") == "undecidable"


@pytest.fixture
def variables(lab: Lab) -> dict[str, object]:
    """Those of a notebook; `t` is made of the frame `people` among them."""
    found: dict[str, object] = {"people": people()}
    lab.name_frames(found)
    services_of(lab.ws).materializer.materialize("t", jl.Sql("SELECT id FROM people"), frames=True)
    return found


def test_a_frame_in_a_variable_of_the_notebook_decides_by_its_content(lab, variables):
    assert lab.verdict("t") == "fresh"
    variables["people"] = pd.DataFrame({"id": [1, 2]})
    assert lab.verdict("t") == "fresh"
    variables["people"] = pl.DataFrame({"id": [1, 3]})
    assert said(lab.staleness("t")) == ["advanced people"]
    del variables["people"]
    assert isinstance(lab.staleness("t"), jl.Undecidable)
    variables["people"] = 5
    assert isinstance(lab.staleness("t"), jl.Undecidable)


def test_a_plan_names_the_frame_that_is_missing_and_does_not_run(lab):
    there, missing = people(), people()
    variables: dict[str, object] = {"a": there, "b": missing}
    lab.name_frames(variables)
    statement = jl.Sql("SELECT id FROM a JOIN b USING (id)")
    services_of(lab.ws).materializer.materialize("t", statement, frames=True)
    variables.update(a=pl.DataFrame({"id": [2, 3]}), b=None)
    [step] = lab.plan().blocked
    assert step.name == "t"
    assert str(step.reasons[-1]) == "the frame b is not in this kernel; create it again"
    assert [row.outcome for row in lab.recompute().steps] == ["blocked"]
    variables["b"] = missing
    assert lab.recompute().executed == ["t"]


def test_a_source_registered_under_the_name_of_a_variable_is_what_counts(lab, variables):
    lab.csv("people", "id", "7")
    assert lab.verdict("t") == "stale"


def test_a_frame_changed_while_its_rows_are_read_does_not_count(lab):
    frame = pd.DataFrame({"id": range(1000)})
    lab.sources.add("f", frame)

    def meddle(_: object) -> None:
        frame.loc[0, "id"] = -1

    table = lab.materialize("t", "SELECT id FROM f", progress=meddle)
    assert min(table.read().polars()["id"]) == 0
    assert said(table.staleness()) == ["advanced f"]
    frame.loc[0, "id"] = 0
    assert table.staleness() == jl.Fresh()


# -- the clock -------------------------------------------------------------------------------------


def test_what_reads_the_date_is_fresh_until_midnight_and_then_stale(lab):
    lab.materialize("t", "SELECT current_date AS day")
    assert lab.verdict("t") == "fresh"
    lab.clock.ahead = 24 * 3600
    verdict = lab.staleness("t")
    assert said(verdict) == ["advanced current_date"]
    [reason] = verdict.reasons  # type: ignore[union-attr]
    assert isinstance(reason, jl.InputAdvanced)
    was, now = (
        datetime.date.fromisoformat(reason.recorded.value),
        datetime.date.fromisoformat(reason.current.value),
    )
    assert now - was == datetime.timedelta(days=1)
    assert reason.recorded.method == "date in UTC"


@pytest.mark.parametrize(
    "statement", ["SELECT today() AS day", "SELECT 1 AS one WHERE current_date > DATE '2020-01-01'"]
)
def test_every_way_to_read_the_date_counts(lab, statement):
    lab.materialize("t", statement)
    lab.clock.ahead = 24 * 3600
    assert lab.verdict("t") == "stale"


def test_a_column_called_like_the_clock_is_a_column(lab):
    lab.parquet("s", current_date=[1])
    lab.materialize("t", "SELECT current_date FROM s")
    lab.clock.ahead = 24 * 3600
    assert lab.verdict("t") == "fresh"


def test_another_time_zone_of_the_process_changes_nothing(lab, monkeypatch):
    lab.csv("s", "id,moment", "1,2026-01-01 00:30:00")
    statement = "SELECT current_date AS day, moment::TIMESTAMPTZ AS moment FROM s"
    lab.materialize("t", statement)
    before = lab.rows("t")
    for zone in ("Pacific/Kiritimati", "Pacific/Pago_Pago"):
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        lab.reopen()
        assert lab.verdict("t") == "fresh"
        lab.materialize("u", statement, cache="bypass")
        assert lab.rows("u") == before
    monkeypatch.undo()
    time.tzset()


def step(t):
    return [{"hour": at.hour} for (at,) in t.fetchall()]


def test_another_time_zone_of_the_engine_is_another_definition(lab):
    lab.materialize("t", "SELECT TIMESTAMPTZ '2026-01-01 00:00:00+00' AS at")
    lab.compute("step", step, inputs="t")
    lab._settings["engine.timezone"] = "Asia/Tokyo"
    lab.reopen()
    assert said(lab.staleness("t")) == said(lab.staleness("step")) == ["definition"]


# -- volatile functions ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("statement", "why"),
    [
        ("SELECT random() AS r", "random()"),
        ("SELECT now() AS n", "now()"),
        ("SELECT uuid() AS u", "uuid()"),
        ("SELECT current_timestamp AS n", "current_timestamp"),
        ("SELECT * FROM range(10) USING SAMPLE 3", "sample"),
    ],
)
def test_a_volatile_statement_is_undecidable_and_says_by_what(lab, statement, why):
    lab.materialize("t", statement)
    verdict = lab.staleness("t")
    assert isinstance(verdict, jl.Undecidable)
    assert why in str(verdict)
    assert lab.verify("t") == jl.MatchWithUnpinnedInputs(
        [a for a in lab.table("t").manifest.anchors if not a.pinned]
    )
    assert lab.lookup(statement) is None


def test_the_table_of_verdicts_names_the_way_to_a_doubt_as_the_sentence_does(lab):
    lab.materialize("drawn", "SELECT random() AS x")
    lab.materialize("read", "SELECT x FROM jammi.drawn")
    row = lab.status()["read"]
    assert str(row.verdict) == f"undecidable: {row.reasons[0]}"
    assert row.reasons == ["random() returns another value on each call, by way of drawn"]
    told = lab.sql("SELECT reasons FROM jammi_catalog.status WHERE name = 'read'").fetchall()
    assert told == [(row.reasons,)]


def test_what_is_known_of_one_input_is_told_whatever_is_not_known_of_another(lab, tmp_path):
    lab.csv("s", "id", "1")
    lab.materialize("parent", "SELECT id FROM s")
    lab.materialize("t", "SELECT id, random() AS r FROM jammi.parent")
    lab.materialize("child", "SELECT id, r FROM jammi.t")
    lab.table("child").export(tmp_path / "child.csv")
    lab.csv("s", "id", "2")
    doubt = "random() returns another value on each call"
    assert str(lab.staleness("t")) == f"undecidable: s changed, by way of parent; {doubt}"
    assert not lab.staleness("t").known_stale
    assert lab.status()["child"].reasons == [
        "s changed, by way of t ← parent",
        f"{doubt}, by way of t",
    ]
    why = [line.strip("├└─│ ").split(" (")[0] for line in lab.why("child").lines]
    assert why == ["child: undecidable", "t", "parent", "s changed", doubt]
    with Workspaces(str(tmp_path / "lab"), None) as workspaces:
        (shown,) = workspaces.check([shown_in_file(tmp_path / "child.csv")])
    assert shown.outcome == "stale" and shown.reason.startswith("s changed, by way of t ← parent")


# -- owners' words and costs -----------------------------------------------------------------------


def test_a_board_does_not_read_what_is_dear_and_says_what_it_would_take(tmp_path):
    lab = Lab(tmp_path, **{"look.scan_bytes": 10})  # type: ignore[arg-type]
    lab.csv("s", "id", *map(str, range(100)))
    lab.materialize("t", "SELECT id FROM s")
    lab.reopen()
    lab.csv("s", "id", *map(str, range(101)))
    verdict = lab.status()["t"].verdict
    assert isinstance(verdict, jl.Undecidable)
    assert "would scan" in str(verdict)
    assert lab.status(deep=True)["t"].verdict == lab.staleness("t")
    assert lab.verdict("t") == "stale"
    lab.close()


def test_an_input_that_does_not_answer_in_time_is_undecidable(tmp_path):
    lab = Lab(tmp_path, **{"look.timeout_seconds": 0.3})  # type: ignore[arg-type]
    lab.csv("s", "id", "1")
    lab.materialize("t", "SELECT id FROM s")
    pipe = lab.path("pipe")
    os.mkfifo(pipe)
    lab.path("s.csv").unlink()
    pipe.rename(lab.path("s.csv"))  # opening it waits for a writer that never comes
    verdict = lab.staleness("t")
    assert verdict != jl.Fresh()
    with open(lab.path("s.csv"), "r+b", buffering=0):  # let the reader go
        pass
    lab.close()


# -- manifests -------------------------------------------------------------------------------------


def test_a_manifest_of_a_later_release_makes_its_table_undecidable_and_a_lost_one_changes_nothing(
    lab,
):
    lab.sources.add("f", pa.table({"id": [1, 2]}))
    table = lab.materialize("t", "SELECT id FROM f")
    file = table.path.with_name(table.path.name.removesuffix(".parquet") + ".materialization.json")
    body = file.read_text()
    file.write_text(body.replace('"manifest_version": 1', '"manifest_version": 99'))
    verdict = lab.staleness("t")
    assert isinstance(verdict, jl.Undecidable)
    assert "99" in str(verdict)
    file.unlink()
    assert lab.verdict("t") == "fresh"
    file.write_text(body)
    assert lab.verdict("t") == "fresh"
