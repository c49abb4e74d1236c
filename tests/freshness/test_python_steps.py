"""Python steps among other tables: verdicts, plans, lineage, and what is known of them after a
restart."""

import linecache
import random
import sys
from collections.abc import Callable
from typing import Any

import polars as pl
import pytest

import jammi_lab as jl
from jammi_lab.core.verdicts import verdict_code
from tests.cases import cases
from tests.freshness.lab import Lab, said
from tests.steps.modules import Written, write

__all__ = ["write"]

STEPS = """
import polars as pl
RATE = 2

def helper(x):
    return x * RATE

def score(papers):
    return papers.polars().select("id", s=helper(pl.col("id")))

def best(scores):
    return scores.polars().filter(pl.col("s") > 1)
"""


@pytest.fixture
def steps(write: Callable[..., Written]) -> Written:
    return write(STEPS)


@pytest.fixture
def chain(lab: Lab, steps: Written) -> Lab:
    """`papers` → `titles` (sql) → `scores` (python) → `best` (python) → `top` (sql)."""
    lab.csv("papers", "id,title,year", "1,Graphs,2020", "2,Trees,2021", "3,Heaps,2022")
    lab.materialize("titles", "SELECT id, title FROM papers WHERE year > 2019")
    lab.compute("scores", steps.module.score, inputs="titles", key="id")
    lab.compute("best", steps.module.best, inputs="scores")
    lab.materialize("top", "SELECT max(s) AS s FROM jammi.best")
    return lab


def words(lab: Lab) -> dict[str, str]:
    return {row.name: verdict_code(row.verdict) for row in lab.status(deep=True)}


def names(steps: list[Any]) -> list[str]:
    return [step.name for step in steps]


@pytest.mark.every_case
@pytest.mark.parametrize(
    ("old", "new"),
    [("x * RATE", "x + RATE"), ("RATE = 2", "RATE = 3"), ('"id", s=', '"id", t=pl.lit(1), s=')],
    ids=["helper", "global", "body"],
)
def test_a_changed_source_global_or_helper_makes_it_stale_and_what_derives_from_it_possibly(
    chain, steps, old, new
):
    steps.change(old, new)
    assert words(chain) == {
        "titles": "fresh",
        "scores": "stale",
        "best": "possibly_stale",
        "top": "possibly_stale",
    }
    assert said(chain.staleness("scores")) == ["definition"] and said(chain.staleness("top")) == [
        "definition ← best ← scores"
    ]


def test_a_column_added_to_an_input_reaches_a_step_that_reads_all_of_it(lab, steps):
    path = lab.csv("papers", "id,title", "1,Graphs")
    lab.compute("scores", steps.module.score, inputs="papers")
    path.write_text("id,title,year\n1,Graphs,2020\n")
    assert said(lab.staleness("scores")) == ["advanced papers"]
    lab.recompute()
    assert words(lab) == {"scores": "fresh"}


# -- after a restart -------------------------------------------------------------------------------


def local_step(lab: Lab) -> Any:
    def step(papers: Any) -> pl.DataFrame:
        rows: pl.DataFrame = papers.polars().head(2)
        return rows

    lab.compute("cut", step, inputs="papers")
    return step


@pytest.fixture
def restarted(lab: Lab) -> tuple[Lab, Any]:
    """`cut`, made by a function that is in no module, after a restart."""
    lab.csv("papers", "id,year", "1,2020", "2,2021", "3,2022")
    step = local_step(lab)
    lab.materialize("after", "SELECT count(*) AS n FROM jammi.cut")
    lab.reopen()
    return lab, step


def test_a_step_whose_function_is_not_here_is_undecidable_and_says_so(
    restarted,
):
    lab, _ = restarted
    verdict = lab.staleness("cut")
    assert isinstance(verdict, jl.Undecidable) and not verdict.known_stale
    assert (
        "its function local_step.<locals>.step was not passed to ws.compute in this kernel"
        in str(verdict)
    )
    assert verdict_code(lab.staleness("after")) == "undecidable"
    assert lab.rows("cut") == [(1, 2020), (2, 2021)]
    plan = lab.plan()
    assert not plan and "cut" in plan.left_out
    named = lab.plan("cut")
    assert names(named.blocked) == ["cut"] and "was not passed to ws.compute" in repr(named)


def test_one_that_is_stale_for_certain_is_blocked_with_its_reason_and_what_is_lacking(
    restarted,
):
    lab, _ = restarted
    lab.csv("papers", "id,year", "1,2020")
    plan = lab.plan()
    assert names(plan.blocked) == ["cut"] and str(plan.blocked[0].reasons[0]).startswith(
        "papers changed"
    )
    report = plan.apply()
    assert [(s.name, s.outcome) for s in report.steps][:1] == [("cut", "blocked")]
    assert "papers changed" in (report.steps[0].error or "") and "was not passed to ws.compute" in (
        report.steps[0].error or ""
    )
    assert lab.rows("cut") == [(1, 2020), (2, 2021)]


def test_given_again_it_is_fresh_again_without_being_computed(restarted):
    lab, step = restarted
    again = lab.compute("cut", step, inputs="papers")
    assert (again.outcome, again.version) == ("reused", 1)
    assert words(lab) == {"cut": "fresh", "after": "fresh"}


def test_defined_again_it_can_be_recomputed(restarted):
    lab, step = restarted
    lab.csv("papers", "id,year", "9,2029")
    lab.define("cut", jl.PythonStep(step, inputs="papers"))
    assert lab.recompute().executed == ["cut", "after"] and lab.rows("cut") == [(9, 2029)]


def test_a_renamed_step_is_still_known(lab):
    lab.csv("papers", "id,year", "1,2020")
    local_step(lab)
    lab.rename("cut", "short")
    assert words(lab) == {"short": "fresh"}
    lab.csv("papers", "id,year", "2,2020")
    assert lab.recompute().executed == ["short"]


def test_a_function_of_a_module_is_found_again_by_its_name(chain, steps):
    steps.forget()
    chain.reopen()
    shallow = chain.status()["scores"].verdict
    assert isinstance(shallow, jl.Undecidable) and "ws.status(deep=True) imports it" in str(shallow)
    assert chain.staleness("scores") == jl.Fresh() and words(chain)["top"] == "fresh"
    chain.csv("papers", "id,title,year", "5,Graphs,2020")
    assert chain.recompute().executed == ["titles", "scores", "best", "top"] and chain.rows(
        "top"
    ) == [(10,)]


def test_a_module_that_was_changed_meanwhile_has_another_definition(chain, steps):
    steps.forget()
    steps.edit("RATE = 2", "RATE = 5")
    chain.reopen()
    assert (
        said(chain.staleness("scores")) == ["definition"] and chain.staleness("best") != jl.Fresh()
    )


@pytest.mark.parametrize(
    ("old", "new", "word"),
    cases("functions/modules_without", "old", "new", "word"),
    ids=["gone", "raises", "exits", "no python", "a value without form"],
)
def test_a_module_that_does_not_give_the_function_makes_it_undecidable(
    chain, steps, old, new, word
):
    steps.forget()
    steps.edit(old, new)
    chain.reopen()
    verdict = chain.staleness("scores")
    assert isinstance(verdict, jl.Undecidable) and word in str(verdict)


def test_a_module_that_is_gone_makes_it_undecidable_and_blocked(chain, steps):
    steps.forget()
    steps.path.unlink()
    chain.reopen()
    assert "is not on the path of this kernel" in str(chain.staleness("scores")) and names(
        chain.plan("scores").blocked
    ) == ["scores"]


def test_nothing_installed_is_run_because_a_catalog_names_it(lab):
    import shutil

    params = {"path": str(lab.data / "nothing"), "ignore_errors": True}
    lab.define("gone", jl.PythonStep(shutil.rmtree, params=params, version="1"))
    lab.reopen()
    assert names(lab.plan("gone").blocked) == [
        "gone"
    ] and "does not run package functions by name alone" in repr(lab.plan("gone"))


REACHED = """
import subprocess
from subprocess import check_output, Popen

class Tool:
    run = check_output
    process = Popen

    @staticmethod
    def made():
        return [{"a": 1}]

def borrowed():
    pass
borrowed.__module__ = "subprocess"

lent = staticmethod(check_output)
"""


@pytest.mark.parametrize(
    "named",
    [
        "subprocess.check_output",
        "check_output",
        "Popen.communicate",
        "Tool.run",
        "Tool.process.communicate",
        "borrowed",
        "lent",
        "Tool.made.__globals__",
    ],
)
@pytest.mark.parametrize("kind", ["compute", "map"])
def test_a_recorded_function_is_one_that_its_module_defines(lab, write, named, kind):
    code = write(REACHED)

    def step(*_: Any, args: str = "", id: int = 0) -> Any:
        return [{"a": 1}] if kind == "compute" else {"a": 1}

    step.__module__, step.__qualname__ = code.name, named
    if kind == "compute":
        lab.compute("t", step, params={"args": "touch PWNED"}, version="1")
    else:
        lab.map("t", step, over="SELECT 1 AS id", key="id", inputs=["id"], version="1")
    lab.reopen()
    blocked = lab.plan("t").blocked
    assert names(blocked) == ["t"]
    assert "only functions defined there run" in repr(blocked[0]) or "no longer exists" in repr(
        blocked[0]
    )


def test_functions_and_static_methods_of_a_module_are_found_in_it(lab, write):
    code = write(
        "import functools\n\ndef plain():\n    return [{'a': 1}]\n\n"
        "class Tool:\n    @staticmethod\n    def made():\n        return [{'a': 2}]\n\n"
        "def twice(f):\n    @functools.wraps(f)\n    def call():\n        return f() + f()\n"
        "    return call\n\n@twice\ndef wrapped():\n    return [{'a': 3}]\n"
    )
    lab.define("plain", jl.PythonStep(code.module.plain))
    lab.define("made", jl.PythonStep(code.module.Tool.made))
    lab.define("wrapped", jl.PythonStep(code.module.wrapped, version="1"))
    lab.reopen()
    lab.recompute()
    assert lab.rows("plain") == [(1,)] and lab.rows("made") == [(2,)]
    assert lab.rows("wrapped") == [(3,), (3,)]


def test_looking_calls_no_function(lab):
    calls = []

    def step(papers: Any) -> Any:
        calls.append(1)
        return papers

    lab.csv("papers", "id,year", "1,2020")
    lab.compute("t", step, inputs="papers", version="1")
    lab.csv("papers", "id,year", "2,2020")
    (
        lab.status(deep=True),
        lab.staleness("t"),
        lab.plan(),
        lab.lineage(),
        repr(lab.plan()),
    )
    assert calls == [1]


def define_in_notebook(monkeypatch: pytest.MonkeyPatch, text: str) -> Any:
    """Define `step` as a cell of a notebook does: in `__main__`, its source in `linecache`."""
    filename = f"<cell {len(linecache.cache)}>"
    linecache.cache[filename] = (len(text), None, text.splitlines(keepends=True), filename)
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(text, filename, "exec"), namespace)
    monkeypatch.setattr(sys.modules["__main__"], "step", namespace["step"], raising=False)
    return namespace["step"]


ONE = "def step(papers):\n    return papers.polars().head(1)\n"
TWO = ONE.replace("1", "2")


def test_a_step_of_the_notebook_is_known_by_its_name_after_a_restart(lab, monkeypatch):
    lab.csv("papers", "id,year", "1,2020", "2,2021")
    lab.compute("cut", define_in_notebook(monkeypatch, ONE), inputs="papers")
    monkeypatch.delattr(sys.modules["__main__"], "step")
    lab.reopen()
    lacking = lab.staleness("cut")
    assert isinstance(
        lacking, jl.Undecidable
    ) and "run the cell that defines its function step" in str(lacking)
    define_in_notebook(monkeypatch, ONE)
    assert lab.staleness("cut") == jl.Fresh()
    define_in_notebook(monkeypatch, TWO)
    assert isinstance(lab.staleness("cut"), jl.Stale)
    lab.recompute("cut")
    assert len(lab.rows("cut")) == 2 and lab.staleness("cut") == jl.Fresh()


def test_a_name_that_is_used_again_leaves_each_recipe_its_own_function(lab, monkeypatch):
    lab.csv("papers", "id,year", "1,2020", "2,2021")
    lab.compute("one", define_in_notebook(monkeypatch, ONE), inputs="papers")
    lab.compute("two", define_in_notebook(monkeypatch, TWO), inputs="papers")
    assert words(lab) == {"one": "fresh", "two": "fresh"}
    lab.csv("papers", "id,year", "3,2020", "4,2021")
    lab.recompute()
    assert lab.rows("one") == [(3, 2020)] and len(lab.rows("two")) == 2


def test_a_new_function_of_a_name_runs_in_every_recipe_that_knows_the_name(lab, monkeypatch):
    lab.csv("papers", "id,year", "1,2020", "2,2021", "3,2022")
    lab.compute("one", define_in_notebook(monkeypatch, ONE), inputs="papers")
    lab.compute("two", define_in_notebook(monkeypatch, TWO), inputs="papers")
    define_in_notebook(monkeypatch, ONE.replace("1", "3"))
    assert words(lab) == {"one": "stale", "two": "stale"}
    report = lab.recompute()
    assert [step.outcome for step in report.steps] == ["computed", "reused"]
    assert len(lab.rows("one")) == len(lab.rows("two")) == 3
    assert words(lab) == {"one": "fresh", "two": "fresh"}


WRAPPED = """
import functools
def base(t):
    return [{"v": 1}]
def plus(k):
    def decorate(f):
        @functools.wraps(f)
        def inner(t):
            return [{"v": f(t)[0]["v"] + k}]
        return inner
    return decorate
week, month = plus(7)(base), plus(30)(base)
class Made:
    def __init__(self, k):
        self.k = k
    def rows(self, t):
        return [{"v": self.k}]
"""


@pytest.mark.parametrize("version", [None, "1"])
def test_functions_that_have_the_name_of_another_one_are_not_found_by_it(lab, write, version):
    module = write(WRAPPED).module
    lab.csv("papers", "id,year", "1,2020")
    made = {"base": 1, "week": 8, "month": 31}
    for name in made:
        lab.compute(name, getattr(module, name), inputs="papers", version=version)
    lab.compute("bound", module.Made(5).rows, inputs="papers", version="1")
    made["bound"] = 5
    assert words(lab) == dict.fromkeys(made, "fresh")
    lab.csv("papers", "id,year", "2,2020")
    lab.recompute()
    assert {name: lab.rows(name) for name in made} == {name: [(v,)] for name, v in made.items()}
    lab.reopen()
    assert words(lab) == {n: "fresh" if n == "base" else "undecidable" for n in made}
    assert "base.<another> was not passed to ws.compute" in str(lab.staleness("week"))
    lab.compute("week", module.week, inputs="papers", version=version)
    assert words(lab)["week"] == "fresh" and lab.rows("week") == [(8,)]


class Model:
    """Which factor the function `step` of each recipe has. A recipe takes the notebook's function
    of the name as it is now, unless that very object was passed to another recipe: then it keeps
    the one with which it ran last, and after a restart runs only an equal one."""

    def __init__(self) -> None:
        self.current: tuple[int, int] | None = None
        """The number of the object and its factor."""
        self.given: set[int] = set()
        self.own: dict[str, tuple[int, int]] = {}
        self.recorded: dict[str, int] = {}
        """The factor in the catalog."""

    def function_of(self, recipe: str) -> int | None:
        own, current = self.own.get(recipe), self.current
        if current is None:
            return None if own is None else own[1]
        if current[0] not in self.given or own == current:
            return current[1]
        if own is not None:
            return own[1]
        is_equal = self.recorded[recipe] == current[1] and recipe != "versioned"
        return current[1] if is_equal else None


@pytest.mark.parametrize("seed", range(8))
def test_histories_of_a_name_that_is_used_again(lab, monkeypatch, seed):
    choose, model, rows = random.Random(seed), Model(), {}
    monkeypatch.setattr(sys.modules["__main__"], "step", None, raising=False)
    function, value = None, 1
    lab.csv("nums", "n", "1")
    for number in range(30):
        action = choose.choice(
            ["define", "define", "give", "give", "recompute", "recompute", "restart"]
        )
        if action == "define":
            factor = choose.choice([2, 3, 5])
            text = (
                f"def step(nums):\n    return [{{'n': {factor} * n}} for n, in nums.fetchall()]\n"
            )
            function, model.current = define_in_notebook(monkeypatch, text), (number, factor)
        elif action == "give" and model.current is not None:
            recipe = choose.choice(["a", "b", "versioned"])
            version = "1" if recipe == "versioned" else None
            lab.compute(recipe, function, inputs="nums", version=version, cache="bypass")
            model.given.add(model.current[0])
            model.own[recipe] = model.current
            model.recorded[recipe] = model.current[1]
            rows[recipe] = [(value * model.current[1],)]
        elif action == "recompute":
            value += 1
            lab.csv("nums", "n", str(value))
            lab.recompute()
            for recipe in rows:
                if (factor := model.function_of(recipe)) is None:
                    continue
                rows[recipe] = [(value * factor,)]
                is_current = model.current is not None and factor == model.current[1]
                own = model.own.get(recipe)
                takes = is_current and (model.current[0] not in model.given or own is None)
                model.own[recipe] = model.current if takes else model.own[recipe]
                model.recorded[recipe] = factor
        elif action == "restart":
            monkeypatch.setattr(sys.modules["__main__"], "step", None)
            lab.reopen()
            model.current, model.given, model.own = None, set(), {}
        assert {recipe: lab.rows(recipe) for recipe in rows} == rows, (number, action)
