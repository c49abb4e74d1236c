"""Arguments of another kind are refused by every public verb, with a typed error that names them."""

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import jammi_lab as jl
from jammi_lab.core.argument_suggestions import argument_kinds
from jammi_lab.core.errors import InvalidArgument, JammiError


@pytest.fixture
def things(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path
    (folder / "a.csv").write_text("id,text\n1,oak\n2,pine\n")
    with jl.open(folder / "lab") as ws:
        ws.sources.add("a", folder / "a.csv")
        ws.materialize("t", "SELECT id, text FROM a")
        ws.embed("v", "a", key="id", text="text", model="hashing")
        ws.checks.add("few", jl.checks.row_count(max=9), on="t")
        labels = ws.mutable.create("labels", {"id": "int64"}, primary_key=["id"])
        ws.topics.register("events", {"id": "int64"})
        yield {
            "ws": ws,
            "table": ws.table("t"),
            "result": ws.sql("FROM a"),
            "sources": ws.sources,
            "models": ws.models,
            "checks": ws.checks,
            "mutable": ws.mutable,
            "labels": labels,
            "topics": ws.topics,
        }


FITTING: dict[str, Any] = {
    "name": "t",
    "names": ["t"],
    "sql": "SELECT 1 AS x",
    "recipe": "SELECT 1 AS x",
    "text": "SELECT 1 AS x",
    "path": "kinds.parquet",
    "location": "a.csv",
    "table": "v",
    "rule": "SELECT * FROM jammi.t WHERE id > 9",
    "on": "t",
    "key": "id",
    "vector": "vec",
    "query": "oak",
    "over": "a",
    "inputs": ["text"],
    "rows": [{"id": 1}],
    "schema": {"id": "int64"},
    "primary_key": ["id"],
    "where": "id = 9",
    "set": {"id": 1},
    "batch": pa.table({"id": [1]}),
    "metrics": {"mrr": 0.5},
    "old": "t",
    "new": "u",
}
"""An argument of a fitting kind for each required one."""
OF_ANOTHER_KIND = object()
LEFT_OUT = {"close", "reader", "recording"}
"""Verbs that end the workspace, and those that do nothing before their first use."""


def verbs(things: dict[str, Any]) -> Iterator[tuple[Any, str]]:
    for thing in things.values():
        for name, _ in inspect.getmembers(type(thing), inspect.isfunction):
            if not name.startswith("_") and name not in LEFT_OUT:
                yield thing, name


def test_every_public_verb_refuses_arguments_of_another_kind(things):
    calls, problems = 0, list[str]()
    for thing, name in verbs(things):
        method = getattr(thing, name)
        parameters = inspect.signature(method).parameters.values()
        required = {
            p.name: FITTING.get(p.name, "x")
            for p in parameters
            if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
        }
        kinds = argument_kinds(method)
        for parameter in (*kinds.flags, *kinds.taken_silently, *kinds.others):
            positional = [
                OF_ANOTHER_KIND if p.name == parameter else required[p.name]
                for p in parameters
                if p.name in required and p.kind is p.POSITIONAL_ONLY
            ]
            named = {k: v for k, v in required.items() if k != parameter}
            named[parameter] = OF_ANOTHER_KIND
            by_position = {p.name for p in parameters if p.kind is p.POSITIONAL_ONLY}
            named = {k: v for k, v in named.items() if k not in by_position}
            label = f"{type(thing).__name__}.{name}({parameter}=)"
            try:
                method(*positional, **named)
            except JammiError:
                calls += 1
            except Exception as error:
                problems.append(f"{label}: {error!r}")
            else:
                problems.append(f"{label} was taken")
    assert not problems, "\n".join(problems)
    assert calls > 100


@pytest.mark.parametrize(
    "call",
    [
        lambda ws, table: ws.fsck(repair="venues"),
        lambda ws, table: ws.fsck(deep="t"),
        lambda ws, table: ws.status(deep="t"),
        lambda ws, table: table.pin(True),
        lambda ws, table: ws.what_if("t", "x"),
        lambda ws, table: ws.what_if(changed={"a": table}),
        lambda ws, table: ws.expire("t", keep=True),
        lambda ws, table: ws.search("v", "oak", k="3"),
        lambda ws, table: ws.materialize("w", "SELECT 1 AS x", params=["y"]),
        lambda ws, table: ws.embed("w", "a", key="id", text=b"text"),
    ],
)
def test_they_are_refused_before_anything_is_done(things, call):
    with pytest.raises(InvalidArgument, match="must"):
        call(things["ws"], things["table"])


def test_numbers_and_lists_of_other_libraries_are_taken(things, tmp_path):
    np = pytest.importorskip("numpy")
    ws = things["ws"]
    assert len(ws.search("v", "oak", k=np.int64(1)).arrow()) == 1
    assert ws.status(deep=np.bool_(False)) is not None
    assert len(ws.search("v", "oak", k=2, select=("text",)).arrow()) == 2
