"""What others do between a plan and its end: told as deviations, because the plan's bounds hold
only when nothing moved."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from jammi_lab.core.records import Progress
from jammi_lab.freshness.reports import Plan
from jammi_lab.workspace.workspace import Workspace
from tests.freshness.lab import Lab, outcomes
from tests.inside import services_of
from tests.templates import Template

SOON = 20.0


@pytest.fixture
def other(lab: Lab) -> Iterator[Workspace]:
    """The same workspace in another kernel."""
    lab.csv("s", "id,x", "1,10", "2,20")
    with lab.open() as other:
        yield other


def edit(lab: Lab, x: int = 11) -> None:
    lab.csv("s", "id,x", f"1,{x}", "2,20")


def certain(plan: Plan) -> list[str]:
    return [step.name for step in plan.certain]


def test_a_certain_step_that_another_kernel_was_building_is_a_deviation(lab, other):
    lab.materialize("b", "SELECT sum(x) AS x FROM s")
    edit(lab)
    plan = lab.plan()
    building, waited = threading.Event(), threading.Event()

    def slow(progress: Progress) -> None:
        if progress.stage == "materialize b":
            building.set()
            waited.wait(SOON)

    theirs = threading.Thread(target=other.recompute, args=("b",), kwargs={"progress": slow})
    theirs.start()
    try:
        assert building.wait(SOON)
        report = plan.apply(
            lambda progress: waited.set() if progress.stage != "recompute b" else None
        )
    finally:
        waited.set()
        theirs.join()
    assert (outcomes(report), report.deviations) == (
        {"b": "reused"},
        ["b reused a table that became ready after the plan was made"],
    )


def test_a_step_that_a_table_was_to_answer_and_that_ran_is_a_deviation(lab, other):
    lab.materialize("b", "SELECT sum(x) AS x FROM s")
    edit(lab)
    other.materialize("z", "SELECT sum(x) AS x FROM s")
    plan = lab.plan("b")
    other.drop("z")
    report = plan.apply()
    assert ([s.name for s in plan.reused], outcomes(report)) == (["b"], {"b": "computed"})
    assert report.deviations == [
        "the table to be reused for b no longer exists or no longer matches"
    ]


def test_a_step_that_was_true_by_then_is_not_said_to_have_equal_inputs(lab, other):
    lab.materialize("b", "SELECT id, x FROM s")
    lab.materialize("c", "SELECT sum(x) AS x FROM jammi.b")
    edit(lab)
    plan = lab.plan()
    assert outcomes(plan.apply()) == {"b": "computed", "c": "computed"}
    again = plan.apply()
    assert outcomes(again) == {"b": "cut_off", "c": "cut_off"}
    assert again.deviations == [
        "b changed after the plan was made",
        "c changed after the plan was made",
    ]
    assert repr(again).count(
        "not needed: already up to date"
    ) == 2 and "came out equal" not in repr(again)


def build_read(root: Path) -> None:
    lab = Lab(root)
    edit(lab, 10)
    lab.csv("e", "id,x", "1,5")
    lab.materialize("a", "SELECT id, x FROM e")
    lab.materialize("c", "SELECT sum(a.x + s.x) AS x FROM jammi.a AS a JOIN s USING (id)")
    lab.close()


@pytest.fixture
def read(lab: Lab, other: Workspace) -> Lab:
    """`c` reads the source `s`, which has moved, and the fresh table `a` of another source."""
    edit(lab)
    return lab


def test_a_table_that_is_read_and_was_made_anew_elsewhere_is_a_deviation(read, other):
    plan = read.plan("c")
    read.csv("e", "id,x", "1,6")
    other.recompute("a")
    report = plan.apply()
    assert (certain(plan), outcomes(report), read.rows("c")) == (["c"], {"c": "computed"}, [(17,)])
    assert report.deviations == ["a changed after the plan was made"]


def test_a_table_that_is_read_and_was_made_anew_with_equal_rows_is_none(read, other):
    plan = read.plan("c")
    other.materialize("a", "SELECT id, x FROM e", cache="bypass")
    assert plan.apply().deviations == [] and read.table("a").version == 2


@pytest.mark.parametrize("made", [True, False])
def test_a_table_that_is_read_and_was_redefined_elsewhere_is_a_deviation(read, other, made):
    plan = read.plan("c")
    (other.materialize if made else other.define)("a", "SELECT id, x + 100 AS x FROM e")
    assert plan.apply().deviations == ["a changed after the plan was made"]
    assert read.rows("c") == [(116 if made else 16,)]


@pytest.mark.parametrize("how", ["drop", "rename"])
def test_a_table_that_is_read_and_is_gone_is_a_deviation(read, other, how):
    plan = read.plan("c")
    if how == "drop":
        other.drop("a", force=True)
    else:
        other.rename("a", "a2")
        with pytest.warns(RuntimeWarning, match="still reads 'a'"):
            other.unalias("a")
    report = plan.apply()
    assert outcomes(report) == {"c": "failed"}
    assert report.deviations == ["a changed after the plan was made"]


def test_an_exact_table_that_is_gone_is_a_deviation(read, other):
    exact = read.table("a").table_name
    read.materialize("f", f'SELECT sum(a.x + s.x) AS x FROM jammi."{exact}" AS a JOIN s USING (id)')
    edit(read, 12)
    plan = read.plan("f")
    other.drop("a", force=True)
    assert plan.apply().deviations == [f"{exact} changed after the plan was made"]


def test_a_table_that_was_never_made_notes_what_became_of_its_inputs(read, other):
    read.define("n", "SELECT max(x) AS x FROM jammi.a")
    plan = read.plan("n")
    read.csv("e", "id,x", "1,6")
    other.recompute("a")
    report = plan.apply()
    assert (outcomes(report), report.deviations) == (
        {"n": "computed"},
        ["a changed after the plan was made"],
    )


@pytest.mark.parametrize("meddle", ["recomputed by another call", "redefined"])
def test_a_step_of_the_plan_that_another_call_changes_before_it_is_read_is_a_deviation(
    lab, other, meddle
):
    lab.materialize("b", "SELECT id, x FROM s")
    lab.materialize("c", "SELECT sum(x) AS x FROM jammi.b")
    edit(lab)

    def between(progress: Progress) -> None:
        if progress.stage == "recompute c" and meddle == "redefined":
            other.define("b", "SELECT id, x + 1 AS x FROM s")
        elif progress.stage == "recompute c":
            edit(lab, 12)
            other.recompute("b")

    report = lab.plan().apply(between)
    assert outcomes(report) == {"b": "computed", "c": "computed"}
    assert report.deviations == ["b changed after the plan was made"]


def test_what_the_plan_itself_makes_of_redefined_steps_is_none(lab, other):
    lab.materialize("b", "SELECT id, x FROM s")
    lab.materialize("c", "SELECT * FROM jammi.b")
    lab.materialize("d", "SELECT count(*) AS n FROM jammi.c JOIN jammi.b USING (id)")
    edit(lab)
    lab.define("b", "SELECT id, x, x + 1 AS y FROM s UNION ALL SELECT 3, 3, 3")
    report = lab.recompute()
    assert set(outcomes(report).values()) == {"computed"} and report.deviations == []


def build_tenants(root: Path) -> None:
    lab = Lab(root)
    edit(lab, 10)
    for number, tenant in enumerate(("acme", "beta", None)):
        with lab.tenant(tenant):
            lab.materialize("b", f"SELECT id, x + {number} AS x FROM s")
            lab.materialize("c", "SELECT sum(x) AS x FROM jammi.b")
    edit(lab)
    lab.close()


TEMPLATES = {"read": Template(build_read), "tenants": Template(build_tenants)}


@pytest.fixture
def tenants(lab: Lab) -> Lab:
    """`b` and `c` of acme, of beta and of nobody, over a source that has moved."""
    return lab


def made(lab: Lab) -> dict[str | None, list[int]]:
    """The newest versions of `b` and `c`, by tenant."""
    found = {}
    for tenant in ("acme", "beta", None):
        with lab.tenant(tenant):
            found[tenant] = [lab.table(name).version for name in ("b", "c")]
    return found


@pytest.mark.parametrize(
    ("planned", "bound"), [("acme", None), ("acme", "beta"), (None, "acme"), ("acme", "acme")]
)
def test_a_plan_is_carried_out_for_the_tenant_that_it_was_made_for(tenants, planned, bound):
    with tenants.tenant(planned):
        plan = tenants.plan()
    with tenants.tenant(bound):
        report = plan.apply()
        assert services_of(tenants.ws).scope.current == bound
    assert (outcomes(report), report.deviations) == ({"b": "computed", "c": "computed"}, [])
    assert made(tenants) == {"acme": [1, 1], "beta": [1, 1], None: [1, 1]} | {planned: [2, 2]}


def test_who_listens_to_a_plan_of_another_tenant_hears_it_under_its_own(tenants):
    heard = set[str | None]()
    with tenants.tenant("acme"):
        plan = tenants.plan()
    with tenants.tenant("beta"):
        report = plan.apply(lambda progress: heard.add(services_of(tenants.ws).scope.current))
    assert (heard, outcomes(report)) == ({"beta"}, {"b": "computed", "c": "computed"})


def test_each_tenants_rows_of_a_shared_source_stay_its_own(lab):
    lab.path("o.csv").write_text("owner,x\n" + "acme,1\nbeta,2\n" * 5000)
    lab.sources.add("o", lab.path("o.csv"), tenant_column="owner")
    with lab.tenant("acme"):
        lab.materialize("n", "SELECT sum(x) AS x FROM o")
    lab.path("o.csv").write_text("owner,x\n" + "acme,10\nbeta,20\n" * 5000)
    with lab.tenant("acme"):
        plan = lab.plan()
    with lab.tenant("beta"):
        stream = lab.sql("SELECT x FROM o").batches(100)
        read = [stream.read_next_batch()]
        report = plan.apply()
        read += stream
    assert outcomes(report) == {"n": "computed"}
    assert {x for batch in read for x in batch.column("x").to_pylist()} == {20} and sum(
        map(len, read)
    ) == 5000
    with lab.tenant("acme"):
        assert lab.rows("n") == [(50000,)]


def test_a_plan_that_fails_leaves_the_tenant_bound_that_was_bound(tenants):
    def stop(progress: Progress) -> None:
        raise KeyboardInterrupt

    with tenants.tenant("acme"):
        plan = tenants.plan()
    with tenants.tenant("beta"):
        with pytest.raises(KeyboardInterrupt):
            plan.apply(stop)
        assert services_of(tenants.ws).scope.current == "beta"
    assert services_of(tenants.ws).scope.current is None


def test_a_step_that_was_dropped_is_not_taken_for_the_shared_one_of_its_name(tenants):
    with tenants.tenant("acme"):
        tenants.materialize(
            "b", "SELECT id, x + 2 AS x FROM s", cache="bypass"
        )  # what nobody's `b` says
        edit(tenants, 12)
        plan = tenants.plan("b")
        tenants.drop("b", force=True)
    tenants.recompute("b")
    report = plan.apply()
    assert (outcomes(report), report.deviations) == (
        {"b": "skipped"},
        ["b changed after the plan was made"],
    )
