"""What must be made anew, how surely, and carrying it out."""

from pathlib import Path

import pyarrow as pa
import pytest

import jammi_lab as jl
from jammi_lab.core.records import Progress
from jammi_lab.freshness.reports import Plan
from tests.freshness.conftest import build_papers
from tests.freshness.lab import Lab, outcomes
from tests.templates import Template


def parts(plan: Plan) -> dict[str, list[str]]:
    found = {
        part: [s.name for s in getattr(plan, part)]
        for part in ("certain", "possible", "reused", "blocked")
    }
    return {part: names for part, names in found.items() if names}


def _build_chain(root: Path) -> None:
    build_papers(root)
    lab = Lab(root)
    lab.materialize("last", "SELECT id FROM jammi.first")
    lab.materialize("years", "SELECT DISTINCT year FROM papers")
    lab.close()


TEMPLATES = {"chain": Template(_build_chain)}


@pytest.fixture
def chain(papers: Lab) -> Lab:
    """papers → titles → first → last, and papers → years."""
    return papers


def edit(lab: Lab, *rows: str) -> None:
    lab.csv("papers", "id,title,year", *rows)


def test_steps_carry_reasons_and_what_the_last_run_took(chain):
    edit(chain, "1,Graphs,2020")
    plan = chain.plan()
    step = plan.certain[0]
    assert isinstance(step.reasons[0], jl.InputAdvanced)
    assert step.seconds is not None
    assert 0 < plan.seconds_at_least <= plan.seconds_at_most


def test_what_comes_out_equal_stops_what_derives_from_it(chain):
    edit(chain, "1,Graphs,2020", "2,Woods,2021", "3,Heaps,2022")
    report = chain.recompute()
    assert outcomes(report) == {
        "titles": "computed",
        "years": "computed",
        "first": "cut_off",
        "last": "cut_off",
    }
    assert report.executed == ["titles", "years"]
    assert report.deviations == []
    assert {row.name: row.verdict for row in chain.status()} == dict.fromkeys(
        ["titles", "years", "first", "last"], jl.Fresh()
    )


def test_a_plan_for_names_covers_them_and_what_they_need(chain):
    edit(chain, "7,Graphs,2020")
    assert parts(chain.plan("first")) == {"certain": ["titles"], "possible": ["first"]}
    assert parts(chain.plan(["titles"])) == {"certain": ["titles"]}
    assert outcomes(chain.recompute("titles")) == {"titles": "computed"}
    assert chain.verdict("years") == "stale"
    # a child whose parent was made anew is certain; of what is fresh nothing is made
    assert parts(chain.plan("last")) == {"certain": ["first"], "possible": ["last"]}
    chain.recompute()
    assert chain.recompute("last").steps == []


def test_a_step_that_a_ready_table_answers_is_reused(chain):
    text = chain.path("papers.csv").read_text()
    edit(chain, "9,Rings,2024")
    chain.recompute()
    chain.path("papers.csv").write_text(text)
    plan = chain.plan("titles")
    assert parts(plan) == {"reused": ["titles"]}
    assert plan.reused[0].action == "reuse"
    report = plan.apply()
    assert outcomes(report) == {"titles": "reused"}
    assert report.executed == []
    assert (chain.table("titles").version, chain.verdict("titles")) == (3, "fresh")


def as_they_are(rows):
    return rows.arrow()


@pytest.mark.parametrize("by", ["a statement", "a function"])
def test_recipes_that_turn_out_to_be_one_definition_since_an_input_has_other_columns_are_made_once(
    lab, by
):
    def define(name: str) -> None:
        by_function = jl.PythonStep(as_they_are, inputs="c")
        lab.define(name, "SELECT * FROM c" if by == "a statement" else by_function)

    lab.csv("c", "x,y", "1,2")
    define("a")
    lab.recompute("a")
    lab.csv("c", "y,x,z", "1,2,3")
    define("b")
    plan = lab.plan()
    assert parts(plan) == {"certain": ["a"], "possible": ["b"]}
    report = plan.apply()
    assert outcomes(report) == {"a": "computed", "b": "reused"} and report.deviations == []


def test_recipes_that_turn_out_to_be_one_definition_during_a_run_are_made_once_and_told(
    lab,
):
    """Their statements differ in what `*` meant when they were defined, and the table that they read
    is made first."""
    for name, columns in (("a", "x,z"), ("b", "w,z"), (None, "x")):
        lab.csv("s", columns, "1,2" if name else "1")
        lab.materialize("p", "SELECT * FROM s")
        if name:
            lab.define(name, "SELECT * FROM jammi.p")
    lab.csv("s", "x,z", "3,4")
    plan = lab.plan()
    assert parts(plan) == {"certain": ["p", "a", "b"]}
    report = plan.apply()
    assert sorted(outcomes(report).values()) == ["computed", "computed", "reused"]
    second = "b" if outcomes(report)["b"] == "reused" else "a"
    told = f"{second} reused a table that became ready after the plan was made"
    assert report.deviations == [told]


def test_a_step_whose_input_leads_back_to_an_earlier_state_reuses_what_was_made_of_it(lab):
    lab.csv("s", "x", "1")
    lab.materialize("a", "SELECT * FROM s")
    for statement in ("SELECT * FROM jammi.a", "SELECT 1 AS one FROM jammi.a"):
        lab.materialize("b", statement)
    lab.csv("s", "x,y", "1,2")
    lab.recompute("a")
    lab.define("b", "SELECT * FROM jammi.a")
    lab.csv("s", "x", "1")
    plan = lab.plan()
    assert parts(plan) == {"certain": ["b"], "reused": ["a"]}
    report = plan.apply()
    assert (outcomes(report), report.deviations) == ({"a": "reused", "b": "reused"}, [])


def test_recipes_of_one_definition_are_made_once_wherever_in_a_plan_they_are(chain):
    for name in ("a_copy", "z_copy"):
        chain.materialize(name, "SELECT DISTINCT year FROM papers")
        chain.materialize(f"{name}_last", f"SELECT max(year) AS m FROM jammi.{name}")
    edit(chain, "1,Graphs,2024")
    plan = chain.plan()
    assert parts(plan) == {
        "certain": ["a_copy", "titles"],
        "possible": ["a_copy_last", "first", "last", "years", "z_copy", "z_copy_last"],
    }
    assert "a_copy has the same definition" in repr(plan)
    report = plan.apply()
    assert {s.name for s in report.steps if s.outcome == "reused"} == {"years", "z_copy"}
    assert {row.verdict for row in chain.status()} == {jl.Fresh()}


def test_when_the_first_of_two_recipes_of_one_definition_fails_the_other_one_is_tried_as_the_plan_said(
    lab,
):
    lab.csv("s", "id,a", "1,1")
    for name in ("one", "two"):
        lab.materialize(name, "SELECT id, a::INTEGER AS a FROM s")
    lab.path("s.csv").write_text("id,a\n1,x\n")
    plan = lab.plan()
    assert parts(plan) == {"certain": ["one"], "possible": ["two"]}
    report = plan.apply()
    assert outcomes(report) == {"one": "failed", "two": "failed"}
    assert set(report.executed) == {"one", "two"}


def test_recipes_of_one_definition_that_no_table_ever_answers_are_all_certain(lab):
    lab.csv("s", "id", "1")
    for name in ("one", "two"):
        lab.materialize(name, "SELECT id, random() AS r FROM s")
    lab.path("s.csv").write_text("id\n2\n")
    plan = lab.plan()
    assert parts(plan) == {"certain": ["one", "two"]}
    assert outcomes(plan.apply()) == {"one": "computed", "two": "computed"}


def test_a_redefined_recipe_runs_after_what_its_new_definition_reads(chain):
    chain.materialize("zz", "SELECT id FROM papers")
    chain.define("first", "SELECT max(id) AS id FROM jammi.zz")
    edit(chain, "8,Graphs,2020")
    assert [s.name for s in chain.plan("first").certain] == ["zz", "first"]
    chain.recompute()
    assert chain.rows("first") == [(8,)]
    assert {row.verdict for row in chain.status()} == {jl.Fresh()}


def test_a_redefined_recipe_does_not_drag_along_what_it_read_before(chain):
    edit(chain, "8,Graphs,2020")
    chain.define("first", "SELECT 1 AS id")
    assert parts(chain.plan("first")) == {"certain": ["first"]}


# -- blocked ---------------------------------------------------------------------------------------


def test_a_step_whose_source_is_gone_is_blocked_with_that_reason(chain):
    chain.path("papers.csv").unlink()
    plan = chain.plan()
    assert parts(plan) == {"blocked": ["titles", "years"]}
    assert isinstance(plan.blocked[0].reasons[0], jl.InputVanished)
    assert set(outcomes(plan.apply()).values()) == {"blocked"}


def test_a_step_that_no_longer_reads_what_is_gone_is_not_blocked(chain):
    chain.csv("other", "id", "5")
    chain.path("papers.csv").unlink()
    chain.define("titles", "SELECT id FROM other")
    assert parts(chain.plan("titles")) == {"certain": ["titles"]}
    assert outcomes(chain.recompute("titles")) == {"titles": "computed"}


def test_a_reader_of_a_recipe_that_will_be_made_first_is_not_blocked(chain):
    chain.table("titles").drop()
    assert parts(chain.plan("first")) == {"certain": ["titles"], "possible": ["first"]}
    assert outcomes(chain.recompute("first")) == {"titles": "computed", "first": "cut_off"}
    assert chain.verdict("first") == "fresh"


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT id, a FROM s NATURAL JOIN jammi.parent",
        "SELECT s.id, a FROM s JOIN jammi.parent USING (id)",
    ],
)
def test_a_column_added_beside_a_lost_table_does_not_make_certain_what_comes_out_as_it_was(
    lab, statement
):
    lab.parquet("s", id=[1], a=[2])
    lab.parquet("t", id=[1])
    lab.materialize("parent", "SELECT id FROM t")
    lab.materialize("child", statement)
    lab.parquet("s", id=[1], a=[2], more=[3])
    lab.table("parent").drop()
    plan = lab.plan()
    assert parts(plan) == {"certain": ["parent"], "possible": ["child"]}
    report = plan.apply()
    assert (report.executed, report.deviations, lab.verdict("child")) == (["parent"], [], "fresh")


def test_what_is_read_by_the_columns_of_a_table_that_is_made_first_is_certain_only_when_that_stays(
    lab,
):
    """A natural join reads what both sides share: the column that it reads today is not read any
    more when the parent is as it was."""
    lab.parquet("s", id=[1], a=[2])
    lab.parquet("t", id=[1], b=[1])
    lab.materialize("parent", "SELECT * FROM t")
    lab.materialize("child", "SELECT id, a FROM s NATURAL JOIN jammi.parent")
    for side in ("s", "t"):
        lab.parquet(side, id=[1], **({"a": [2]} if side == "s" else {"b": [1]}), more=[3])
    lab.recompute("parent")
    lab.parquet("t", id=[1], b=[1])
    assert lab.verdict("child") == "stale"
    plan = lab.plan()
    assert parts(plan) == {"possible": ["child"], "reused": ["parent"]} or parts(plan) == {
        "certain": ["parent"],
        "possible": ["child"],
    }
    report = plan.apply()
    assert (
        report.deviations == []
        and "child" not in report.executed
        and lab.verdict("child") == "fresh"
    )


def test_a_table_made_anew_that_no_step_makes_again_makes_its_reader_certain_whatever_is_made_first(
    lab,
):
    lab.csv("s", "id", "1")
    lab.materialize("base", "SELECT id FROM s")
    lab.materialize("beside", "SELECT id + 1 AS more FROM jammi.base")
    lab.materialize("both", "SELECT id, more FROM jammi.base, jammi.beside")
    lab.csv("s", "id", "2")
    lab.recompute("base")
    plan = lab.plan()
    assert parts(plan) == {"certain": ["beside", "both"]}
    assert plan.apply().executed == ["beside", "both"]
    lab.csv("s", "id", "1")  # and when it is again as it was, the table of then may answer
    lab.recompute("base")
    plan = lab.plan()
    assert parts(plan) == {"reused": ["beside"], "possible": ["both"]}
    assert outcomes(plan.apply()) == {"beside": "reused", "both": "reused"}


def test_what_moved_below_a_blocked_step_is_made_over_that_as_it_is(chain):
    chain.csv("other", "id", "5")
    chain.materialize("both", "SELECT o.id + t.id AS id FROM other o, jammi.titles t")
    chain.csv("other", "id", "6")
    chain.path("papers.csv").unlink()
    plan = chain.plan("both")
    assert parts(plan) == {"blocked": ["titles"], "certain": ["both"]}
    report = plan.apply()
    assert (outcomes(report), report.deviations) == ({"titles": "blocked", "both": "computed"}, [])
    assert (
        chain.rows("both") == [(6 + number,) for number, _ in chain.rows("titles")]
        and chain.verdict("both") == "possibly_stale"
    )


def test_what_waits_for_a_blocked_step_and_remains_as_it_is_is_told(lab):
    lab.csv("s", "id", "1")
    lab.register("features", pa.table({"id": [1]}), producer="nightly-job", inputs=["s"])
    lab.materialize("child", "SELECT id FROM jammi.features")
    assert lab.recompute(["features", "child"]).executed == []
    lab.csv("s", "id", "2")
    plan = lab.plan()
    assert parts(plan) == {"blocked": ["features"]} and plan.blocked[0].waiting == ["child"]
    assert plan.blocked[0].reasons[-1] == "produced externally, by nightly-job"
    assert "child remains possibly stale because of features" in repr(plan.apply())


def test_undecidable_tables_are_left_out_of_a_plan_for_everything_and_said_so(lab):
    lab.materialize("dice", "SELECT random() AS r")
    lab.materialize("child", "SELECT r FROM jammi.dice")
    plan = lab.plan()
    assert (parts(plan), plan.left_out) == ({}, ["child", "dice"])
    assert parts(lab.plan("dice")) == {"possible": ["dice"]}
    plan = lab.plan("child")  # what it reads is a step only when it is named too
    assert (parts(plan), plan.left_out) == ({"possible": ["child"]}, ["dice"])
    assert "dice" in repr(plan)
    assert outcomes(plan.apply()) == {"child": "cut_off"}
    both = lab.plan(["dice", "child"])
    assert (parts(both), both.left_out) == ({"possible": ["dice", "child"]}, [])
    assert outcomes(both.apply()) == {"dice": "computed", "child": "computed"}
    assert outcomes(lab.recompute("dice")) == {"dice": "computed"}
    assert lab.verdict("child") == "undecidable"


def test_an_undecidable_table_that_is_stale_for_certain_is_planned(lab):
    lab.csv("s", "id", "1")
    lab.materialize("dice", "SELECT id, random() AS r FROM s")
    lab.csv("s", "id", "2")
    assert parts(lab.plan()) == {"certain": ["dice"]}


# -- what goes wrong on the way --------------------------------------------------------------------


def test_a_failing_step_stops_only_what_derives_from_it(chain):
    chain.define("titles", "SELECT id, CAST(title AS INTEGER) AS title FROM papers")
    edit(chain, "1,Graphs,2020")
    report = chain.recompute()
    assert outcomes(report) == {
        "titles": "failed",
        "first": "skipped",
        "last": "skipped",
        "years": "computed",
    }
    assert report.failed == ["titles"]
    assert next(s.error for s in report.steps if s.name == "titles")
    assert chain.verdict("years") == "fresh"
    assert chain.table("titles").version == 1


def test_a_source_that_moves_during_apply_is_a_deviation(chain):
    edit(chain, "1,Graphs,2020")

    def meddle(progress: Progress) -> None:
        if progress.stage == "recompute years":
            edit(chain, "7,Graphs,2020", "8,Trees,2030")

    assert chain.plan().apply(meddle).deviations == ["papers changed after the plan was made"]


def test_an_input_that_is_read_otherwise_because_of_the_plan_itself_is_no_deviation(
    lab,
):
    lab.csv("s", "id,a", "1,1")
    lab.materialize("top", "SELECT id, a FROM s")
    lab.materialize("joined", "SELECT id, a FROM jammi.top NATURAL JOIN s")
    lab.csv("s", "id,a", "1,2")
    lab.define("top", "SELECT id AS key FROM s")
    report = lab.recompute()
    assert outcomes(report) == {"top": "computed", "joined": "failed"}
    assert report.deviations == []


def test_a_recipe_that_was_redefined_or_dropped_meanwhile_is_a_deviation(chain):
    edit(chain, "1,Graphs,2020")
    plan = chain.plan()
    chain.define("years", "SELECT max(year) AS year FROM papers")
    chain.drop("last")
    report = plan.apply()
    assert set(report.deviations) == {
        "years changed after the plan was made",
        "last changed after the plan was made",
    }


def test_a_refresh_that_cannot_be_is_refused_and_nothing_is_made(chain):
    chain.path("papers.csv").unlink()
    with pytest.raises(jl.JammiError, match="titles"):
        chain.materialize("ids", "SELECT id FROM jammi.titles", refresh="inputs")
    assert "ids" not in chain.ws


def test_an_own_earlier_version_may_be_built_upon_by_its_exact_name(chain, tmp_path):
    exact = chain.table("years").table_name
    table = chain.materialize(
        "years", f'SELECT year FROM jammi."{exact}" UNION SELECT 1999 AS year'
    )
    assert table.staleness() == jl.Fresh()
    assert [n.name for n in chain.lineage("years").nodes][-1] == "years"


def test_a_blocked_step_names_the_input_that_is_gone(lab):
    lab.csv("c", "x", "1")
    lab.materialize("a", "SELECT 1 AS x")
    lab.define("n", "SELECT count(*) AS c FROM jammi.a")
    lab.drop("a", force=True)
    lab.materialize("b", "SELECT 1 AS x")
    lab.define("b", "SELECT x FROM c")
    lab.sources.remove("c")
    lab.materialize("d", "SELECT 2 AS x")
    plan = lab.plan(["n", "b"])
    assert {step.name: list(map(str, step.reasons))[-1] for step in plan.blocked} == {
        "n": "a is gone",
        "b": "c is gone",
    }
    errors = {step.name: step.error for step in plan.apply().steps}
    assert "a is gone" in errors["n"] and "c is gone" in errors["b"]


def test_what_would_read_a_damaged_table_that_nothing_makes_again_is_blocked(lab):
    lab.csv("c", "x", "1")
    given = lab.register("given", pa.table({"x": [1]}), producer="nightly-job")
    lab.define("over", "SELECT x FROM c UNION ALL SELECT x FROM jammi.given")
    given.path.unlink()
    exact = lab.materialize("old", "SELECT x FROM c")
    lab.materialize("old", "SELECT x + 1 AS x FROM c")
    lab.materialize("beyond", "SELECT c.x FROM jammi_version('old', 1) JOIN c USING (x)")
    exact.path.write_bytes(b"not parquet")
    assert "beyond" not in str(lab.plan()), (
        "its own bytes are there, and nothing that it reads moved"
    )
    lab.csv("c", "x", "1", "2")
    plan = lab.plan()
    assert parts(plan) == {"certain": ["old"], "blocked": ["beyond", "given", "over"]}
    assert {s.name: str(s.reasons[-1]) for s in plan.blocked if s.name != "given"} == {
        "beyond": f"{exact.table_name} is damaged",
        "over": "given is damaged",
    }
    assert outcomes(plan.apply()) == {
        "old": "computed",
        "beyond": "blocked",
        "given": "blocked",
        "over": "blocked",
    }
