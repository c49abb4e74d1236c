"""What a workspace says to bad input, and what it leaves alone."""

import contextlib
import hashlib
import itertools
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import jammi_lab as jl
from jammi_lab.storage import files


@pytest.fixture
def papers(tmp_path: Path, ws: Any) -> Any:
    """A workspace with a source, a recipe and one version of it."""
    (tmp_path / "papers.csv").write_text("id,title,year\n1,Graphs,2020\n2,Trees,2021\n")
    ws.sources.add("papers", tmp_path / "papers.csv")
    ws.materialize("titles", "SELECT id, title FROM papers")
    return ws


def bytes_of(folder: Path) -> dict[str, tuple[str, int]]:
    """Digest and time of change of every file below a folder."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            found[str(path.relative_to(folder))] = (
                hashlib.sha256(path.read_bytes()).hexdigest(),
                path.stat().st_mtime_ns,
            )
    return found


def test_settings_read_as_text(papers):
    assert "engine.timezone = 'UTC'" in str(papers.settings).splitlines()


# -- what is refused, with which words -------------------------------------------------------------

FRAME = pa.table({"a": [1]})
HALF = "a\ud800b"
"""A name with half a character."""
OF_NAMES = "table staleness why verify lineage derives_from derives_from_closure plan recompute drop".split()
OF_RECIPES = "table staleness verify plan recompute drop".split()
BAD_NAMES = [
    "",
    "  ",
    "a\nb",
    "tab\there",
    "nul\0",
    "\x7f",
    "\x1b[31m",
    "x" * 201,
    HALF,
    "jammi.titles",
    "Jammi.new",
]
RESERVED = ["jammi", "main", "Mutable", "__jammi_x", "jammi.titles", "pg_catalog", ""]

Call = Callable[[Any, Any], object]
"""Takes the workspace `papers`, and a value of the row."""


def verb(name: str, *arguments: Any, **options: Any) -> Call:
    """Calls a method of the workspace with the value, or with the arguments."""

    def call(ws: Any, value: Any) -> object:
        owner, _, method = name.rpartition(".")
        target = getattr(getattr(ws, owner) if owner else ws, method)
        return target(*(arguments or [value]), **options)

    return call


REFUSED: list[tuple[type[Exception], str, list[Call], list[Any]]] = [
    (jl.TableNotFound, "Did you mean titles", [verb(name) for name in OF_NAMES], ["title"]),
    (jl.TableNotFound, "is a source", [verb(name) for name in OF_RECIPES], ["papers"]),
    (jl.TableNotFound, "it has 1", [verb("table", "titles", version=7)], [None]),
    (KeyError, "", [verb(name) for name in [*OF_NAMES, "sources.remove", "models.get"]], [HALF]),
    (KeyError, "", [lambda ws, name: ws.sources[name], lambda ws, name: ws.mutable[name]], [HALF]),
    (
        jl.NameInvalid,
        "",
        [
            lambda ws, name: ws.materialize(name, "SELECT 1 AS one"),
            lambda ws, name: ws.define(name, "SELECT 1 AS one"),
            lambda ws, name: ws.rename("titles", name),
        ],
        BAD_NAMES,
    ),
    (jl.NameInvalid, "", [lambda ws, name: ws.sources.add(name, "papers.csv")], RESERVED),
    (
        jl.InvalidArgument,
        "got int",
        [verb(name) for name in "plan recompute what_if lineage derives_from why table".split()],
        [5],
    ),
    (
        jl.InvalidArgument,
        "(?i)name must be a string, got int",
        [
            verb("drop"),
            verb("expire"),
            verb("sources.remove"),
            lambda ws, name: ws.rename(name, "x"),
            lambda ws, name: ws.sources[name],
        ],
        [5],
    ),
    (
        jl.InvalidArgument,
        "Pass its name: 'titles'",
        [
            lambda ws, _: ws.drop(ws.table("titles")),
            lambda ws, _: ws.expire(ws.table("titles")),
            lambda ws, _: ws.rename(ws.table("titles"), "x"),
            lambda ws, _: ws.sources.remove(ws.table("titles")),
        ],
        [None],
    ),
    (jl.SourceExists, "PAPERS|papers", [lambda ws, name: ws.sources.add(name, "o.csv")], ["PAPERS"]),
    (
        jl.SourceExists,
        "replace=True",
        [verb("sources.add", "papers", "papers.csv", options={"header": False})],
        [None],
    ),
    (jl.SourceUnavailable, "", [verb("sources.add", "new", "none.csv")], [None]),
    (jl.SourceUnavailable, "", [verb("sources.add", "new", "torn.parquet")], [None]),
    (jl.InvalidArgument, "", [verb("sources.add", "new", 5)], [None]),
    (
        jl.InvalidArgument,
        "",
        [
            lambda _, half: jl.open(half),
            lambda ws, half: ws.sources.add("new", f"{half}.csv"),
            lambda ws, half: ws.register("new", pa.table({"a": [1]}), producer=half),
            lambda ws, half: ws.register("new", FRAME, producer="p", params={"by": half}),
            lambda ws, half: ws.table("titles").pin(half),
        ],
        [HALF],
    ),
    (jl.InvalidArgument, "kind must be", [lambda ws, kind: ws.tables(kind=kind)], ["sqll", 3]),
    (jl.InvalidArgument, "Did you mean ready", [lambda ws, status: ws.tables(status=status)], ["raedy"]),
    (jl.InvalidArgument, "string", [verb("sql")], [3]),
    (jl.ParameterMissing, "year", [verb("sql")], ["SELECT * FROM papers WHERE year > $year"]),
    (ValueError, "yaer", [verb("sql", "SELECT 1", yaer=3)], [None]),
    (jl.SqlError, "title", [verb("sql")], ["SELECT titel FROM papers"]),
    (jl.TableNotFound, "Did you mean papers", [verb("sql")], ["SELECT * FROM paper"]),
    (
        jl.InvalidArgument,
        "dict of values by name",
        [
            *(
                lambda ws, params, verb=name: getattr(ws, verb)("SELECT $params", params=params)
                for name in ("sql", "explain", "lookup")
            ),
            lambda ws, params: ws.define("t", "SELECT $params", params=params),
            lambda ws, params: ws.materialize("t", "SELECT $params", params=params),
        ],
        ["hello", [1], {1: 2}],
    ),
    (
        jl.InvalidArgument,
        "params must be a dict of values by name",
        [
            lambda ws, params: ws.compute("t", len, inputs=[], params=params, version="1"),
            lambda ws, params: ws.register("t", FRAME, producer="job", params=params),
        ],
        [{1: 2}],
    ),
    (jl.InvalidArgument, "cache must be", [verb("materialize", "new", "FROM papers", cache="maybe")], [None]),
    (jl.InvalidArgument, "refresh must be", [verb("materialize", "new", "FROM papers", refresh="all")], [None]),
    (
        jl.InvalidArgument,
        "progress must be True, False, None or a callable",
        [lambda ws, progress: ws.materialize("new", "SELECT 1 AS x", progress=progress)],
        ["yes", 3, []],
    ),
    (jl.InvalidArgument, "does not exist", [lambda ws, path: ws.table("titles").export(path)], ["none/titles.csv"]),
]  # fmt: skip


def test_what_is_refused_is_typed_says_why_and_changes_nothing(papers, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("o.csv").write_text("id\n1\n")
    Path("torn.parquet").write_bytes(b"PAR1 torn")

    def state() -> object:
        files = {path for path in tmp_path.rglob("*") if not path.name.startswith("catalog.")}
        return [*papers.sources], [r.name for r in papers.recipes()], len(papers.tables()), files

    before = state()
    for error, words, calls, values in REFUSED:
        for call, value in itertools.product(calls, values):
            with pytest.raises(error, match=words or None) as caught:
                call(papers, value)
            assert isinstance(caught.value, jl.JammiError) and str(caught.value).encode()
            assert state() == before, (words, value)


@pytest.mark.parametrize(
    ("error", "words", "paths", "options"),
    [
        (jl.WorkspaceNotFound, "There is no workspace", ["none"], {"create": False}),
        (jl.WorkspaceNotFound, "There is no workspace", ["none"], {"read_only": True}),
        (
            jl.InvalidArgument,
            "papers.csv' is a file; a workspace must be a folder",
            ["papers.csv", "papers.csv/lab", "papers.csv/lab/two"],
            {},
        ),
        (jl.InvalidArgument, "a folder or a URL", ["", None, 5, b"lab", "a\0b"], {}),
        *(
            (jl.NameInvalid, "", ["lab"], {"tenant": tenant})
            for tenant in ("", "_x", "a b", "x" * 65, "../x", "é", "a\n", 5, b"acme")
        ),
        (jl.InvalidArgument, "engine.threads", ["lab"], {"settings": {"engine.thread": 2}}),
    ],
)
def test_what_is_no_workspace_is_not_opened_or_made(
    tmp_path,
    monkeypatch,
    error,
    words,
    paths,
    options,
):
    monkeypatch.chdir(tmp_path)
    Path("papers.csv").write_text("id\n1\n")
    for path in paths:
        with pytest.raises(error, match=words or None):
            jl.open(path, **options)
    assert [path.name for path in tmp_path.iterdir() if path.name != "lab"] == ["papers.csv"]
    assert Path("papers.csv").read_text() == "id\n1\n"


# -- opening ---------------------------------------------------------------------------------------


@pytest.fixture
def locked() -> Iterator[Path]:
    """A folder with a workspace that this process may read and not write to, also when it runs as
    root."""
    with tempfile.TemporaryDirectory() as name:
        folder, own = Path(name), os.geteuid()
        (folder / "papers.csv").write_text("id\n1\n")
        (folder / "empty").mkdir()
        with jl.open(folder / "lab") as ws:
            ws.sources.add("papers", folder / "papers.csv")
            ws.materialize("ids", "SELECT id FROM papers")
            assert ws.status()["ids"].verdict == jl.Fresh() and ws.sql(
                "SELECT * FROM jammi.ids"
            ).fetchall() == [(1,)]
        for each in [folder, *folder.rglob("*")]:
            each.chmod(0o555 if each.is_dir() else 0o444)
        if own == 0:
            os.seteuid(65534)
        yield folder
        os.seteuid(own)
        for each in [folder, *folder.rglob("*")]:
            each.chmod(0o755 if each.is_dir() else 0o644)


def test_a_folder_that_cannot_be_written_to_says_so_and_can_be_looked_at(locked):
    with pytest.raises(jl.WorkspaceReadOnly, match="cannot be created"):
        jl.open(locked / "new")
    with pytest.raises(jl.WorkspaceReadOnly, match="cannot be created") as caught:
        jl.open(locked / "empty")
    assert "read_only" not in caught.value.hint, "there is nothing in it to be read"
    with pytest.raises(jl.WorkspaceReadOnly) as caught:
        jl.open(locked / "lab")
    assert "read_only=True" in caught.value.hint
    with jl.open(locked / "lab", read_only=True) as ws:
        assert (
            ws.staleness("ids"),
            ws.verify("ids"),
            ws.sql("SELECT id FROM papers").fetchall(),
        ) == (jl.Fresh(), jl.Match(), [(1,)])


def test_a_folder_that_may_not_be_entered_is_said_so_however_it_is_opened(locked):
    os.seteuid(os.getuid())
    (locked / "shut").mkdir()
    (locked / "lab" / "jammi.toml").touch()
    (locked / "shut").chmod(0), (locked / "lab" / "jammi.toml").chmod(0)
    if os.getuid() == 0:
        os.seteuid(65534)
    for ways in ({}, {"create": False}, {"read_only": True}):
        with pytest.raises(jl.WorkspaceReadOnly, match="cannot be opened: permission denied"):
            jl.open(locked / "shut" / "lab", **ways)
    with pytest.raises(jl.InvalidArgument, match=r"jammi\.toml cannot be read: Permission denied"):
        jl.open(locked / "lab", read_only=True)


def test_lineage_is_asked_by_any_name_that_sql_knows(papers):
    papers.mutable.create("notes", pa.schema([("id", pa.int64())]), primary_key="id")
    papers.topics.register("clicks", pa.schema([("id", pa.int64())]))
    assert [(n.kind, n.name) for n in papers.lineage("mutable.notes").nodes] == [
        ("mutable", "notes")
    ]
    assert [(n.kind, n.name) for n in papers.lineage("clicks").nodes] == [("topic", "clicks")]
    noted = papers.materialize("noted", "SELECT * FROM mutable.notes")
    papers.materialize("further", "SELECT * FROM jammi.noted")
    all_three = [("mutable", "notes"), ("sql", "noted"), ("sql", "further")]
    for name in ("mutable.notes", "notes", "jammi.noted", noted, noted.table_name):
        assert [(n.kind, n.name) for n in papers.lineage(name).nodes] == all_three
    papers.mutable["notes"].insert([{"id": 1}])
    papers.recompute("noted")
    assert [(n.kind, n.version) for n in papers.lineage(noted, direction="up").nodes] == [
        ("mutable", None),
        ("sql", 1),
    ]
    assert [n.name for n in papers.lineage(noted, direction="up").nodes] == [
        "notes",
        noted.table_name,
    ]
    assert [n.version for n in papers.lineage("noted", direction="up").nodes] == [None, 2]
    for name in ("mutable.nothing", "mutable.", "jammi.nothing"):
        with pytest.raises(jl.errors.TableNotFound, match=name):
            papers.lineage(name)


def test_a_word_of_sql_that_is_a_source_is_written_in_quotes(papers, tmp_path):
    (tmp_path / "x.csv").write_text("a\n1\n")
    papers.sources.add("semi", tmp_path / "x.csv")
    for statement in ("SELECT * FROM semi x", "FROM semi", "SELECT 1 FROM (SELECT a FROM semi)"):
        with pytest.raises(jl.errors.SqlError, match=r'at or near "semi"') as caught:
            papers.sql(statement)
        assert caught.value.hint == 'If it is a table name, quote it: "semi".'
    assert papers.sql('SELECT * FROM "semi"').fetchall() == [(1,)]
    with pytest.raises(jl.errors.SqlError) as plain:
        papers.sql("SELECT 1 WHERE WHERE")
    assert not plain.value.hint


def test_a_tenant_can_be_bound_at_once(papers, tmp_path):
    with jl.open(tmp_path / "lab", tenant="Acme") as ws:
        assert (
            ws.current_tenant == "acme"
            and ws.materialize("own", "SELECT id FROM papers").tenant == "acme"
        )
    assert "own" not in papers and papers.current_tenant is None


def test_closing_twice_is_fine_and_use_after_it_is_typed(papers):
    papers.close()
    papers.close()
    assert "closed" in repr(papers)
    for use in (
        papers.status,
        papers.plan,
        papers.tables,
        lambda: papers.recipes(),
        papers.recover,
        papers.lineage,
        lambda: papers.sql("SELECT 1"),
        lambda: papers.staleness("titles"),
        lambda: papers.materialize("t", "SELECT 1 AS one"),
        lambda: papers.sources.list(),
        lambda: "titles" in papers,
    ):
        with pytest.raises(jl.JammiError, match="closed"):
            use()


def test_a_workspace_is_shown_with_what_is_in_it_in_a_notebook_that_loaded_no_extension(
    papers,
):
    shown = papers._repr_html_()
    assert (
        "papers" in shown
        and "recipe" in shown
        and "fresh" in shown
        and repr(papers).startswith("Workspace(")
    )
    papers.close()
    assert "closed" in papers._repr_html_()


# -- read-only -------------------------------------------------------------------------------------


def test_a_read_only_workspace_tells_verdicts_and_changes_no_byte(papers, tmp_path):
    papers.close()
    (tmp_path / "papers.csv").write_text("id,title,year\n1,Graphs,2020\n")
    before = bytes_of(tmp_path)
    with jl.open(tmp_path / "lab", read_only=True) as ws:
        assert ws.read_only
        assert isinstance(ws.staleness("titles"), jl.Stale)
        assert len(ws.status()) == 1
        assert [s.name for s in ws.plan().certain] == ["titles"]
        assert ws.verify("titles") == jl.Match()
        assert ws.sql("SELECT count(*) FROM jammi.titles").fetchall() == [(2,)]
        assert ws.lineage().closure() == ["papers", "titles"]
        assert ws.table("titles").manifest is not None
        assert ws.lookup("SELECT id, title FROM papers") is None
        for change in (
            lambda: ws.materialize("titles", "SELECT 1 AS one"),
            lambda: ws.define("titles", "SELECT 1 AS one"),
            lambda: ws.recompute(),
            lambda: ws.plan().apply(),
            lambda: ws.drop("titles"),
            lambda: ws.rename("titles", "other"),
            lambda: ws.recover(),
            lambda: ws.table("titles").drop(),
            lambda: ws.sources.add("more", tmp_path / "papers.csv"),
            lambda: ws.sources.remove("papers"),
        ):
            with pytest.raises(jl.WorkspaceReadOnly):
                change()
    after = bytes_of(tmp_path)
    assert {k: v for k, v in after.items() if not k.endswith(("-wal", "-shm"))} == {
        k: v for k, v in before.items() if not k.endswith(("-wal", "-shm"))
    }


# -- names -----------------------------------------------------------------------------------------


def test_a_source_is_removed_with_the_tables_that_read_it_when_that_is_said(papers, tmp_path):
    (tmp_path / "others.csv").write_text("id\n1\n")
    papers.sources.add("others", tmp_path / "others.csv")
    first, second = papers.table("titles"), papers.materialize("titles", "SELECT id FROM papers")
    papers.materialize("ids", "SELECT id FROM jammi.titles")
    papers.materialize("papers", "SELECT id FROM others")  # a recipe called like the source
    papers.materialize("again", "SELECT id FROM jammi.papers")
    assert papers.sources.remove("papers", tables=True) == [second.table_name, first.table_name]
    assert "papers" not in papers.sources and not list(tmp_path.rglob(f"{first.table_name}*"))
    assert sorted(t.name for t in papers.tables()) == ["again", "ids", "papers"]
    assert [r.name for r in papers.recipes()] == ["again", "ids", "papers", "titles"]
    assert papers.staleness("ids") == jl.Stale(
        [jl.InputVanished(papers.table("ids").inputs[0], papers.table("ids").manifest.anchors[0])]
    )
    assert papers.sources.remove("others") == [] and "papers" in papers


def test_a_tenant_removes_its_own_source_with_its_own_tables_alone(papers, tmp_path):
    with papers.tenant("acme"):
        papers.sources.add("mine", tmp_path / "papers.csv")
        own = papers.materialize("own", "SELECT id FROM mine")
        papers.materialize("shared_rows", "SELECT id FROM papers")
        with pytest.raises(jl.TenantForbidden):
            papers.sources.remove("papers", tables=True)
        assert len(papers.tables()) == 3
        assert papers.sources.remove("mine", tables=True) == [own.table_name]
        assert sorted(t.name for t in papers.tables()) == ["shared_rows", "titles"]
    with papers.tenant("beta"):
        papers.sources.add(
            "papers", tmp_path / "papers.csv", options={"header": True}
        )  # hides the shared one
        hiding = papers.materialize("hiding", "SELECT id FROM papers")
        assert papers.sources.remove("papers", tables=True) == [hiding.table_name]
        assert [t.name for t in papers.tables()] == ["titles"]


def test_adding_the_very_same_source_again_changes_nothing_so_that_a_notebook_can_be_run_again(
    papers, tmp_path
):
    papers.materialize("titles", "SELECT id FROM papers")
    frame = {"x": [1, 2]}
    held = pa.table(frame)
    papers.sources.add("f", held)
    for _ in range(2):
        assert papers.sources.add("papers", tmp_path / "papers.csv").name == "papers"
        assert papers.sources.add("f", held).name == "f"
    assert papers.staleness("titles") == jl.Fresh()
    with pytest.raises(jl.SourceExists):
        papers.sources.add("f", pa.table(frame))


def test_a_first_run_that_fails_leaves_no_recipe_and_a_later_one_keeps_it(papers):
    with pytest.raises(jl.DuplicateKey):
        papers.materialize("once", "SELECT 1 AS k FROM papers", key="k")
    assert "once" not in [r.name for r in papers.recipes()]
    papers.materialize("once", "SELECT id FROM papers")
    with pytest.raises(jl.DuplicateKey):
        papers.materialize("once", "SELECT 1 AS k FROM papers", key="k")
    assert "once" in [r.name for r in papers.recipes()]
    assert isinstance(papers.staleness("once"), jl.Stale)


def test_a_small_result_can_be_read_again_however_it_was_read_first(papers):
    for read in (
        lambda r: pa.table(r),
        lambda r: list(r.batches(2)),
        lambda r: r.arrow(),
        lambda r: r.fetchall(),
    ):
        rows = papers.sql("SELECT id FROM papers ORDER BY id")
        read(rows)
        assert [row[0] for row in rows.fetchall()] == sorted(row[0] for row in rows.fetchall())
        assert len(rows) == rows.arrow().num_rows


def test_a_source_that_is_gone_is_named(papers, tmp_path):
    (tmp_path / "papers.csv").unlink()
    with pytest.raises(jl.SourceUnavailable, match="source 'papers' cannot be read"):
        papers.sql("SELECT id FROM papers")


def test_a_parameter_may_be_called_text(papers):
    assert papers.sql("SELECT $text AS said", text="hello").fetchall() == [("hello",)]
    assert "id" in str(papers.explain("SELECT id FROM papers WHERE id = $text", text=1))


# -- statements ------------------------------------------------------------------------------------


def test_a_syntax_error_has_a_caret_under_its_place(papers):
    with pytest.raises(jl.SqlError) as caught:
        papers.sql("SELECT id\nFORM papers")
    line, caret = caught.value.excerpt.split("\n")
    assert line == "FORM papers"
    assert caret.index("^") in range(len(line))


@pytest.mark.parametrize(
    "statement",
    ["SELECT * FROM jammi.later", 'SELECT * FROM "jammi.later"', "SELECT * FROM jammi.Later"],
)
def test_a_recipe_that_was_never_computed_says_what_makes_it(papers, statement):
    papers.define("later", "SELECT id FROM papers")
    with pytest.raises(
        jl.TableNotFound, match="The recipe 'later' has no ready version yet"
    ) as caught:
        papers.sql(statement)
    assert (
        "ws.recompute('later')" in caught.value.hint
        and caught.value.excerpt.split("\n")[1].index("^") == 14
    )
    papers.recompute("later")
    assert len(papers.sql(statement).fetchall()) == 2


def test_a_name_given_to_check_and_status_means_that_name_and_removes_nothing(papers, tmp_path):
    """Once the name was taken for `repair` and for `deep`: an orphan was deleted, all was read."""
    orphan = tmp_path / "lab" / "results" / "orphan.parquet"
    orphan.write_bytes(b"x")
    os.utime(orphan, (0, 0))
    papers.materialize("titles", "SELECT 1 AS one")
    for call in (papers.check, papers.status):
        with contextlib.suppress(jl.JammiError, TypeError):
            call("titles")
    assert orphan.exists() and len(papers.check("titles")) == 0
    with pytest.raises((jl.InvalidArgument, TypeError), match=r"staleness|argument"):
        papers.status("titles")


def test_lists_of_recipes_are_asked_by_name(papers):
    for listed in (papers.recipes(), papers.status()):
        assert (
            "Titles" in listed
            and "title" not in listed
            and None not in listed
            and listed["TITLES"] in listed
        )
        assert listed["titles"].name == "titles"
        with pytest.raises(jl.TableNotFound) as caught:
            listed["title"]
        assert "titles" in caught.value.near
    assert papers.recipes()[-1].name == "titles"


# -- processes -------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
def test_a_workspace_that_was_carried_over_a_fork_says_so(run_python):
    done = run_python(
        """
import os, warnings
warnings.simplefilter("ignore")
import jammi_lab as jl
ws = jl.open("lab")
ws.materialize("t", "SELECT 1 AS one")
rows = ws.sql("SELECT range AS r FROM range(3_000_000)")
read, write = os.pipe()
pid = os.fork()
if pid == 0:
    said = []
    for use in (ws.status, lambda: ws.sql("SELECT 1"), lambda: ws.materialize("u", "SELECT 2 AS two"), lambda: ws.staleness("t"), rows.fetchall):
        try:
            use()
            said.append("nothing")
        except jl.ForkedWorkspace as error:
            said.append("forked")
        except BaseException as error:
            said.append(type(error).__name__ + ": " + str(error)[:80])
    ws.close()
    os.write(write, ";".join(said).encode())
    os._exit(0)
os.close(write)
print(os.read(read, 4000).decode())
os.waitpid(pid, 0)
print(ws.staleness("t"), [t.name for t in ws.tables(status=None)])
with jl.open("lab") as other:
    print(other.recovery)
ws.materialize("v", "SELECT 3 AS three")
ws.close()
"""
    )
    assert done.stdout.splitlines() == [
        "forked;forked;forked;forked;forked",
        "fresh ['t']",
        "recovery: nothing to do",
    ]


@pytest.mark.parametrize("is_used_meanwhile", [True, False])
def test_a_kernel_whose_log_was_removed_neither_goes_on_nor_overwrites_others(
    run_python, tmp_path, is_used_meanwhile
):
    """As `git clean` does, or a tool that synchronizes folders."""
    done = run_python(
        f"""
import os, sys, jammi_lab as jl
from tests.processes import run
ws = jl.open("lab")
live = ws.mutable.create("m", {{"id": "BIGINT"}}, primary_key=["id"])
live.insert([{{"id": 1}}])
for suffix in ("-wal", "-shm"):
    os.unlink("lab/catalog.sqlite3" + suffix)
if {is_used_meanwhile}:
    code = "import jammi_lab as jl; ws = jl.open('lab'); ws.materialize('other', 'SELECT 7 AS n'); ws.close()"
    run([sys.executable, "-c", code], check=True)
for use in (lambda: live.insert([{{"id": 2}}]), ws.status):
    try:
        use()
        print("went on")
    except jl.WorkspaceNotFound as error:
        print(error.message.partition("catalog.sqlite3")[2])
ws.close()
"""
    )
    assert (
        done.stdout.splitlines()
        == [" was removed or replaced while it was open; nothing was changed."] * 2
    )
    with jl.open(tmp_path / "lab") as ws:
        if is_used_meanwhile:
            assert ws.table("other").read().fetchall() == [(7,)]
        else:  # what it had acknowledged was saved
            assert ws.mutable["m"].read().fetchall() == [(1,)]


def test_a_forked_process_ends_as_it_says(run_python):
    done = run_python(
        """
import os, sys, warnings
warnings.simplefilter("ignore")
import jammi_lab as jl
ws = jl.open("lab")
open("c.csv", "w").write("a\\n1\\n")
ws.sources.add("c", "c.csv")
ws.sql("SELECT * FROM c").fetchall()
if not (pid := os.fork()):
    sys.exit(3)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), ws.sql("SELECT * FROM c").fetchall())
"""
    )
    assert done.stdout.split(maxsplit=1) == ["3", "[(1,)]\n"]


def test_the_folder_of_a_new_workspace_is_durable_before_anything_is_promised_in_it(
    tmp_path, monkeypatch
):
    synced, sync = [], files.sync_folder
    monkeypatch.setattr(files, "sync_folder", lambda folder: (synced.append(folder), sync(folder)))
    with jl.open(tmp_path / "above" / "lab"):
        assert synced[:2] == [tmp_path, tmp_path / "above"]


def test_a_float32_is_shown_with_the_digits_that_tell_it_apart(papers):
    shown = repr(papers.sql("SELECT 0.1::FLOAT AS x, NULL::FLOAT AS y, 0.1::DOUBLE AS z"))
    assert shown.splitlines()[3].split() == ["0.1", "NULL", "0.1"]


@pytest.mark.leaves_behind("the catalog that was moved away still has its writer")
def test_a_workspace_whose_folder_is_replaced_leaves_the_new_one_alone_and_closes(
    tmp_path,
):
    with jl.open(tmp_path / "lab") as old:
        old.materialize("a", "SELECT 1 AS x")
        (tmp_path / "lab").rename(tmp_path / "away")
        with jl.open(tmp_path / "lab") as new:
            there = new.materialize("b", "SELECT 2 AS x")
            for use in (
                lambda: old.materialize("c", "SELECT 3 AS x"),
                lambda: old.fsck(repair=True, grace=0),
                lambda: old.backup(tmp_path / "copy.sqlite3"),
            ):
                with pytest.raises(
                    jl.WorkspaceNotFound,
                    match="removed or replaced while it was open; nothing was changed",
                ):
                    use()
            old.close()
            found = new.fsck(deep=True)
            assert (
                not (found.missing or found.orphans or found.damaged)
                and type(there.verify()).__name__ == "Match"
                and [t.name for t in new.tables()] == ["b"]
            )
    assert not (tmp_path / "copy.sqlite3").exists()


@pytest.mark.leaves_behind("the catalog that was moved away still has its writer")
@pytest.mark.parametrize("point", ["lock.made", "parquet.before_row_group"])
def test_a_folder_that_is_moved_while_it_is_opened_or_used_is_not_made_again(
    tmp_path, point, fault_hook
):
    """Neither is what a build saves meanwhile."""
    lab = tmp_path / "lab"
    jl.open(lab).close()

    def move(name: str) -> None:
        if name == point and lab.exists():
            lab.rename(tmp_path / "away")

    fault_hook(move)
    with pytest.raises(jl.WorkspaceNotFound, match=r"was (moved|removed)"), jl.open(lab) as ws:
        ws.map("m", len_of, "SELECT 1 AS k, 'a' AS t", key="k", inputs=["t"], version="1")
    assert not lab.exists()
    with jl.open(tmp_path / "away") as ws:
        assert "m" not in ws and not ws.fsck(deep=True)


def len_of(t: str) -> int:
    return len(t)


def test_nanoseconds_without_pandas_are_shown_and_refused_as_pythons_values():
    program = """
import sys

class NoPandas:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "pandas":
            raise ImportError(name)

sys.meta_path.insert(0, NoPandas())
import jammi_lab as jl, tempfile
ws = jl.open(tempfile.mkdtemp())
for value in ("TIMESTAMP_NS '2020-01-01 10:11:12.123456789'", "TIME_NS '10:11:12.123456789'"):
    assert "10:11:12.123456789" in repr(ws.sql(f"SELECT {value} AS t")), repr(ws.sql(f"SELECT {value} AS t"))
    try:
        ws.sql(f"SELECT {value} AS t").fetchall()
    except jl.InvalidArgument as error:
        assert "nanoseconds" in str(error)
    else:
        raise SystemExit("it was given")
"""
    subprocess.run([sys.executable, "-c", program], check=True)
