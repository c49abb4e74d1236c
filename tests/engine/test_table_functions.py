"""Calls of our own table functions: put out of the text, resolved by a provider, every place
kept."""

import pytest

from jammi_lab.core.anchors import result_input
from jammi_lab.core.errors import InvalidArgument, StatementNotAllowed
from jammi_lab.engine.duckdb_instances import open_parser
from jammi_lab.engine.name_resolution import NameResolver
from jammi_lab.engine.sql import table_functions as calls
from jammi_lab.engine.sql.syntax_tree import tree_of
from jammi_lab.sources.base import ReadPlan, Relation
from tests.engine.shelf import TOP


@pytest.fixture(scope="module")
def replaced():
    parser = open_parser()
    yield lambda text: calls.replace_in_from(text, tree_of(parser, text))
    parser.close()


@pytest.fixture
def answering(engine):
    """The engine with a provider that answers `jammi_version`; gives the calls that it was
    asked."""
    asked = []

    class Provider(NameResolver):
        def call(self, function, arguments):
            asked.append((function, arguments))
            return Relation(result_input(f"{arguments[0]}@{arguments[1]}"), ReadPlan(frame=TOP))

    engine.register(Provider())
    return asked


@pytest.mark.parametrize(
    "text",
    [
        "FROM jammi_version('a',1)",
        "SELECT 'é', x.* FROM Jammi_Version ( 'é(\")' /* ) */ ,\n 12 ) AS x WHERE 'jammi_version(' <> ')'",
        "WITH a AS (FROM jammi_version('a', 1)) SELECT (SELECT count(*) FROM jammi_version('b', 2)) FROM a, jammi_version('a', 1) c",
    ],
)
def test_what_surrounds_a_call_stays_where_it_was(replaced, text):
    plain, found = replaced(text)
    assert len(plain) == len(text) and len(found) == text.lower().count(
        "from jammi_version"
    ) + text.count(", jammi_version")
    changed = [i for i, (one, other) in enumerate(zip(text, plain, strict=True)) if one != other]
    assert (
        all("jammi_version" in plain[max(0, i - 40) : i + 40] for i in changed)
        and "WHERE" not in text
    ) or plain.endswith(text[text.find("WHERE") :])


def test_a_provider_that_answers_calls_is_asked_with_plain_values(engine, answering):
    [prepared] = engine.prepare("SELECT max(id) AS m FROM jammi_version('top', 2)")
    assert prepared.run().table().to_pylist() == [{"m": 3}] and answering == [
        ("jammi_version", ("top", 2))
    ]
    assert [(b.relation.input.name, b.columns) for b in prepared.inputs] == [("top@2", ("id",))]


def test_the_statement_is_told_as_written(engine, answering):
    text = "SELECT id FROM jammi_version('top', 2) -- the second"
    [_, prepared] = engine.prepare(f"SELECT 1; {text}")
    assert prepared.statement == text


def test_definitions_differ_by_what_the_call_stands_for_and_by_nothing_else(engine, answering):
    def canonical(sql):
        return engine.prepare(sql)[0].canonical()

    one = canonical("SELECT id FROM jammi_version('top', 2)")
    assert one == canonical("select  id from JAMMI_VERSION('top',2) x")
    assert one != canonical("SELECT id FROM jammi_version('top', 3)")


def test_the_rows_of_a_call_are_ordered_like_any_other(engine, answering):
    [prepared] = engine.prepare(
        "SELECT score, id FROM jammi_version('top', 2) ORDER BY score LIMIT 1"
    )
    assert prepared.run_ordered(["id"]).table().to_pylist() == [{"score": 0.25, "id": 3}]


def test_where_nobody_answers_a_call_is_refused(engine):
    with pytest.raises(StatementNotAllowed) as caught:
        engine.prepare("SELECT 1; FROM jammi_version('top', 2)")
    assert caught.value.position == len("SELECT 1; FROM ")


def test_a_call_inside_a_pivot_without_a_list_is_refused(engine, answering):
    with pytest.raises(StatementNotAllowed):
        engine.prepare("PIVOT jammi_version('top', 2) ON id USING sum(score)")


@pytest.mark.every_case
@pytest.mark.parametrize(
    "call",
    [
        "jammi_version('top', 2)",
        "search('v', 'x', k := 3)",
        "search('v', ['x', 'y'])",
        "neighbors('v', '2020-01-31', $k)",
    ],
)
def test_no_expression_in_the_place_of_a_value_gets_past_a_call(call):
    parser = open_parser()
    tree = tree_of(parser, f"SELECT * FROM {call}")
    poisons = [
        tree_of(parser, f"SELECT {p}")["select_list"][0]
        for p in (
            "getenv('HOME')",
            "(SELECT 1)",
            "x",
            "random()",
            "NULL",
            "1 + 1",
            "[getenv('HOME')]",
        )
    ]
    parser.close()

    def poisoned(node, poison):
        """The tree with the poison in the place of each expression in turn."""
        for key, child in node.items() if isinstance(node, dict) else enumerate(node):
            if isinstance(child, dict) and "class" in child:
                yield (
                    {**node, key: poison}
                    if isinstance(node, dict)
                    else [*node[:key], poison, *node[key + 1 :]]
                )
            if isinstance(child, dict | list):
                for inner in poisoned(child, poison):
                    yield (
                        {**node, key: inner}
                        if isinstance(node, dict)
                        else [*node[:key], inner, *node[key + 1 :]]
                    )

    tried = 0
    for poison in poisons:
        for arguments in poisoned(tree["from_table"]["function"]["children"], poison):
            tried += 1
            changed = {
                **tree,
                "from_table": {
                    **tree["from_table"],
                    "function": {**tree["from_table"]["function"], "children": arguments},
                },
            }
            with pytest.raises(InvalidArgument):
                calls.replace_in_from(f"SELECT * FROM {call}", changed)
    assert tried >= 2 * len(poisons)


def test_named_arguments_and_parameters_go_to_their_places(replaced):
    _, found = replaced(
        "SELECT * FROM search('v', k := $n, query := $q), neighbors('w', -15), search('v', ['x', 'y'], 7)"
    )
    assert [(c.function, c.arguments) for c in found.values()] == [
        ("search", ("v", calls.Parameter("q"), calls.Parameter("n"), None)),
        ("neighbors", ("w", -15, 10)),
        ("search", ("v", ["x", "y"], 7, None)),
    ]
    first = next(iter(found.values()))
    assert first.with_values({"N": 3, "q": "x"}).arguments == ("v", "x", 3, None)
    with pytest.raises(InvalidArgument, match="The argument k of search"):
        first.with_values({"n": "3", "q": "x"})


def test_values_that_are_not_written_out_are_refused(engine, answering):
    with pytest.raises(InvalidArgument):
        engine.prepare("FROM jammi_version('top', $n)", {"n": 2})


@pytest.mark.parametrize(
    "sql",
    [
        "FROM read_csv('data/x.csv', delim=';', header := true)",
        "SELECT * FROM papers JOIN read_parquet('data/x.parquet') USING (id)",
        "WITH q AS (FROM read_json('data/x.json')) SELECT (SELECT count(*) FROM q)",
    ],
)
def test_nothing_but_written_out_values_gets_into_a_call_that_reads_a_file(sql):
    """Whatever is put in the place of any part of the call, it is refused here, or it is left to
    the gate, which lets no such function through."""
    import copy

    from jammi_lab.core.errors import JammiError
    from jammi_lab.engine.sql import allowlist as gate

    parser = open_parser()
    tree = tree_of(parser, sql)
    assert isinstance(tree, dict)
    poisons = []
    for text in (
        "getenv('HOME')",
        "current_setting('x')",
        "(SELECT 1)",
        "$p",
        "'a' || 'b'",
        "['a', 'b']",
        "NULL",
        "x",
        "read_text('y')",
    ):
        poison = tree_of(parser, f"SELECT {text}")
        assert isinstance(poison, dict)
        poisons.append(poison["select_list"][0])
    parser.close()
    tried = 0

    def children(node):
        found = []
        for part in gate.walk_nodes(node):
            call = part.get("function") if part.get("type") == "TABLE_FUNCTION" else None
            found += [call["children"]] if call and call.get("children") else []
        return found

    for number, held in enumerate(children(tree)):
        for at in range(len(held)):
            for poison in poisons:
                if at and poison.get("function_name") == "list_value":
                    continue  # an option may be one, of which the source decides
                changed = copy.deepcopy(tree)
                children(changed)[number][at] = {
                    **copy.deepcopy(poison),
                    "alias": held[at].get("alias", ""),
                }
                tried += 1
                with pytest.raises(JammiError):
                    calls.replace_in_from(sql, changed)
                with pytest.raises(StatementNotAllowed):
                    gate.check(changed, sql)
    assert tried >= len(poisons)
