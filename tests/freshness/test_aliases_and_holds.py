"""Renamed recipes keep their readers, and held recipes stay as they are."""

import re
from pathlib import Path

import pytest

import jammi_lab as jl
from tests.freshness.lab import Lab, said
from tests.templates import Template


def build_read(root: Path) -> None:
    lab = Lab(root)
    lab.csv("s", "id,x", "1,10", "2,20")
    lab.materialize("a", "SELECT id, x FROM s")
    lab.materialize("b", "SELECT sum(x) AS x FROM jammi.a")
    lab.materialize("c", "SELECT x + 1 AS x FROM jammi.b")
    lab.close()


TEMPLATES = {"read": Template(build_read)}


@pytest.fixture
def read(lab: Lab) -> Lab:
    return lab


def test_nothing_becomes_stale_by_a_rename_and_readers_run_as_they_are(read):
    definition = read.recipes()["b"].definition_hash
    read.rename("a", "base")
    assert {n: read.verdict(n) for n in ("base", "b", "c")} == dict.fromkeys(
        ("base", "b", "c"), "fresh"
    )
    assert not read.plan().certain and "a" in read.ws and read.table("a").name == "base"
    assert [r.name for r in read.recipes()] == ["b", "base", "c"]
    read.csv("s", "id,x", "1,10", "2,30")
    assert read.verdict("b") == "possibly_stale"
    assert said(read.staleness("b")) == ["advanced s ← base"]
    assert read.recompute().executed == ["base", "b", "c"]
    assert read.rows("c") == [(41,)]
    assert read.recipes()["b"].definition_hash == definition
    assert read.materialize("b", "SELECT sum(x) AS x FROM jammi.a").outcome == "reused"
    assert read.sql("SELECT count(*) FROM jammi.A").fetchall() == [(2,)]
    assert read.recompute("a").executed == []


def test_the_lineage_of_an_alias_is_that_of_its_recipe(read):
    read.rename("a", "base")
    for _ in range(2):
        edges = {(e.input, e.derived) for e in read.lineage().edges}
        assert edges == {("s", "base"), ("base", "b"), ("b", "c")}
        assert read.lineage("a").edges == read.lineage("base").edges
        assert [e.derived for e in read.derives_from("base")] == ["b"]
        read.csv("s", "id,x", "1,11")
        read.recompute()
    with pytest.raises(jl.InvalidArgument, match="b derives from it"):
        read.drop("base")


@pytest.mark.parametrize("how", ["materialize", "define", "rename"])
def test_a_recipe_takes_the_name_of_an_alias(read, how):
    read.rename("a", "base")
    if how == "rename":
        read.materialize("other", "SELECT 1 AS id, 5 AS x")
        read.rename("other", "a")
    else:
        getattr(read.ws, how)("a", "SELECT 1 AS id, 5 AS x")
    assert [r.name for r in read.recipes()] == ["a", "b", "base", "c"]
    assert [e.derived for e in read.derives_from("base")] == []
    assert read.verdict("b") == "stale"
    read.recompute()
    assert read.rows("b") == [(5,)] and read.rows("base") == [(1, 10), (2, 20)]
    with pytest.raises(jl.TableNotFound, match="no alias"):
        read.unalias("a")


def test_unalias_ends_an_alias_and_names_who_reads_it(read):
    read.rename("a", "base")
    with pytest.warns(RuntimeWarning, match=r"^b still reads 'a', .*: redefine it to read 'base'"):
        read.unalias("a")
    assert said(read.staleness("b")) == ["vanished a"] and "a" not in read.ws
    with pytest.raises(jl.TableNotFound):
        read.table("a")


def test_aliases_follow_further_renames_and_go_with_the_recipe(read):
    read.rename("a", "one")
    read.rename("one", "two")
    assert read.verdict("b") == "fresh"
    assert read.table("a").name == read.table("one").name == "two"
    read.rename("two", "a")
    assert read.table("two").name == "a" and read.verdict("b") == "fresh"
    read.drop("a", force=True)
    assert said(read.staleness("b")) == ["vanished a"]
    read.materialize("a", "SELECT id, x FROM s")
    assert read.verdict("b") == "fresh"
    with pytest.raises(jl.TableNotFound):
        read.table("one")


def test_a_cycle_through_an_alias_is_refused(read):
    read.rename("a", "base")
    with pytest.raises(jl.DependencyCycle):
        read.define("base", "SELECT * FROM jammi.c")
    with pytest.raises(jl.DependencyCycle):
        read.define("base", "SELECT * FROM jammi.a")


def test_an_alias_is_named_where_it_cannot_be_used(read):
    read.rename("a", "base")
    with pytest.raises(jl.TableNotFound, match="'a' is an alias of the recipe 'base'"):
        read.drop("a")


def test_an_alias_of_a_shared_recipe_ends_for_a_tenant_who_has_the_name(read):
    read.rename("a", "base")
    with read.tenant("acme"):
        assert read.rows("a") == [(1, 10), (2, 20)]
        with pytest.raises(jl.TenantForbidden):
            read.unalias("a")
        read.materialize("a", "SELECT 7 AS x")
        assert read.rows("a") == [(7,)]
    assert read.verdict("b") == "fresh" and read.table("a").name == "base"


def test_a_held_recipe_is_blocked_in_bulk_and_named_runs(read):
    read.hold("b", note="month end")
    read.csv("s", "id,x", "1,1")
    plan = read.plan()
    [step] = plan.blocked
    assert step.name == "b" and re.match(
        r"held since 20\d\d-\d\d-\d\d \d\d:\d\d:\d\d UTC by ", str(step.reasons[-1])
    )
    assert "month end" in repr(plan) and step.waiting == ["c"]
    assert read.recompute().executed == ["a"]
    assert read.verdict("b") == "stale" and read.rows("b") == [(30,)]
    assert [s.name for s in read.plan("c").blocked] == ["b"]
    assert read.recompute("b").executed == ["b"] and not read.plan().blocked
    read.csv("s", "id,x", "1,2")
    assert read.recompute().executed == ["a", "b", "c"]


def test_a_hold_survives_a_reopen_and_a_rename_and_goes_with_the_recipe(read):
    read.hold("b")
    read.rename("b", "total")
    read.reopen()
    read.csv("s", "id,x", "1,1")
    assert [s.name for s in read.plan().blocked] == ["total"]
    read.unhold("b")
    assert not read.plan().blocked
    read.hold("total")
    read.drop("total", force=True)
    read.materialize("total", "SELECT sum(x) AS x FROM jammi.a")
    read.csv("s", "id,x", "1,4")
    assert not [s for s in read.plan().blocked if s.name == "total"]
    with pytest.raises(jl.TableNotFound):
        read.hold("none")


def test_inputs_that_are_held_are_not_refreshed_for_a_reader(read):
    read.hold("b")
    read.csv("s", "id,x", "1,1")
    with pytest.raises(jl.JammiError, match="held since"):
        read.materialize("d", "SELECT x FROM jammi.b", refresh="inputs")
    assert read.rows("b") == [(30,)]


def test_restore_holds_the_recipe(read):
    first = read.table("b")
    read.csv("s", "id,x", "1,1")
    read.recompute()
    assert read.rows("b") == [(1,)]
    assert first.restore().version == 3 and read.rows("b") == [(30,)]
    assert read.verdict("b") == "stale"
    [step] = read.plan().blocked
    assert step.name == "b" and "version 1 was restored" in str(step.reasons[-1])
    read.drop("c")
    shown = str(read.status())
    assert ": version 1 was restored" in shown and "unhold('b')" in shown
    read.recompute()
    assert read.rows("b") == [(30,)]
    read.unhold("b")
    read.recompute()
    assert read.rows("b") == [(1,)]


def test_a_tenant_holds_its_own_recipes_only(read):
    with read.tenant("acme"):
        with pytest.raises(jl.TenantForbidden):
            read.hold("b")
        read.materialize("mine", "SELECT x FROM jammi.b")
        read.hold("mine")
    read.csv("s", "id,x", "1,1")
    assert not read.plan().blocked
