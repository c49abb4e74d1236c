"""DuckDB 2 through the module that knows of it: its trees mean what those of 1.5 mean, and what 1.5 has no form for is refused.

`tests/cases/releases/trees_of_2.jsonl` holds trees as DuckDB 2.0.1 writes them.
"""

import json
from pathlib import Path
from typing import Any

import duckdb
import pytest

import jammi_lab as jl
from jammi_lab.core.errors import ExtensionMissing, JammiError
from jammi_lab.engine import duckdb_instances
from jammi_lab.engine.sql import allowlist, releases, syntax_tree
from tests.releases import ONLY_ON_1_5

FILE = Path(__file__).parents[1] / "cases" / "releases" / "trees_of_2.jsonl"
CASES = [json.loads(line) for line in FILE.read_text(encoding="utf-8").splitlines()]
POSITIONS = ("query_location", "query_location_length")


def in_form_of_1_5(tree: dict[str, Any]) -> dict[str, Any]:
    def converted(node: dict[str, Any]) -> dict[str, Any]:
        return releases.form_of_1_5(node, syntax_tree._bound_expression)

    return json.loads(json.dumps(tree), object_hook=converted)  # type: ignore[no-any-return]


def without_positions(node: Any) -> Any:
    if isinstance(node, dict):
        return {k: without_positions(v) for k, v in node.items() if k not in POSITIONS}
    return [without_positions(v) for v in node] if isinstance(node, list) else node


@ONLY_ON_1_5
@pytest.mark.parametrize("case", [c for c in CASES if c["is"] == "same"], ids=lambda c: c["sql"])
def test_a_tree_of_2_becomes_the_tree_that_1_5_writes(case):
    tree = duckdb_instances.with_parser(lambda parser: syntax_tree.tree_of(parser, case["sql"]))
    assert without_positions(in_form_of_1_5(case["tree"])) == without_positions(tree)


@pytest.mark.parametrize("case", [c for c in CASES if c["is"] == "refused"], ids=lambda c: c["sql"])
def test_what_1_5_has_no_form_for_is_refused(case):
    tree = in_form_of_1_5(case["tree"])
    with pytest.raises(JammiError):
        allowlist.check(tree, case["sql"])


@pytest.mark.parametrize("value", [True, [], {"type": "SELECT_NODE"}, None])
def test_a_key_that_is_not_known_is_refused_whatever_it_says(value):
    for case in CASES:
        tree = in_form_of_1_5(case["tree"] | {"key_of_2_1": value})
        with pytest.raises(JammiError, match="Key of 2 1 is not supported"):
            allowlist.check({"key_of_2_1": tree["key_of_2_1"]}, case["sql"])


def test_another_release_is_refused_in_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(duckdb, "__version__", "3.0.0")
    with pytest.raises(ExtensionMissing, match=r"on DuckDB 1\.5 and 2, and DuckDB 3\.0\.0 is"):
        jl.open(tmp_path / "lab")


@ONLY_ON_1_5
def test_the_settings_are_those_of_the_release():
    assert (releases.SETTINGS, releases.NEW_OPTIMIZERS) == ({}, [])


@pytest.mark.skipif(not releases.IS_2, reason="about the messages of DuckDB 2")
def test_duckdb_2_does_not_warn_a_user_about_our_statements(run_python, tmp_path):
    (tmp_path / "t.csv").write_text("id,v\n1,2\n")
    done = run_python(
        "import jammi_lab as jl\n"
        "with jl.open('lab') as ws:\n"
        "    ws.sources.add('t', 't.csv')\n"
        "    ws.asof_join('j', 't', 't', by='id', spine_time='v', facts_time='v', project='id')\n"
        "    print(ws.status())",
        start=True,
    )
    assert "fresh" in done.stdout and "Warning" not in done.stderr
