"""Edges by recipe, and closures both ways."""

import pytest

from jammi_lab.core.anchors import source_input
from jammi_lab.core.errors import TableDamaged
from jammi_lab.core.records import Edge
from tests.sizes import sized, soak


def pairs(links: list) -> list[tuple[str, str]]:
    return [(link.edge.input, link.edge.derived) for link in links]


def walked(lab, *how, **kind) -> list[tuple[str, str]]:
    return pairs(lab.lineage.closure(*how, **kind))


def test_edges_of_a_recipe_are_those_of_its_newest_ready_version(lab):
    lab.ready("b", "source:old")
    lab.ready("b", "source:papers")
    lab.begin("b")
    assert pairs(lab.lineage.all_edges()) == [("papers", "b")]
    assert lab.lineage.closure("b", "up", 1)[0].edge == Edge(
        input="papers", derived="b", kind="source_version"
    )
    assert lab.lineage.closure("old", "down", 1) == []


def test_a_diamond_is_walked_once_and_nearest_first(lab):
    lab.ready("a", "source:papers")
    lab.ready("b", "a")
    lab.ready("c", "a")
    lab.ready("d", "b", "c")
    lab.ready("aside", "source:other")
    assert walked(lab, "papers", "down") == [
        ("papers", "a"),
        ("a", "b"),
        ("a", "c"),
        ("b", "d"),
        ("c", "d"),
    ]
    up = lab.lineage.closure("d", "up")
    assert pairs(up) == [("b", "d"), ("c", "d"), ("a", "b"), ("a", "c"), ("papers", "a")]
    assert [link.depth for link in up] == [1, 1, 2, 2, 3]


def test_an_edge_of_a_kind_that_there_is_not_is_a_damaged_catalog(lab):
    lab.ready("a", "source:papers")
    with lab.database.write() as tx:
        tx.execute("UPDATE lineage SET kind = 'source_~ersion'")
    with pytest.raises(TableDamaged, match=r"jammi_lab\.rebuild"):
        lab.lineage.all_edges()


@pytest.mark.parametrize("direction", ["up", "down"])
def test_depth_bounds_the_hops(lab, direction):
    for i in range(6):
        lab.ready(f"t{i}", *([f"t{i - 1}"] if i else []))
    start = "t5" if direction == "up" else "t0"
    for depth in range(7):
        assert len(lab.lineage.closure(start, direction, depth)) == min(depth, 5)
    assert len(lab.lineage.closure(start, direction, 10**30)) == 5


def test_a_bounded_walk_reaches_what_a_shorter_way_reaches(lab):
    lab.ready("a", "source:papers")
    lab.ready("b", "a")
    lab.ready("c", "a", "b")
    lab.ready("d", "c")
    assert ("c", "d") in walked(lab, "a", "down", 2)


@pytest.mark.only_soak
@soak
def test_a_chain_of_many_nodes_is_walked_to_its_end(lab):
    many = sized(1_100, 10_000 if lab.database.dialect.file else 1_500)
    with lab.transaction():
        for i in range(many):
            lab.ready(f"t{i}", *([f"t{i - 1}"] if i else ["source:papers"]))
    assert len(lab.lineage.closure("papers", "down")) == many
    up = lab.lineage.closure(f"t{many - 1}", "up")
    assert (len(up), up[-1].edge.input, up[-1].depth) == (many, "papers", many)


def test_a_way_that_meets_itself_ends(lab):
    lab.ready("a", "b")
    lab.ready("b", "a")
    assert sorted(walked(lab, "a", "down")) == [("a", "b"), ("b", "a")]
    assert len(lab.lineage.closure("a", "up")) == 2


@pytest.mark.parametrize(
    "name", ["%", "_", "\\", 'quo"te', "apo'str", "a%b_c", "crm.customers", "*"]
)
def test_a_name_is_matched_as_a_whole_and_not_as_a_pattern(lab, name):
    lab.ready("other", "source:axbyc")
    lab.ready("t", f"source:{name}")
    lab.ready("u", "t")
    assert walked(lab, name, "down") == [(name, "t"), ("t", "u")]


def test_names_are_compared_by_their_fold(lab):
    lab.ready("Größe", "source:Papers")
    lab.ready("t", "GRÖSSE")
    assert walked(lab, "PAPERS", "down") == [
        ("Papers", "Größe"),
        ("GRÖSSE", "t"),
    ]


def test_an_exact_table_is_its_recipes_node_and_keeps_its_name_in_the_edge(lab):
    old = lab.ready("a", "source:papers")
    lab.ready("a", "source:papers")
    lab.ready("b", old.table_name)
    lab.ready("c", "b")
    assert walked(lab, "papers", "down") == [
        ("papers", "a"),
        (old.table_name, "b"),
        ("b", "c"),
    ]
    assert walked(lab, "c", "up") == [
        ("b", "c"),
        (old.table_name, "b"),
        ("papers", "a"),
    ]


def test_a_walk_from_an_older_version_begins_with_its_own_edges(lab):
    lab.ready("base", "source:raw")
    old = lab.ready("a", "base")
    new = lab.ready("a", "source:papers")
    lab.ready("b", "a")
    assert walked(lab, old.table_name, "up") == [
        ("base", old.table_name),
        ("raw", "base"),
    ]
    assert walked(lab, old.table_name, "up", 1) == [("base", old.table_name)]
    assert walked(lab, old.table_name, "up", 2) == [
        ("base", old.table_name),
        ("raw", "base"),
    ]
    assert walked(lab, new.table_name, "up") == [("papers", "a")]
    assert walked(lab, new.table_name, "down") == [("a", "b")]


def test_a_table_that_two_recipes_refer_to_has_edges_under_both(lab):
    table = lab.ready("a", "source:papers")
    lab.table_status.reuse("alias", table.table_name)
    assert walked(lab, "papers", "down", 1) == [
        ("papers", "a"),
        ("papers", "alias"),
    ]


def test_a_table_inside_a_source_is_a_node_of_its_own(lab):
    lab.ready("t", source_input("crm", table="customers"))
    lab.ready("u", source_input("crm", table="orders"))
    assert walked(lab, "crm", "down", 1) == [
        ("crm.customers", "t"),
        ("crm.orders", "u"),
    ]
    assert walked(lab, "crm.orders", "down", 1) == [("crm.orders", "u")]


def test_a_recipe_and_a_source_of_one_name_are_told_apart_by_kind(lab):
    lab.ready("papers", "source:papers")
    lab.ready("t", "papers")
    assert walked(lab, "papers", "down", kind="result") == [("papers", "t")]
    assert walked(lab, "papers", "down", kind="source") == [
        ("papers", "papers"),
        ("papers", "t"),
    ]


def test_what_is_gone_but_was_read_is_still_a_node(lab):
    lab.ready("a", "source:gone")
    assert lab.lineage.nodes_named("GONE")[0]
    assert lab.lineage.nodes_named("a")[0]
    assert not lab.lineage.nodes_named("never")[0]


def test_a_rename_takes_readers_of_the_old_name_and_of_exact_tables_along(lab):
    lab.define("a")
    table = lab.ready("a", "source:papers")
    lab.ready("by_name", "a")
    lab.ready("exact", table.table_name)
    lab.recipes.rename("a", "z")
    readers = [("z", "by_name"), (table.table_name, "exact")]
    assert walked(lab, "z", "down", 1) == readers
    assert walked(lab, "a", "down", 1) == readers
    lab.aliases.remove("a")
    assert walked(lab, "z", "down", 1) == [(table.table_name, "exact")]
    assert walked(lab, "a", "down", 1) == [("a", "by_name")]
    assert walked(lab, "z", "up", 1) == [("papers", "z")]


def test_a_tenants_edges_are_its_own_and_the_shared_ones(lab):
    lab.ready("shared", "source:papers")
    with lab.scope.use("acme"):
        lab.ready("mine", "shared")
        assert walked(lab, "papers", "down") == [
            ("papers", "shared"),
            ("shared", "mine"),
        ]
    with lab.scope.use("zeta"):
        assert walked(lab, "papers", "down") == [("papers", "shared")]
        assert not lab.lineage.nodes_named("mine")[0]


def test_readers_of_a_shared_name_are_not_readers_of_an_own_one(lab):
    lab.ready("top", "source:papers")
    lab.ready("reader", "top")
    with lab.scope.use("acme"):
        lab.ready("top", "source:other")
        lab.ready("own_reader", "top")
        assert walked(lab, "top", "down", 1) == [("top", "own_reader")]
        assert walked(lab, "own_reader", "up") == [
            ("top", "own_reader"),
            ("other", "top"),
        ]


def test_the_names_above_are_those_of_everybody_whom_the_reader_sees(lab):
    """What a name means depends on who reads it, so own and shared recipes of a name are both
    followed; those of others are not."""
    lab.ready("far", "source:papers")
    lab.ready("a", "far")
    lab.ready("b", "A")
    with lab.scope.use("one"):
        lab.ready("a", "mine")
        lab.ready("c", "b")
    with lab.scope.use("two"):
        lab.ready("a", "theirs")
        assert lab.lineage.ancestors(["c"]) == set()
        assert lab.lineage.ancestors(["b"]) == {"a", "far", "theirs"}
    assert lab.lineage.ancestors(["b"]) == {"a", "far"}
    with lab.scope.use("one"):
        assert lab.lineage.ancestors(["c", "b"]) == {"a", "b", "far", "mine"}
    with lab.all_tenants():
        assert lab.lineage.ancestors(["c"]) == {"a", "b", "far", "mine", "theirs"}


def test_a_way_up_that_meets_itself_ends(lab):
    lab.ready("a", "b")
    lab.ready("b", "a")
    assert lab.lineage.ancestors(["a"]) == {"a", "b"}


@pytest.mark.parametrize("tenant", [None, "one"])
def test_of_some_names_the_same_is_listed_as_of_all(lab, tenant):
    for bound in (None, "one"):
        with lab.scope.use(bound):
            lab.define("Both")
            lab.ready("Both")
            lab.ready("both")
    lab.ready("shared")
    lab.define("defined")
    lab.ready("hidden")
    with lab.scope.use("one"):
        lab.define("hidden")
    names = {"both", "defined", "hidden", "quo'te", "missing"}
    with lab.scope.use(tenant):
        recipes, tables = lab.recipes, lab.result_tables
        assert recipes.list(names) == [r for r in recipes.list() if r.name.lower() in names]
        assert tables.current(names) == [
            found for found in tables.current() if found[0].recipe.lower() in names
        ]
        everything = tables.kinds(None)
        assert everything["shared"] == ("sql", 1)
        assert everything["defined"] == ("sql", None)
        assert tables.kinds(names) == {n: k for n, k in everything.items() if n.lower() in names}
        assert recipes.list([]) == [] and tables.current([]) == []
