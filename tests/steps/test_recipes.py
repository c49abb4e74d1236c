"""Every recipe keeps every promise: what is said of verdicts, the cache, plans, lineage, manifests,
restarts and kills holds for whatever makes a table."""

import json
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pytest

import jammi_lab as jl
from jammi_lab.core.verdicts import (
    Damaged,
    DefinitionChanged,
    InputAdvanced,
    InputVanished,
    Match,
    MissingManifest,
    verdict_code,
)
from jammi_lab.store import manifests
from jammi_lab.store.manifests import manifest_path
from jammi_lab.workspace.workspace import Workspace
from tests.features.pictures.test_openlineage import written
from tests.freshness.lab import Lab, said
from tests.inside import record_of
from tests.sizes import contract, every_case
from tests.store.lab import catalog

pytestmark = contract

DOCS = {
    "id": [1, 2, 3, 4],
    "text": ["red", "green", "blue", "grey"],
    "day": [1, 2, 3, 4],
    "extra": [0, 0, 0, 0],
}
FACTS = {"day": [1, 3], "rain": [0.5, 2.5]}
VECTORS = np.eye(4, dtype=np.float32)
DOCS_MOVED = {
    **DOCS,
    "id": [1, 2, 3, 5],
    "text": ["red", "green", "blue", "black"],
    "day": [1, 2, 3, 9],
}


def step(docs: Any, most: int) -> Any:
    """A Python step."""
    return docs.arrow().slice(0, most).select(["id"])


def other_step(docs: Any, most: int) -> Any:
    """Another one."""
    return docs.arrow()


def two_inputs(first: Any, second: Any) -> Any:
    """A step over two inputs."""
    return first.arrow()


def answer(text: str, most: int) -> dict[str, Any]:
    """The function of a row map."""
    return {"first": text[:most]}


def imported(width: int) -> pa.Table:
    return pa.table(
        {"id": [1, 2, 3, 4], "vector": pa.array(list(VECTORS * width), pa.list_(pa.float32()))}
    )


@dataclass(frozen=True)
class Maker:
    """A verb, which makes the table `it` of one kind; `one` and `other` are two definitions."""

    kind: str
    call: Callable[..., Any]
    one: Any
    other: Any
    reads: tuple[str, ...] = ("docs",)
    """What it reads: `docs`, or the tables `vecs` and `graph` that are made of it."""
    projected_body: bool = True
    """Whether it leaves `docs.extra` out."""

    @property
    def ours(self) -> bool:
        """Whether its rows can be made here."""
        return self.kind not in ("external", "imported")

    def __str__(self) -> str:
        return self.kind


def by_sql(ws: Any, below: int, **how: Any) -> Any:
    statement = f"SELECT id, text FROM docs WHERE id < {below}"
    return ws.materialize("it", statement, key="id", **how)


class DefinedOnly:
    """The verbs of a workspace, each of which only defines the recipe that it would run."""

    VALUES: ClassVar[dict[str, Any]] = {
        "materialize": jl.Sql,
        "embed": jl.Embedding,
        "lexical": jl.Lexical,
        "neighbor_graph": jl.NeighborGraph,
        "propagate": jl.Propagation,
        "context_set": jl.ContextSet,
        "asof_join": jl.AsofJoin,
        "compute": jl.PythonStep,
        "map": jl.RowMap,
        "projection": jl.Projection,
    }

    def __init__(self, ws: Workspace) -> None:
        self._ws = ws

    def __getattr__(self, verb: str) -> Callable[..., Any]:
        value = self.VALUES[verb]
        return lambda name, *given, **how: self._ws.define(name, value(*given, **how))


MEMBERS = "SELECT id % 2 AS target, id AS member FROM docs"
MAKERS = [
    Maker("sql", by_sql, 9, 4),
    Maker(
        "embedding",
        lambda ws, x, **how: ws.embed(
            "it", "docs", key="id", text="text", model="hashing", where=x, **how
        ),
        None,
        "id < 4",
    ),
    Maker(
        "lexical",
        lambda ws, x, **how: ws.lexical("it", "docs", key="id", text="text", analyzer=x, **how),
        "english",
        "exact",
    ),
    Maker(
        "neighbor_graph",
        lambda ws, x, **how: ws.neighbor_graph("it", "vecs", k=x, **how),
        2,
        1,
        reads=("vecs",),
    ),
    Maker(
        "graph_propagation",
        lambda ws, x, **how: ws.propagate(
            "it", "vecs", "graph", hops=x, weighting="similarity", **how
        ),
        2,
        1,
        reads=("vecs", "graph"),
    ),
    Maker(
        "context_set",
        lambda ws, x, **how: ws.context_set("it", "vecs", members=MEMBERS, pool=x, **how),
        "mean",
        "max",
        ("docs", "vecs"),
    ),
    Maker(
        "asof_join",
        lambda ws, x, **how: ws.asof_join(
            "it",
            "SELECT id, day FROM docs",
            "facts",
            spine_time="day",
            facts_time="day",
            by=[],
            direction=x,
            tie_break="rain",
            **how,
        ),
        "backward",
        "forward",
        ("docs", "facts"),
    ),
    Maker(
        "python",
        lambda ws, x, **how: ws.compute("it", step, inputs="docs", params={"most": x}, **how),
        9,
        2,
        projected_body=False,
    ),
    Maker(
        "row_map",
        lambda ws, x, **how: ws.map(
            "it", answer, "docs", key="id", inputs="text", params={"most": x}, **how
        ),
        9,
        2,
    ),
    Maker(
        "projection",
        lambda ws, x, **how: ws.projection("it", "vecs", method=x, **how),
        "pca",
        "tsne",
        reads=("vecs",),
    ),
    Maker(
        "imported",
        lambda ws, x, **how: ws.import_embeddings("it", imported(x), source="docs", **how),
        1,
        2,
        projected_body=False,
    ),
    Maker(
        "external",
        lambda ws, x, **how: ws.register(
            "it", pa.table({"x": [x]}), producer="job", inputs=["docs"], **how
        ),
        1,
        2,
        projected_body=False,
    ),
]
every = pytest.mark.parametrize("maker", MAKERS, ids=str)
remade = pytest.mark.parametrize("maker", [m for m in MAKERS if m.ours], ids=str)


@pytest.fixture
def docs(tmp_path: Path, nothing_left_behind: None) -> Iterator[Lab]:
    lab = Lab(tmp_path)
    lab.parquet("docs", **DOCS)
    lab.parquet("facts", **FACTS)
    yield lab
    lab.close()


def make_inputs(lab: Lab, maker: Maker) -> None:
    """The tables that `it` reads."""
    if "vecs" in maker.reads:
        lab.embed("vecs", "docs", key="id", text="text", model="hashing")
    if "graph" in maker.reads:
        lab.neighbor_graph("graph", "vecs", k=1)


def call(lab: Lab, maker: Maker, **how: Any) -> Any:
    """The table `it` by its first definition."""
    return maker.call(lab.ws, maker.one, **how)


def make(lab: Lab, maker: Maker, *, run: bool = True) -> Any:
    """The table `it` by its first definition, with the tables that it reads."""
    make_inputs(lab, maker)
    return maker.call(lab.ws if run else DefinedOnly(lab.ws), maker.one)


def surfaces(ws: Workspace) -> dict[str, str]:
    """The verdict on `it` by everything that tells verdicts."""
    [[told]] = ws.sql("SELECT verdict FROM jammi_catalog.status WHERE name = 'it'").fetchall()
    [imagined] = [row.verdict for row in ws.what_if() if row.name == "it"]
    board, drawn = ws.status()["it"].verdict, ws.lineage("it")._graph.states().verdicts
    [in_lineage] = [word for node, word in drawn.items() if node.name == "it"]
    return {
        "staleness": verdict_code(ws.staleness("it")),
        "the table": verdict_code(ws.table("it").staleness()),
        "why": verdict_code(ws.why("it").verdict),
        "status": verdict_code(board),
        "sql": told,
        "what if": verdict_code(imagined),
        "a result": verdict_code(ws.sql("FROM jammi.it").staleness()["it"]),
        "lineage": in_lineage.replace(" ", "_").removesuffix("*"),
    }


def agreed(ws: Workspace) -> str:
    told = surfaces(ws)
    assert len(set(told.values())) == 1, told
    return told["staleness"]


# -- verdicts --------------------------------------------------------------------------------------


@every
def test_what_nothing_happened_to_is_fresh_also_in_another_kernel(docs, maker):
    assert make(docs, maker).kind == maker.kind
    assert agreed(docs.ws) == "fresh" and not docs.plan()
    docs.reopen()
    docs.status(deep=True)  # which may import the module of a step
    assert agreed(docs.ws) == "fresh"


@every
def test_an_input_that_moved_is_told_by_every_surface_with_both_anchors(docs, maker):
    make(docs, maker)
    docs.parquet("docs", **DOCS_MOVED)
    verdict = docs.staleness("it")
    if "docs" in maker.reads:
        assert agreed(docs.ws) == "stale" and isinstance(verdict, jl.Stale)
        [reason] = verdict.reasons
        assert isinstance(reason, InputAdvanced) and reason.input.name == "docs"
        assert (
            reason.recorded.value != reason.current.value
            and reason.current.method == "digest of the columns"
        )
    else:
        assert agreed(docs.ws) == "possibly_stale" and isinstance(verdict, jl.PossiblyStale)
        assert {c.path[-1] for c in verdict.causes} == {"vecs"} and {
            c.reason.input.name for c in verdict.causes
        } == {"docs"}
        docs.recompute("vecs")
        assert agreed(docs.ws) == "stale" and "advanced vecs" in said(docs.staleness("it"))
    docs.parquet("docs", **DOCS)
    docs.recompute("vecs") if "vecs" in docs.ws else None
    assert agreed(docs.ws) in ("fresh", "possibly_stale")


@pytest.mark.parametrize("maker", [m for m in MAKERS if m.projected_body], ids=str)
def test_a_column_that_nobody_reads_changes_nothing(docs, maker):
    make(docs, maker)
    docs.parquet("docs", **{**DOCS, "extra": [9, 9, 9, 9]})
    assert agreed(docs.ws) == "fresh"


SPINE = {"spine_time": "day", "facts_time": "day", "by": [], "tie_break": "rain"}
OTHER_SPINE = "SELECT day AS d, day, id FROM docs"
GRAPH = "SELECT src, dst FROM jammi.graph"
PARAMETERS: dict[str, list[Any]] = {
    "neighbor_graph": [
        jl.NeighborGraph("vecs", **told)
        for told in (
            {}, {"k": 9}, {"min_similarity": 0.5}, {"min_similarity": np.nextafter(0.5, 1)}, {"min_similarity": 0.0},
            {"min_similarity": -0.0}, {"mutual": True}, {"exact": True}, {"exact": False},
        )
    ] + [jl.NeighborGraph("others")],
    "graph_propagation": [
        jl.Propagation("vecs", "graph", **told)
        for told in (
            {}, {"hops": 1}, {"alpha": 0.2}, {"alpha": np.nextafter(0.1, 1)}, {"direction": "in"}, {"direction": "both"},
            {"weighting": "similarity"}, {"output": "concat"},
        )
    ] + [jl.Propagation("others", "graph"), jl.Propagation("vecs", GRAPH)],
    "python": [
        jl.PythonStep(function, inputs=asked, params={"most": most}, **told)
        for function, asked, most, told in (
            (step, "docs", 9, {}), (other_step, "docs", 9, {}), (step, "docs", 8, {}), (step, "docs", 9.0, {}),
            (step, "docs", 9, {"key": "id"}), (step, "docs", 9, {"version": "1"}), (step, "docs", 9, {"version": "2"}),
            (step, "SELECT * FROM docs LIMIT 2", 9, {}),
        )
    ] + [jl.PythonStep(two_inputs, inputs=asked) for asked in (["docs", "facts"], ["facts", "docs"])],
    "projection": [
        jl.Projection("vecs", **told)
        for told in ({}, {"method": "tsne"}, {"method": "tsne", "perplexity": 31}, {"method": "tsne", "seed": 1})
    ] + [jl.Projection("others")],
    "context_set": [jl.ContextSet("vecs", members=MEMBERS, pool=p) for p in ("mean", "sum", "max")]
    + [jl.ContextSet("others", members=MEMBERS), jl.ContextSet("vecs", members=f"{MEMBERS} WHERE id > 1")],
    "asof_join": [
        jl.AsofJoin("docs", "facts", **{**SPINE, **told})
        for told in (
            {}, {"by": ["day"]}, {"by": ["day", "day"]}, {"direction": "forward"}, {"direction": "nearest"}, {"boundary": "exclusive"},
            {"tolerance": 1}, {"tolerance": 2}, {"tie_break": "day"}, {"project": ["rain"]}, {"project": ["rain", "day"]},
            {"project": ["day", "rain"]},
        )
    ] + [jl.AsofJoin("docs", "docs", **{**SPINE, "tie_break": None})]
    + [jl.AsofJoin(OTHER_SPINE, "facts", **{**SPINE, "spine_time": time}) for time in ("d", "day")],
}  # fmt: skip
"""Recipes of a kind of which each two differ in a parameter."""


@every_case
@pytest.mark.parametrize("kind", PARAMETERS)
def test_each_parameter_is_part_of_the_definition(docs, kind):
    make_inputs(docs, Maker("", None, 0, 0, ("vecs", "graph")))
    docs.embed("others", "docs", key="id", text="text", model="hashing", where="id < 4")
    hashes = []
    for value in PARAMETERS[kind]:
        docs.define("it", value)
        hashes.append(docs.recipes()["it"].definition_hash)
    assert None not in hashes and len(set(hashes)) == len(hashes)


@remade
def test_another_definition_makes_it_stale_with_both_hashes(docs, maker):
    was = make(docs, maker).definition_hash
    assert maker.call(DefinedOnly(docs.ws), maker.other).name == "it"
    verdict = docs.staleness("it")
    assert agreed(docs.ws) == "stale" and isinstance(verdict, jl.Stale)
    [reason] = verdict.reasons
    assert (
        isinstance(reason, DefinitionChanged)
        and reason.recorded == was
        and reason.current not in (was, None)
    )
    assert maker.call(DefinedOnly(docs.ws), maker.one).definition_hash == was
    assert agreed(docs.ws) == "fresh"


@every
def test_an_input_that_is_gone_has_vanished(docs, maker):
    make(docs, maker)
    if "docs" in maker.reads:
        docs.path("docs.parquet").unlink()
        [reason] = docs.staleness("it").reasons  # type: ignore[union-attr]
        assert (
            agreed(docs.ws) == "stale"
            and isinstance(reason, InputVanished)
            and reason.input.name == "docs"
        )
    else:
        docs.drop("vecs", force=True)
        assert agreed(docs.ws) == "stale" and "vanished vecs" in said(docs.staleness("it"))


@every
def test_an_input_whose_state_cannot_be_told_makes_it_undecidable_and_never_reused(docs, maker):
    docs.sources.add("docs", docs.path("docs.parquet"), anchor="none", replace=True)
    table = make(docs, maker)
    assert agreed(docs.ws) == "undecidable"
    assert "was added with anchor=" in str(docs.staleness("it"))
    if "docs" in maker.reads:
        verified = table.verify()
        assert isinstance(verified, jl.MatchWithUnpinnedInputs) and [
            a.input.name for a in verified.unpinned
        ] == ["docs"]
        again = call(docs, maker)
        assert again.outcome == "computed" and again.table_name != table.table_name


@every
def test_damaged_bytes_are_damage_and_what_reads_them_is_possibly_stale(docs, maker):
    table = make(docs, maker)
    docs.materialize("child", "SELECT count(*) AS n FROM jammi.it")
    path = table.path
    bytes_ = bytearray(path.read_bytes())
    bytes_[len(bytes_) // 3] ^= 1
    path.write_bytes(bytes_)
    assert isinstance(docs.staleness("it"), Damaged) and docs.verdict("child") == "possibly_stale"
    found = table.verify()
    assert isinstance(found, jl.Mismatch) and found.what == "bytes"
    path.unlink()
    assert docs.staleness("it") == Damaged(None) and table.verify() == jl.MissingBytes()
    plan = docs.plan()
    assert "it" in {s.name for s in (plan.certain if maker.ours else plan.blocked)}


@every
def test_a_row_from_before_manifests_is_missing_its_manifest(docs, maker):
    table = make(docs, maker)
    docs.close()
    with catalog(docs.folder) as db:
        db.execute(
            "UPDATE result_tables SET definition_hash = NULL WHERE table_name = ?",
            [table.table_name],
        )
    docs.ws = docs.open()
    assert docs.staleness("it") == MissingManifest() and agreed(docs.ws) == "missing_manifest"


@every
def test_a_version_that_fails_a_check_is_rejected(docs, maker):
    first = make(docs, maker)
    docs.checks.add("none", jl.checks.row_count(max=0), on="it")
    [row] = docs.check("it")
    assert (row.outcome, row.failing) == ("fail", 1)
    with pytest.raises(jl.errors.CheckFailed, match="none"):
        maker.call(docs.ws, maker.other)
    assert docs.table("it").table_name == first.table_name
    assert (
        docs.table("it", 2).status == "rejected"
        and docs.checks["none"].rows(2).arrow().num_rows == 1
    )


# -- the cache -------------------------------------------------------------------------------------


@every
def test_the_same_again_is_reused_and_bypass_computes(docs, maker):
    first = make(docs, maker)
    again = call(docs, maker)
    assert (first.outcome, again.outcome, again.table_name) == (
        "computed",
        "reused",
        first.table_name,
    )
    anew = call(docs, maker, cache="bypass")
    assert (anew.outcome, anew.version) == ("computed", 2) and anew.table_name != first.table_name
    assert anew.definition_hash == first.definition_hash and {
        t.table_name for t in docs.tables(definition=first.definition_hash)
    } >= {
        first.table_name,
        anew.table_name,
    }
    assert anew.path.read_bytes() == first.path.read_bytes()


@every
def test_a_damaged_candidate_falls_through_to_an_intact_one_and_none_is_computed_anew(docs, maker):
    first = make(docs, maker)
    second = call(docs, maker, cache="bypass")
    second.path.write_bytes(second.path.read_bytes()[:-1])
    found = call(docs, maker)
    assert (found.outcome, found.table_name) == ("reused", first.table_name)
    first.path.unlink()
    assert call(docs, maker).outcome == "computed"


@every
def test_other_inputs_or_another_definition_are_no_hit(docs, maker):
    first = make(docs, maker)
    other = maker.call(docs.ws, maker.other)
    assert other.outcome == "computed" and other.definition_hash != first.definition_hash
    docs.parquet("docs", **DOCS_MOVED)
    if "vecs" in maker.reads:
        docs.recompute(["vecs", "graph"] if "graph" in maker.reads else "vecs")
    assert call(docs, maker).outcome == "computed"
    docs.parquet("docs", **DOCS)
    if "vecs" in maker.reads:
        docs.recompute(["vecs", "graph"] if "graph" in maker.reads else "vecs")
    found = call(docs, maker)
    assert (found.outcome, found.table_name) == ("reused", first.table_name)


KILLED = """
import os, signal, sys
import jammi_lab as jl
from jammi_lab.storage.files import install_fault_hook
from tests.steps.test_recipes import MAKERS

def kill(point):
    if point == "publish:sealed":
        os.kill(os.getpid(), signal.SIGKILL)

[maker] = [maker for maker in MAKERS if str(maker) == sys.argv[2]]
with jl.open(sys.argv[1]) as ws:
    install_fault_hook(kill)
    maker.call(ws, maker.other)
"""


@every
def test_killed_before_it_is_published_it_keeps_its_version_and_is_made_by_the_next_call(
    docs, maker, run_python
):
    first = make(docs, maker)
    docs.close()
    done = run_python(KILLED, str(docs.folder), str(maker), check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    ws = docs.reopen()
    assert ws.table("it").table_name == first.table_name and not ws.fsck()
    made = maker.call(ws, maker.other)
    assert (made.outcome, made.version) == ("computed", 3)  # 2 is that of the killed
    assert ws.verify("it") == Match()


@remade
def test_interrupted_while_it_is_made_it_leaves_nothing_and_the_next_call_computes(docs, maker):
    def stop(progress: Any) -> None:
        if progress.stage.endswith(" it"):
            raise KeyboardInterrupt

    make_inputs(docs, maker)
    with pytest.raises(KeyboardInterrupt):
        call(docs, maker, progress=stop)
    assert "it" not in {r.name for r in docs.recipes()}
    assert not docs.tables(kind=maker.kind, status="building")
    assert not list((docs.folder / "results").rglob("it__*"))
    assert call(docs, maker).outcome == "computed"


@every
def test_a_lost_catalog_gets_it_back_from_its_manifest(docs, maker):
    made = make(docs, maker)
    docs.close()
    (docs.folder / "catalog.sqlite3").unlink()
    jl.rebuild(docs.folder)
    docs.ws = docs.open()
    for name in ("docs", "facts"):
        docs.sources.add(name, docs.path(f"{name}.parquet"))
    docs.status(deep=True)  # which may import the module of a step
    found = docs.table("it")
    assert (found.kind, found.table_name) == (maker.kind, made.table_name)
    assert found.verify() == jl.Match() and agreed(docs.ws) == "fresh"


# -- plans -----------------------------------------------------------------------------------------


@remade
def test_a_plan_makes_it_true_again_from_its_recipe_alone(docs, maker):
    make(docs, maker)
    docs.parquet("docs", **DOCS_MOVED)
    docs.reopen()
    plan = docs.plan()
    certain, possible = ({s.name for s in part} for part in (plan.certain, plan.possible))
    assert "it" in (certain if "docs" in maker.reads else possible)
    report = plan.apply()
    assert report.deviations == [] and certain <= set(report.executed) <= certain | possible
    assert agreed(docs.ws) == "fresh" and not docs.plan()
    made = docs.table("it")
    assert (
        made.version == 2 and call(docs, maker).table_name == made.table_name
    )  # it says the very same as the verb


@pytest.mark.parametrize("maker", [m for m in MAKERS if not m.ours], ids=str)
def test_what_was_made_elsewhere_is_a_blocked_step_and_what_reads_it_is_planned_over_it(
    docs, maker
):
    make(docs, maker)
    docs.materialize("child", "SELECT sum(docs.id) AS n FROM jammi.it, docs")
    docs.parquet("docs", **DOCS_MOVED)
    plan = docs.plan()
    assert [s.name for s in plan.blocked] == ["it"] and "child" in {s.name for s in plan.certain}
    report = plan.apply()
    assert {s.name: s.outcome for s in report.steps} == {
        "it": "blocked",
        "child": "computed",
    } and report.deviations == []
    assert (
        docs.rows("child") == [(sum(DOCS_MOVED["id"]) * docs.table("it").row_count,)]
        and docs.verdict("child") == "possibly_stale"
    )
    by = "by job" if maker.kind == "external" else "imported vectors of external"
    assert by in str(plan) and by in str(report)
    with pytest.raises(jl.NotRecomputable):
        docs.recompute("it")
    assert call(docs, maker).outcome == "computed" and docs.verdict("it") == "fresh"


@remade
def test_defined_only_it_is_a_recipe_that_the_next_plan_computes(docs, maker):
    assert make(docs, maker, run=False).newest_version is None
    assert "it" not in docs.ws and "it" in {r.name for r in docs.recipes()}
    assert said(docs.staleness("it")) == ["definition"]
    assert docs.recompute("it").executed[-1] == "it" and agreed(docs.ws) == "fresh"
    assert call(docs, maker).outcome == "reused"


@pytest.mark.parametrize("maker", [m for m in MAKERS if "vecs" in m.reads], ids=str)
def test_stale_inputs_are_made_true_first_when_that_is_asked_for(docs, maker):
    make(docs, maker)
    docs.parquet("docs", **DOCS_MOVED)
    table = call(docs, maker, refresh="inputs")
    assert table.outcome == "computed" and docs.table("vecs").version == 2
    assert agreed(docs.ws) == "fresh"


# -- lineage ---------------------------------------------------------------------------------------

RESTS = {
    "neighbor_graph": {
        "src from vecs.key", "dst from vecs.key", "rank from vecs.vector", "similarity from vecs.vector",
        "src by vecs.vector", "dst by vecs.vector", "rank by vecs.key", "similarity by vecs.key",
    },
    "projection": {
        "key from vecs.key", "x from vecs.vector", "y from vecs.vector", "x by vecs.key", "y by vecs.key",
    },
    "embedding": {"key from docs.id", "vector from docs.text", "vector by docs.id"},
    "external": {"x from docs.id", "x from docs.text", "x from docs.day", "x from docs.extra"},
    "graph_propagation": {
        "key from vecs.key", "vector from vecs.vector", "vector by vecs.key", "vector from graph.similarity", "vector by graph.src", "vector by graph.dst",
    },
    "asof_join": {
        "id from docs.id", "day from docs.day", "day_facts from facts.day", "rain from facts.rain", "day_facts by docs.day",
        "rain by docs.day", "rain by facts.day", "day_facts by facts.rain",
    },
    "context_set": {
        "key from docs.id", "vector from vecs.vector", "key by vecs.key", "vector by vecs.key", "vector by docs.id",
    },
}  # fmt: skip
"""On which columns those of a table rest: from their values, or by what they select."""


@every
def test_it_is_found_from_its_source_and_its_events_are_valid(docs, maker):
    make(docs, maker)
    assert "it" in {e.derived for e in docs.derives_from_closure("docs")}
    assert {
        e.input for e in docs.lineage("it", direction="up", depth=1).edges if e.kind != "model"
    } == set(maker.reads)
    events = [e for e in written(docs) if e["job"]["name"] == "it"]
    assert [e["eventType"] for e in events] == ["START", "COMPLETE"]
    for event in events:
        assert len(event["inputs"]) >= len(maker.reads)
        assert event["job"]["facets"]["jobType"]["jobType"] == docs.table("it").kind.upper()
    columns = docs.lineage("it", direction="up", depth=1, columns=True).column_edges
    assert {c.derived_column for c in columns} <= {
        c.name for c in record_of(docs.table("it")).columns
    } and columns
    told = {
        f"{c.derived_column} {'from' if c.direct else 'by'} {c.input}.{c.input_column}"
        for c in columns
    }
    assert told == RESTS.get(maker.kind, told)


# -- the manifest ----------------------------------------------------------------------------------


SHARED = (
    "table_name recipe version kind source_id model_id derived_from dimensions definition_hash"
    " row_count seconds tenant key columns anchors order_sensitive"
).split()
"""What both the manifest and the row hold."""


@every
def test_the_manifest_and_the_row_say_the_same(docs, maker):
    table = make(docs, maker)
    manifest, record = table.manifest, record_of(table)
    written = json.loads(manifest_path(Path(table.path)).read_text())
    # what a full computation over other inputs than file sets, without sums of floating-point
    # numbers, leaves out of the file
    absent = {"increment": None, "input_files": [], "partial_sums": ""}
    assert absent | written == json.loads(json.dumps(manifest.to_dict()))
    for name in SHARED:
        assert getattr(manifest, name) == getattr(record, name), name
    assert (manifest.artifact.digest, manifest.produced_at) == (record.digest, record.completed_at)
    assert manifests.digest(manifests.read(table.path)) == record.manifest_digest
    with catalog(docs.folder) as db:
        stored = db.execute("SELECT body FROM manifests WHERE table_name = ?", [table.table_name])
        assert stored.fetchone()[0].encode() == manifest.encode() == manifests.read(table.path)
    assert {leaf.column for leaf in manifest.leaves} == {c.name for c in record.columns}


@every
def test_verify_tells_right_from_wrong(docs, maker):
    table = make(docs, maker)
    assert table.verify() == jl.Match() and table.verify(table.definition_hash) == jl.Match()
    wrong = table.verify("0" * 64)
    assert isinstance(wrong, jl.Mismatch) and (wrong.expected, wrong.found, wrong.what) == (
        "0" * 64,
        table.definition_hash,
        "definition",
    )
    manifest_path(Path(table.path)).unlink()
    assert table.verify() == jl.MissingManifest()
