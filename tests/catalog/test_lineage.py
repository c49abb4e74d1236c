"""Edges by recipe, and closures both ways."""

import pytest

from jammi_lab.core.anchors import source_input
from jammi_lab.core.errors import TableDamaged
from jammi_lab.core.records import Edge
from tests.sizes import sized, soak


def made(lab, graph: str) -> None:
    """Make the tables of a graph, in order: `name < what it reads`, separated by semicolons."""
    for table in graph.split("; "):
        name, _, reads = table.partition(" < ")
        lab.ready(name, *reads.split())


def shown(links: list) -> str:
    """The edges, each as `input→reader`."""
    return " ".join(f"{link.edge.input}→{link.edge.derived}" for link in links)


def walked(lab, *how, **kind) -> str:
    return shown(lab.lineage.closure(*how, **kind))


def test_edges_of_a_recipe_are_those_of_its_newest_ready_version(lab):
    made(lab, "b < source:old; b < source:papers")
    lab.begin("b")
    assert shown(lab.lineage.all_edges()) == "papers→b"
    assert lab.lineage.closure("b", "up", 1)[0].edge == Edge(
        input="papers", derived="b", kind="source_version"
    )
    assert lab.lineage.closure("old", "down", 1) == []


def test_a_diamond_is_walked_once_and_nearest_first(lab):
    made(lab, "a < source:papers; b < a; c < a; d < b c; aside < source:other")
    assert walked(lab, "papers", "down") == "papers→a a→b a→c b→d c→d"
    up = lab.lineage.closure("d", "up")
    assert shown(up) == "b→d c→d a→b a→c papers→a"
    assert [link.depth for link in up] == [1, 1, 2, 2, 3]


def test_an_edge_of_a_kind_that_there_is_not_is_a_damaged_catalog(lab):
    lab.ready("a", "source:papers")
    with lab.database.write() as tx:
        tx.execute("UPDATE lineage SET kind = 'source_~ersion'")
    with pytest.raises(TableDamaged, match=r"jammi_lab\.rebuild"):
        lab.lineage.all_edges()


@pytest.mark.parametrize("direction", ["up", "down"])
def test_depth_bounds_the_hops(lab, direction):
    made(lab, "t0; t1 < t0; t2 < t1; t3 < t2; t4 < t3; t5 < t4")
    start = "t5" if direction == "up" else "t0"
    for depth in (*range(7), 10**30):
        assert len(lab.lineage.closure(start, direction, depth)) == min(depth, 5)


def test_a_bounded_walk_reaches_what_a_shorter_way_reaches(lab):
    made(lab, "a < source:papers; b < a; c < a b; d < c")
    assert "c→d" in walked(lab, "a", "down", 2)


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
    made(lab, "a < b; b < a")
    assert walked(lab, "a", "down") == "a→b b→a"
    assert len(lab.lineage.closure("a", "up")) == 2
    assert lab.lineage.ancestors(["a"]) == {"a", "b"}


@pytest.mark.parametrize(
    "name", ["%", "_", "\\", 'quo"te', "apo'str", "a%b_c", "crm.customers", "*"]
)
def test_a_name_is_matched_as_a_whole_and_not_as_a_pattern(lab, name):
    made(lab, f"other < source:axbyc; t < source:{name}; u < t")
    assert walked(lab, name, "down") == f"{name}→t t→u"


def test_names_are_compared_by_their_fold(lab):
    made(lab, "Größe < source:Papers; t < GRÖSSE")
    assert walked(lab, "PAPERS", "down") == "Papers→Größe GRÖSSE→t"


def test_an_exact_table_is_its_recipes_node_and_keeps_its_name_in_the_edge(lab):
    old = lab.ready("a", "source:papers").table_name
    made(lab, f"a < source:papers; b < {old}; c < b")
    assert walked(lab, "papers", "down") == f"papers→a {old}→b b→c"
    assert walked(lab, "c", "up") == f"b→c {old}→b papers→a"


def test_a_walk_from_an_older_version_begins_with_its_own_edges(lab):
    lab.ready("base", "source:raw")
    old = lab.ready("a", "base").table_name
    new = lab.ready("a", "source:papers").table_name
    lab.ready("b", "a")
    assert walked(lab, old, "up") == walked(lab, old, "up", 2) == f"base→{old} raw→base"
    assert walked(lab, old, "up", 1) == f"base→{old}"
    assert walked(lab, new, "up") == "papers→a"
    assert walked(lab, new, "down") == "a→b"


def test_a_table_that_two_recipes_refer_to_has_edges_under_both(lab):
    table = lab.ready("a", "source:papers")
    lab.table_status.reuse("alias", table.table_name)
    assert walked(lab, "papers", "down", 1) == "papers→a papers→alias"


def test_a_table_inside_a_source_is_a_node_of_its_own(lab):
    lab.ready("t", source_input("crm", table="customers"))
    lab.ready("u", source_input("crm", table="orders"))
    assert walked(lab, "crm", "down", 1) == "crm.customers→t crm.orders→u"
    assert walked(lab, "crm.orders", "down", 1) == "crm.orders→u"


def test_a_recipe_and_a_source_of_one_name_are_told_apart_by_kind(lab):
    made(lab, "papers < source:papers; t < papers")
    assert walked(lab, "papers", "down", kind="result") == "papers→t"
    assert walked(lab, "papers", "down", kind="source") == "papers→papers papers→t"


def test_what_is_gone_but_was_read_is_still_a_node(lab):
    lab.ready("a", "source:gone")
    assert lab.lineage.nodes_named("GONE")[0]
    assert lab.lineage.nodes_named("a")[0]
    assert not lab.lineage.nodes_named("never")[0]


def test_a_rename_takes_readers_of_the_old_name_and_of_exact_tables_along(lab):
    lab.define("a")
    table = lab.ready("a", "source:papers").table_name
    made(lab, f"by_name < a; exact < {table}")
    lab.recipes.rename("a", "z")
    assert walked(lab, "z", "down", 1) == walked(lab, "a", "down", 1)
    assert walked(lab, "a", "down", 1) == f"z→by_name {table}→exact"
    lab.aliases.remove("a")
    assert walked(lab, "z", "down", 1) == f"{table}→exact"
    assert walked(lab, "a", "down", 1) == "a→by_name"
    assert walked(lab, "z", "up", 1) == "papers→z"


def test_a_tenants_edges_are_its_own_and_the_shared_ones(lab):
    lab.ready("shared", "source:papers")
    with lab.scope.use("acme"):
        lab.ready("mine", "shared")
        assert walked(lab, "papers", "down") == "papers→shared shared→mine"
    with lab.scope.use("zeta"):
        assert walked(lab, "papers", "down") == "papers→shared"
        assert not lab.lineage.nodes_named("mine")[0]


def test_readers_of_a_shared_name_are_not_readers_of_an_own_one(lab):
    made(lab, "top < source:papers; reader < top")
    with lab.scope.use("acme"):
        made(lab, "top < source:other; own_reader < top")
        assert walked(lab, "top", "down", 1) == "top→own_reader"
        assert walked(lab, "own_reader", "up") == "top→own_reader other→top"


def test_the_names_above_are_those_of_everybody_whom_the_reader_sees(lab):
    """What a name means depends on who reads it, so own and shared recipes of a name are both
    followed; those of others are not."""
    made(lab, "far < source:papers; a < far; b < A")
    with lab.scope.use("one"):
        made(lab, "a < mine; c < b")
    with lab.scope.use("two"):
        lab.ready("a", "theirs")
        assert lab.lineage.ancestors(["c"]) == set()
        assert lab.lineage.ancestors(["b"]) == {"a", "far", "theirs"}
    assert lab.lineage.ancestors(["b"]) == {"a", "far"}
    with lab.scope.use("one"):
        assert lab.lineage.ancestors(["c", "b"]) == {"a", "b", "far", "mine"}
    with lab.all_tenants():
        assert lab.lineage.ancestors(["c"]) == {"a", "b", "far", "mine", "theirs"}


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
