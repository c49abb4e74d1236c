"""Plausible guesses are answered with the verb that exists, and no message names one that does
not."""

import ast
import copy
import functools
import inspect
import pickle
import re
from pathlib import Path

import pyarrow as pa
import pytest

import jammi_lab as jl
from jammi_kernel_ext.hints import to_cell_syntax
from jammi_lab.commands.table import CELL, LINE, SHELL, STEP, commands
from jammi_lab.commands.words import parse_line
from jammi_lab.core.attribute_suggestions import _with_variable, answers_of
from jammi_lab.core.packaged_tables import packaged_table
from jammi_lab.core.settings import DEFAULTS
from jammi_lab.core.suggestions import translate_advice
from jammi_lab.features.checks.checks import Check, Checks
from jammi_lab.features.live.mutable_handles import MutableTable, MutableTables
from jammi_lab.features.live.topics import Topics
from jammi_lab.features.pictures.lineage import Lineage
from jammi_lab.features.vectors.models import Model, Models
from jammi_lab.freshness.reports import Plan, RunReport, Status
from jammi_lab.workspace.recipes import Recipe, Recipes
from jammi_lab.workspace.result import ChangeResult, InMemoryResult, Result
from jammi_lab.workspace.result_table import ResultTable
from jammi_lab.workspace.sources import Source, Sources
from jammi_lab.workspace.workspace import Workspace

ROOT = Path(__file__).resolve().parents[2]
CLASSES = {
    cls.__name__: cls
    for cls in (
        *(
            Workspace,
            Result,
            InMemoryResult,
            ChangeResult,
            ResultTable,
            Status,
            Plan,
            RunReport,
            Lineage,
        ),
        *(Source, Sources, MutableTables, MutableTable, Models, Topics, Checks, Recipe),
    )
}
RETURNS = {
    (Workspace, "sources"): Sources,
    (Workspace, "models"): Models,
    (Workspace, "checks"): Checks,
    (Workspace, "mutable"): MutableTables,
    (Workspace, "topics"): Topics,
    (Workspace, "recipes"): Recipes,
    (Workspace, "table"): ResultTable,
    (Workspace, "sql"): Result,
    (Workspace, "plan"): Plan,
    (ResultTable, "read"): Result,
    (Result, "arrow"): pa.Table,
    (Result, "preview"): pa.Table,
    (ResultTable, "arrow"): pa.Table,
    (MutableTable, "read"): Result,
}
ITEMS = {
    Sources: Source,
    Recipes: Recipe,
    MutableTables: MutableTable,
    Checks: Check,
    Models: Model,
}


def follow(node):
    """The class that an expression gives, as far as it is known; every attribute on the way must
    exist, and every call bind."""
    match node:
        case ast.Name(id="ws"):
            return Workspace
        case ast.Attribute(value=value, attr=name):
            owner = follow(value)
            if owner is None:
                return None
            assert hasattr(owner, name) or name in getattr(owner, "__annotations__", {}), (
                f"{owner}.{name}"
            )
            return RETURNS.get((owner, name))
        case ast.Call(func=ast.Attribute(value=value, attr=name), args=args, keywords=keywords):
            result, owner = follow(node.func), follow(value)
            if owner is not None and inspect.isfunction(method := getattr(owner, name, None)):
                inspect.signature(method).bind(owner, *args, **{k.arg: k.value for k in keywords})
            return result
        case ast.Subscript(value=value):
            return ITEMS.get(follow(value))
    return None


@pytest.mark.parametrize("owner", packaged_table("suggestions")["classes"])
def test_every_answer_names_what_exists_and_no_guess_exists(owner):
    variable, answers, _ = answers_of(owner)
    cls = CLASSES.get(owner)
    for guess, answer in answers.items():
        assert cls is None or not hasattr(cls, guess), f"{owner}.{guess} exists"
        for part in re.split(r" or | and |, where ", _with_variable(variable, answer)):
            expression = part.removeprefix("ws = ")
            if expression.startswith("."):
                expression = variable + expression
            if expression.startswith("%jammi "):
                parse_line(expression.removeprefix("%jammi "))
                continue
            tree = ast.parse(expression, mode="eval").body
            module = re.match(r"jl\.(widgets|checks)\.", expression)
            if module is not None:
                assert hasattr(getattr(jl, module[1]), tree.func.attr), expression
                continue
            if expression.startswith("jl."):
                assert tree.func.attr in jl.__all__, expression
                continue
            if cls is not None and expression.startswith(variable) and variable.isidentifier():
                names = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}
                assert variable in names
                for node in ast.walk(tree):
                    if (
                        isinstance(node, ast.Attribute)
                        and isinstance(node.value, ast.Name)
                        and node.value.id == variable
                    ):
                        instance = hasattr(cls, node.attr) or re.search(
                            rf"self\.{node.attr}\b", inspect.getsource(cls)
                        )
                        assert instance or node.attr in getattr(cls, "__annotations__", {}), (
                            f"{owner}.{node.attr}"
                        )
            follow(tree)


@pytest.fixture
def held(tmp_path):
    folder = tmp_path
    (folder / "papers.csv").write_text("a,b\n1,x\n")
    with jl.open(folder / "lab") as ws:
        ws.sources.add("papers", folder / "papers.csv")
        ws.embed("v", "papers", key="a", text="b", model="hashing")
        yield {
            "jl": jl,
            "pd": pytest.importorskip("pandas"),
            "ws": ws,
            "table": ws.materialize("t", "SELECT 1 AS a"),
            "rows": ws.sql("SELECT 1 AS a"),
            "hits": ws.search("v", "x", k=1, select="a"),
            "labels": ws.mutable.create("labels", {"id": "int64"}, primary_key=["id"]),
        }


ASSIGNMENTS = [
    ("ws['x'] = 1", "Use ws.sources.add('x', value)."),
    ("ws.sources['x'] = 1", "Use ws.sources.add('x', value)."),
    ("del ws['t']", "Use ws.drop('t')."),
    ("del ws.sources['papers']", "Use ws.sources.remove('papers')."),
]
ATTRIBUTES = [
    ("ws.t", "Use ws.table('t')."),
    ("ws.papers", "Use ws.sources['papers']."),
    ("ws.sources.papers", "Use ws.sources['papers']."),
    ("rows.a", "Use result.pandas()['a'] or result.polars()['a']."),
]
VALUES = [
    ("labels.insert([(1,)])", "For example table.insert([{'id': 1, 'label': 'a'}])."),
    (
        "ws.compute('x', rows.pandas())",
        (
            "Pass the function itself, not what it returns. "
            "ws.register(name, frame, producer=…) stores a frame."
        ),
    ),
    ("ws.recompute(table)", "Pass its name: 't'."),
    (
        "ws.materialize('x', lambda: 1)",
        "ws.compute(name, function, inputs=…) runs a function; what it is given are Results, whose rows .pandas() returns.",
    ),
    (
        "ws.sql('papers')",
        "A statement is SQL. To read a source: SELECT * FROM papers; a table: SELECT * FROM jammi.papers; ws.why('papers') explains its verdict.",
    ),
    (
        "ws.checks.add('c', 'a < 0', on='t')",
        "A statement is SQL: write a SELECT with this condition after WHERE; a check selects the rows that break its rule, WHERE NOT (…).",
    ),
]


def test_an_item_is_not_assigned_or_deleted(held):
    for statement, answer in ASSIGNMENTS:
        with pytest.raises(TypeError) as told:
            exec(statement, held)
        assert str(told.value).endswith(answer)


def test_a_name_as_an_attribute_is_answered_with_the_place_of_the_thing(held):
    for call, answer in ATTRIBUTES:
        with pytest.raises(AttributeError) as told:
            eval(call, held)
        assert str(told.value).endswith(answer)


def test_a_type_error_inside_a_call_stays_as_it_is(held):
    with pytest.raises(jl.StepFailed) as told:
        held["ws"].compute("c", _calls_wrongly, version="1")
    assert "takes 0 positional" in str(told.value.__cause__)


def _calls_wrongly():
    return _calls_wrongly(1)


def test_a_setting_is_assigned_like_an_item(held):
    held["ws"].settings["cells.limit"] = 7
    assert held["ws"].settings["cells.limit"] == 7
    with pytest.raises(jl.InvalidArgument, match="There is no setting"):
        held["ws"].settings["cells.limits"] = 7


def test_a_value_of_another_kind_is_answered_with_what_it_takes(held):
    for call, hint in VALUES:
        with pytest.raises(jl.JammiError) as told:
            eval(call, held)
        assert told.value.hint == hint


def test_a_verdict_equals_its_word(held):
    verdict = held["ws"].staleness("t")
    assert verdict == "fresh" and verdict != "stale"
    assert (verdict != "fresh") is False
    assert verdict in {"fresh", "match"} and jl.Stale([]) in {"stale", "undecidable"}
    assert held["ws"].verify("t") == "match" and jl.PossiblyStale([]) == "possibly stale"
    with pytest.raises(AttributeError, match="Use verdict == 'fresh'"):
        _ = verdict.is_fresh


def test_probing_copying_and_pickling_see_plain_attribute_errors(ws):
    rows = ws.sql("SELECT 1 AS a")
    rows.arrow()
    assert not hasattr(rows, "_repr_svg_") and not hasattr(ws, "__array__")
    assert getattr(rows, "nothing", 7) == 7
    assert copy.copy(rows).columns == ["a"]
    assert pickle.loads(pickle.dumps(jl.NameInvalid("x"))).message == "x"


def test_a_workspace_is_opened_and_not_constructed(tmp_path):
    with pytest.raises(jl.InvalidArgument, match=r"jl\.open"):
        jl.Workspace(str(tmp_path))


# -- hints


@functools.cache
def hints():
    """The texts of the code that are advice, with their files: string constants with a command in
    them."""
    return [
        (str(file), text)
        for file, text in texts()
        if re.search(r"\bws\.\w|%jammi \w|jammi-lab \w|jl\.\w", text)
    ]


def texts():
    """The string constants of the code but for docstrings, with their files."""
    for root in ("jammi_lab", "kernel_ext/jammi_kernel_ext", "widgets/jammi_widgets"):
        for file in sorted((ROOT / root).rglob("*.py")):
            tree = ast.parse(file.read_text(encoding="utf-8"))
            described = {
                id(node.body[0].value)
                for node in ast.walk(tree)
                if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
                and node.body
                and isinstance(node.body[0], ast.Expr)
            }
            for node in ast.walk(tree):
                if (
                    isinstance(node, ast.Constant)
                    and isinstance(node.value, str)
                    and id(node) not in described
                ):
                    yield file.relative_to(ROOT), node.value


def test_no_hint_names_a_verb_of_python_that_does_not_exist():
    wrong = []
    for file, text in hints():
        for chain in re.findall(
            r"(?<![\w.])ws((?:\.\w+|\[[^\]]*\]|\([^()]*\))+)", re.sub(r"'[^']*'", "''", text)
        ):
            owner, names = Workspace, re.findall(r"\.(\w+)|(\[)", chain)
            for name, item in names:
                if owner is None:
                    break
                if item:
                    owner = ITEMS.get(owner)
                    continue
                if not hasattr(owner, name):
                    wrong.append((file, f"ws{chain}"))
                owner = RETURNS.get((owner, name))
        wrong += [
            (file, f"jl.{name}")
            for name in re.findall(r"\bjl\.(\w+)", text)
            if name not in jl.__all__
        ]
    assert not wrong


def test_no_hint_names_a_line_a_flag_or_a_command_that_does_not_exist():
    verbs, shell = ({v.name for v in commands(magic)} for magic in (LINE, SHELL))
    flags = {s for v in (*commands(LINE), CELL, STEP) for f in v.flags for s in f.spellings} | {
        "--help",
        "--json",
    }
    wrong = []
    for file, text in hints():
        wrong += [
            (file, f"%jammi {word}")
            for word in re.findall(r"(?<!%)%jammi ([a-z][a-z-]*)", text)
            if word not in verbs
        ]
        wrong += [
            (file, f"jammi-lab {word}")
            for word in re.findall(r"(?<!-)\bjammi-lab (\w[\w-]*) ", text)
            if word not in {*shell, "that", "may", "and"}
        ]
        wrong += [
            (file, flag)
            for line in re.findall(r"%jammi [^.;,]*", text)
            for flag in re.findall(r"(?<!\S)--[a-z-]+", line)
            if flag not in flags
        ]
        wrong += [
            (file, key)
            for key in re.findall(r"%jammi config (\w+\.\w+)", text)
            if key not in DEFAULTS
        ]
    assert not wrong


def test_a_cell_is_told_lines_and_python_on_the_notebooks_own_workspace():
    told = [to_cell_syntax(text) for _, text in hints()]
    assert len(told) > 100
    assert not [text for text in told if re.search(r"(?<![\w.)])ws\.\w", text)]


def test_a_shell_is_told_commands():
    assert (
        translate_advice("ws.recompute('top') computes one.", "shell", "lab")
        == "jammi-lab recompute lab top computes one."
    )
    assert "ws." not in translate_advice(
        "Run %jammi plan to preview, %jammi recompute to update", "shell", "lab"
    )
