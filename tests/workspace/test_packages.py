"""Encoders, connectors, producers and commands that an installed package brings through entry
points."""

import contextlib
import json
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pytest

import jammi_lab as jl
from jammi_lab.commands.help import Help
from jammi_lab.commands.shared import SharedVerbs
from jammi_lab.commands.words import parse_line
from jammi_lab.core import entry_points, recipes
from tests.shell import run_shell

CODE = """
import configparser


class Letters:
    name, version, dimensions = "letters", "1", 26

    def encode(self, texts):
        import numpy as np

        alphabet = "abcdefghijklmnopqrstuvwxyz"
        return np.array([[t.count(c) + 0.01 for c in alphabet] for t in texts], np.float32)


class Ini:
    def __init__(self, path):
        self.file = configparser.ConfigParser()
        if not self.file.read(path):
            raise FileNotFoundError(path)

    def tables(self):
        return self.file.sections()

    def read(self, table):
        import polars as pl

        return pl.DataFrame([{"key": k, "value": v} for k, v in self.file[table].items()])


def open_ini(location, options, secret):
    return Ini(location)


class Count:
    def __init__(self, location, options, secret):
        self.numbers = range(int(location.rpartition("/")[2]) * options.get("times", 1))

    def read(self, table):
        import pyarrow as pa

        return pa.table({"n": list(self.numbers)})


def large(numbers, *, least):
    import polars as pl

    return numbers.polars().filter(pl.col("n") >= least)


from dataclasses import KW_ONLY, dataclass

from jammi_lab.core.errors import InvalidArgument
from jammi_lab.core.recipes import Table
from jammi_lab.steps.table_recipe import TableRecipe


@dataclass(frozen=True)
class Every(TableRecipe):
    '''Every `step`-th row of a table.'''

    kind = "every"
    key = ("n",)

    table: Table
    _: KW_ONLY
    step: int = 2

    def check(self):
        if self.step < 1:
            raise InvalidArgument(f"step must be at least 1, got {self.step!r}.")

    def rows(self, table):
        return table.take(list(range(0, len(table), self.step)))


import jammi_lab as jl


class Even(jl.checks.Rule):
    '''The values of a column are multiples of a step.'''

    def __init__(self, column, step=2):
        [quoted] = jl.checks.quoted_columns(column)
        super().__init__(f"{column} is a multiple of {step}", f"{quoted} % $step <> 0", {"step": step})


def longest(ws, values):
    '''%jammi longest [NAME …] · jammi-lab
    List the tables with the most rows. The first is the longest.
    -n|--limit N: number of tables
    --by rows|bytes: what counts
    '''
    tables = [t for t in ws.tables() if t.name in (values["NAME"] or [t.name])]
    tables.sort(key=lambda t: -(t.bytes if values["by"] == "bytes" else t.row_count))
    return [t.name for t in tables[: values["limit"]]]
"""
ENTRIES = """
[jammi_lab.encoders]
letters = jammi_demo:Letters

[jammi_lab.connectors]
ini = jammi_demo:open_ini
count = jammi_demo:Count
broken = jammi_demo:nothing

[jammi_lab.producers]
large = jammi_demo:large

[jammi_lab.recipes]
every = jammi_demo:Every

[jammi_lab.checks]
even = jammi_demo:Even

[jammi_lab.commands]
longest = jammi_demo:longest
unsaid = jammi_demo:open_ini
"""


@contextlib.contextmanager
def installed(folder: Path, version: str) -> Iterator[None]:
    """The package as pip would have installed it."""
    site = folder / "site-packages"
    info = site / f"jammi_demo-{version}.dist-info"
    info.mkdir(parents=True)
    (site / "jammi_demo.py").write_text(CODE)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: jammi-demo\nVersion: {version}\n")
    (info / "entry_points.txt").write_text(textwrap.dedent(ENTRIES))
    sys.path.insert(0, str(site))
    entry_points.package_entries.cache_clear()
    try:
        yield
    finally:
        recipes._classes.pop("every", None)
        sys.path.remove(str(site))
        sys.modules.pop("jammi_demo", None)
        entry_points.package_entries.cache_clear()


@pytest.fixture
def package(tmp_path):
    with installed(tmp_path / "first", "1.0"):
        yield


def test_a_connector_of_a_package_has_tables_with_verdicts_of_their_own(package, ws, tmp_path):
    settings = tmp_path / "set.ini"
    settings.write_text("[a]\nx=1\n[b]\ny=2\nz=3\n")
    source = ws.sources.add("conf", settings, kind="ini")
    assert (source.kind, source.tables()) == ("ini", ["a", "b"])
    ws.materialize("keys", "SELECT key, value FROM conf.b")
    assert ws.table("keys").read().fetchall() == [("y", "2"), ("z", "3")]
    assert ws.staleness("keys") == jl.Fresh()
    settings.write_text("[a]\nx=9\n[b]\ny=2\nz=3\n")
    assert ws.staleness("keys") == jl.Fresh()
    settings.write_text("[a]\nx=1\n[b]\ny=2\nz=4\n")
    assert str(ws.staleness("keys")) == "stale: conf.b changed, only value"
    assert ws.status()["keys"].verdict == ws.staleness("keys")
    ws.recompute()
    assert ws.table("keys").read().fetchall() == [("y", "2"), ("z", "4")]
    settings.unlink()
    assert isinstance(ws.staleness("keys"), jl.Undecidable)


def test_the_scheme_of_a_url_names_the_connector_and_options_reach_it(package, ws):
    ws.sources.add("ten", "count://here/10")
    ws.sources.add("twenty", "count://here/10", options={"times": 2})
    assert ws.sql("SELECT count(*) FROM ten").fetchall() == [(10,)]
    assert ws.sql("SELECT count(*) FROM twenty JOIN ten USING (n)").fetchall() == [(10,)]
    with jl.open(ws.path) as again:
        assert again.sql("SELECT max(n) FROM twenty").fetchall() == [(19,)]


def test_failures_of_a_connector_are_errors_of_the_source(package, ws, tmp_path):
    with pytest.raises(jl.errors.SourceUnavailable, match="by the connector 'ini': FileNotFound"):
        ws.sources.add("conf", tmp_path / "absent.ini", kind="ini")
    with pytest.raises(
        jl.errors.ExtensionMissing, match=r"'broken' of the package jammi-demo 1\.0"
    ):
        ws.sources.add("conf", "x", kind="broken")
    assert not ws.sources.list()


def test_a_source_of_a_package_that_is_not_installed_is_undecidable(ws, tmp_path):
    with installed(tmp_path / "first", "1.0"):
        ws.sources.add("ten", "count://here/10")
        ws.materialize("most", "SELECT max(n) AS n FROM ten")
    assert isinstance(ws.staleness("most"), jl.Undecidable)
    with pytest.raises(jl.JammiError) as refused:
        ws.sql("FROM ten")
    assert "a package that is not installed" in refused.value.hint


def test_an_encoder_of_a_package_is_a_model_in_every_kernel(package, ws):
    ws.sources.add("notes", pl.DataFrame({"id": [1, 2], "text": ["tea", "coffee"]}))
    ws.embed("vectors", "notes", key="id", text="text", model="letters")
    assert ws.search("vectors", "tea", k=1).fetchall()[0][0] == 1
    with jl.open(ws.path) as again:  # it was not registered there
        assert again.search("vectors", "coffee", k=1).fetchall()[0][0] == 2


def test_a_producer_of_a_package_is_known_by_the_version_of_the_package(ws, tmp_path):
    (tmp_path / "n.csv").write_text("n\n1\n2\n3\n")
    ws.sources.add("numbers", tmp_path / "n.csv")
    with installed(tmp_path / "first", "1.0"):
        table = ws.compute("big", "large", inputs=["numbers"], params={"least": 2})
        assert table.read().fetchall() == [(2,), (3,)]
        assert str(ws.staleness("big")) == "fresh*, on the version of its package, jammi-demo 1.0"
        from jammi_demo import large

        again = ws.compute("big", large, inputs=["numbers"], params={"least": 2})
        assert again.outcome == "reused"
        with jl.open(ws.path) as other:  # a kernel in which it was not given
            (tmp_path / "n.csv").write_text("n\n1\n2\n3\n4\n")
            assert other.recompute().executed == ["big"]
    with installed(tmp_path / "second", "1.1"):
        assert isinstance(ws.staleness("big").reasons[0], jl.DefinitionChanged)
        with pytest.raises(jl.errors.ExtensionMissing, match="adds 'larg'") as missing:
            ws.compute("big", "larg", inputs=["numbers"])
        assert missing.value.near == ("large",)


def test_a_recipe_of_a_package_is_a_table_with_verdict_plan_lineage_and_restart(ws, tmp_path):
    pl.DataFrame({"n": [1, 2, 3, 4]}).write_csv(tmp_path / "numbers.csv")
    place = ws.path
    with installed(tmp_path, "1.0"):
        from jammi_demo import Every

        ws.sources.add("numbers", tmp_path / "numbers.csv")
        source = ws.materialize("kept", "SELECT n FROM numbers WHERE n > 1")
        with pytest.raises(jl.InvalidArgument, match="step must be at least 1"):
            ws.materialize("some", Every(source, step=0))
        some = ws.materialize("some", Every(source))
        assert (some.kind, some.key, some.read().fetchall()) == ("every", ["n"], [(2,), (4,)])
        assert ws.materialize("some", Every("kept", step=2)).outcome == "reused"
        assert ws.staleness("some").grounds == ["on revision 1 of jammi_demo.Every"]
        assert ws.recipes()["some"].definition == "every(table=kept, step=2)"
        assert [node.name for node in ws.lineage("some").nodes] == ["numbers", "kept", "some"]
        ws.materialize("kept", "SELECT n FROM numbers WHERE n > 2")
        assert [step.name for step in ws.plan().certain] == ["some"]
        ws.close()
        with jl.open(place) as again:
            again.recompute("some")
            assert again.table("some").read().fetchall() == [(3,)]
            Every.revision = 2
            assert again.why("some").lines[-1].endswith("the release or revision that runs it")
    with jl.open(place) as without:
        assert "a class that is not in this kernel" in str(without.staleness("some"))
        assert without.table("some").read().fetchall() == [(3,)]


def test_a_check_rule_of_a_package_blocks_and_is_judged_where_the_package_is_missing(ws, tmp_path):
    place = ws.path
    with installed(tmp_path, "1.0"):
        ws.materialize("pairs", "SELECT 2 AS n")
        with pytest.raises(jl.InvalidArgument, match="names of its columns"):
            jl.checks.even(None)
        check = ws.checks.add("even", jl.checks.even("n"), on="pairs")
        assert check.rule == "n is a multiple of 2"
        assert [(row.outcome, row.failing) for row in ws.check()] == [("pass", 0)]
        with pytest.raises(jl.CheckFailed, match=r"2 rows fail the check 'even' \(n is a multiple"):
            ws.materialize("pairs", "SELECT unnest([2, 3, 5]) AS n")
        ws.close()
    with pytest.raises(AttributeError, match="has no attribute 'even'"):
        _ = jl.checks.even
    with pytest.raises(AttributeError, match="Did you mean unique"):
        _ = jl.checks.uniqe
    with jl.open(place) as without:
        assert without.table("pairs").checks["even"].verdict == jl.Fresh()
        with pytest.raises(jl.CheckFailed):
            without.materialize("pairs", "SELECT 7 AS n")


def test_a_command_of_a_package_is_a_line_and_a_command_of_the_shell(package, ws):
    for name, rows in (("few", 2), ("many", 9), ("some", 5)):
        ws.materialize(name, f"SELECT * FROM range({rows}) t(n)")
    verb, values = parse_line("longest -n 2")
    assert SharedVerbs.run(SimpleNamespace(_ws=ws), verb, values) == ["many", "some"]
    ran = run_shell("longest", ws.path, "few", "some", "--json")
    assert (ran.exit_code, json.loads(ran.stdout)) == (0, ["some", "few"])
    assert "longest [PATH] [NAME …]" in run_shell("help").stdout
    assert "the most rows" in repr(Help("longest")) and "longest" in repr(Help(None))
    for line, words in (
        ("longest --by age", "--by of %jammi longest takes rows or bytes, not 'age'."),
        ("longest -n 0", "-n of %jammi longest takes a positive integer, not '0'."),
        ("longst", "Did you mean longest?"),
        ("unsaid", "The command 'unsaid' of a package has no usage."),
    ):
        with pytest.raises(jl.JammiError) as refused:
            parse_line(line)
        assert words in refused.value.lines()
