"""A workspace whose catalog is on a PostgreSQL server: it opens, answers, recovers and is rebuilt
like one whose catalog is a file."""

import json
import os
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import jammi_lab as jl
from jammi_lab.catalog.connection import Connection
from jammi_lab.core.errors import (
    InvalidArgument,
    SourceUnavailable,
    WorkspaceNotFound,
    WorkspaceReadOnly,
)
from jammi_lab.core.verdicts import Fresh, Match, verdict_code
from jammi_lab.inputs.observation import Observation
from jammi_lab.inputs.source_names import SourceKind
from tests.conftest import ROOT
from tests.inside import services_of
from tests.services.servers import pgbouncer, run_postgres
from tests.services.test_workspace_store import names_in

pytestmark = pytest.mark.services
Place = tuple[str, dict[str, Any]]
VENUES = "SELECT venue, count(*) AS n FROM papers GROUP BY venue"


@pytest.fixture
def url(fresh_postgres_url: str) -> str:
    return fresh_postgres_url


@pytest.fixture
def papers(tmp_path: Path) -> Path:
    path = tmp_path / "papers.csv"
    path.write_text("id,venue\n1,a\n2,b\n3,a\n")
    return path


@pytest.fixture
def lab(tmp_path: Path, url: str, papers: Path, nothing_left_behind: None) -> Iterator[Any]:
    with jl.open(tmp_path / "lab", catalog=url) as ws:
        ws.sources.add("papers", papers)
        yield ws


def statuses(url: str) -> dict[str, str]:
    return dict(run_postgres(url, "SELECT table_name, status FROM jammi.result_tables"))  # type: ignore[arg-type]


def test_jammi_toml_and_the_environment_can_name_the_catalog(lab, tmp_path, url, monkeypatch):
    lab.materialize("venues", VENUES)
    with pytest.raises(WorkspaceNotFound, match="stored on a server"):
        jl.open(tmp_path / "lab")
    monkeypatch.setenv("JAMMI_CATALOG__URL", url)
    with jl.open(tmp_path / "lab") as ws:
        assert "venues" in ws
    monkeypatch.delenv("JAMMI_CATALOG__URL")
    (tmp_path / "lab" / "jammi.toml").write_text(f'[catalog]\nurl = "{url}"\n')
    with jl.open(tmp_path / "lab") as ws:
        assert "venues" in ws and ws.settings["catalog.url"] == url
        with pytest.raises(InvalidArgument, match="cannot be changed"):
            ws.settings.set("catalog.url", "")


def test_a_password_is_in_nothing_that_is_shown_or_stored(tmp_path, strict_postgres_url, papers):
    secret = strict_postgres_url.split(":")[2].partition("@")[0]
    with jl.open(tmp_path / "lab", catalog=strict_postgres_url) as ws:
        ws.sources.add("papers", papers)
        ws.materialize("venues", VENUES)
        ws.backup(tmp_path / "backup.sqlite3")
        for shown in (
            repr(ws),
            repr(ws.settings),
            ws.settings["catalog.url"],
            repr(ws.sources),
            repr(ws.fsck()),
        ):
            assert secret not in shown
    for path in tmp_path.rglob("*"):
        assert path.is_dir() or secret.encode() not in path.read_bytes(), path
    rows = run_postgres(
        strict_postgres_url,
        "SELECT query_to_xml('SELECT * FROM jammi.' || tablename, true, true, '')::text FROM pg_tables WHERE schemaname = 'jammi'",
    )
    assert len(rows) > 10 and secret not in str(rows)


@pytest.mark.parametrize("what", ["drops settings", "answers by another backend"])
def test_a_pooler_is_refused(tmp_path, url, monkeypatch, what):
    """With PgBouncer's ignore_startup_parameters = options tables came into another schema; where
    the user's own settings named the right one, writers lost their locks."""
    import psycopg

    connect = psycopg.connect
    if what == "drops settings":
        monkeypatch.setattr(
            psycopg, "connect", lambda *at, **given: connect(*at, **{**given, "options": ""})
        )
    else:
        monkeypatch.setattr(psycopg.ConnectionInfo, "backend_pid", -955731350)
    with pytest.raises(InvalidArgument, match="A connection pooler in front of"):
        jl.open(tmp_path / "lab", catalog=url)
    assert run_postgres(url, "SELECT to_regclass('catalog_format')") == [(None,)]


@pytest.mark.skipif(shutil.which("pgbouncer") is None, reason="PgBouncer is needed")
@pytest.mark.parametrize("mode", ["session", "transaction"])
def test_pgbouncer_is_refused_also_where_it_chooses_the_schema(tmp_path, url, mode):
    with (
        pgbouncer(url, mode, "SET search_path TO jammi") as pooled,
        pytest.raises(InvalidArgument, match="A connection pooler in front of"),
    ):
        jl.open(tmp_path / "lab", catalog=pooled)
    with jl.open(tmp_path / "lab", catalog=url) as ws:  # nothing of the kind was left
        assert ws.tables() == []


def test_two_workspaces_in_one_database_are_kept_apart(lab, tmp_path, url):
    lab.materialize("venues", VENUES)
    with pytest.raises(InvalidArgument, match="belongs to the workspace") as refused:
        jl.open(tmp_path / "other", catalog=url)
    assert "?schema=" in refused.value.hint
    with jl.open(tmp_path / "other", catalog=f"{url}?schema=other") as other:
        assert not [*other.tables(), *other.sources]
        other.materialize("venues", "SELECT 1 AS x")
    assert lab.table("venues").version == 1 and not lab.fsck().orphans
    for path, schema in ((tmp_path / "other", "jammi"), (tmp_path / "lab", "other")):
        with pytest.raises(InvalidArgument, match="belongs to"):
            jl.open(path, catalog=f"{url}?schema={schema}")


@pytest.mark.parametrize(
    "statement",
    """CREATE VIEW jammi.v AS SELECT 1
CREATE FUNCTION jammi.f() RETURNS int LANGUAGE sql AS 'SELECT 1'
CREATE OPERATOR jammi.= (FUNCTION = texteq, LEFTARG = text, RIGHTARG = text)
CREATE TRIGGER t BEFORE UPDATE ON jammi.writers FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()
CREATE RULE r AS ON INSERT TO jammi.writers DO ALSO SELECT 1
ALTER TABLE jammi.recipes ENABLE ROW LEVEL SECURITY
ALTER TABLE jammi.writers ADD CHECK (lower(host) <> '')
ALTER TABLE jammi.writers ALTER host SET DEFAULT lower('x')
CREATE FUNCTION public.f(text) RETURNS text IMMUTABLE LANGUAGE sql AS 'SELECT $1'; CREATE INDEX ON jammi.writers (public.f(host))
CREATE FUNCTION public.f(text) RETURNS text IMMUTABLE LANGUAGE sql AS 'SELECT $1'; CREATE INDEX ON jammi.writers (host) WHERE public.f(host) <> ''
CREATE DOMAIN public.d AS text; ALTER TABLE jammi.writers ALTER host TYPE public.d
CREATE TABLE public.child () INHERITS (jammi.recipes)""".splitlines(),
)
def test_a_catalog_that_runs_code_of_somebody_else_is_refused(lab, url, statement):
    run_postgres(url, statement)
    with pytest.raises(WorkspaceNotFound, match="runs code in place of reading rows"):
        jl.open(lab.path, catalog=url)


def test_columns_of_another_type_are_a_damaged_catalog(lab, url):
    run_postgres(url, "ALTER TABLE jammi.recipes ALTER name TYPE bytea USING name::bytea")
    with pytest.raises(jl.TableDamaged):
        lab.lineage()


def test_a_folder_with_tables_is_not_opened_with_a_new_catalog_that_would_hide_them(
    lab, tmp_path, url
):
    lab.materialize("venues", VENUES)
    lab.close()
    with pytest.raises(WorkspaceNotFound, match="is new, but result tables are in"):
        jl.open(tmp_path / "lab", catalog=f"{url}?schema=fresh")
    with jl.open(tmp_path / "local") as ws:
        ws.materialize("x", "SELECT 1 AS x")
    with pytest.raises(InvalidArgument, match=r"catalog\.sqlite3"):
        jl.open(tmp_path / "local", catalog=f"{url}?schema=fresh")


def test_a_folder_that_is_moved_while_it_is_open_is_not_made_again(lab, tmp_path, url):
    """The tables of the new one would be lost to the folder that was moved."""
    lab.materialize("venues", VENUES)
    (tmp_path / "lab").rename(tmp_path / "moved")
    for make in (
        lambda: lab.materialize("ids", "SELECT id FROM papers"),
        lambda: lab.lexical("words", "papers", key="id", text="venue"),
    ):
        with pytest.raises(WorkspaceNotFound, match="was moved or removed"):
            make()
    report = lab.fsck(repair=True, grace=0)
    assert len(report.missing) == 1 and "was moved or removed" in report.errors[0]
    lab.close()
    assert not (tmp_path / "lab").exists()
    with jl.open(tmp_path / "moved", catalog=url) as ws:
        assert isinstance(ws.staleness("venues"), Fresh) and not ws.fsck(deep=True)


def test_an_error_with_a_nul_does_not_keep_a_build_from_failing(lab):
    def fail(*_: object) -> None:
        raise ValueError("nul \0")

    for _ in range(2):
        with pytest.raises(jl.StepFailed, match=r"nul \\0"):
            lab.compute("c", fail, inputs=["papers"], version="1")
    assert [t.status for t in lab.tables(status=None)] == ["failed", "failed"]


def test_what_is_not_there_is_not_made_unasked(tmp_path, url):
    for options in ({"create": False}, {"read_only": True}):
        with pytest.raises(WorkspaceNotFound):
            jl.open(tmp_path / "lab", catalog=url, **options)
    assert run_postgres(url, "SELECT to_regnamespace('jammi')") == [(None,)]


def rows_as_they_lie(url: str) -> dict[str, Any]:
    """Of every table of a database what its rows are, where they lie, and who last wrote or locked
    them."""
    tables = run_postgres(
        url,
        "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables WHERE schemaname !~ '^(pg_|information_schema)'",
    )
    return {
        name: run_postgres(url, f"SELECT ctid, xmin, xmax, t::text FROM {name} t ORDER BY ctid")
        for (name,) in tables
    }


def test_a_read_only_workspace_answers_and_changes_nothing(lab, tmp_path, url):
    lab.materialize("venues", VENUES)
    before = rows_as_they_lie(url)
    with jl.open(tmp_path / "lab", catalog=url, read_only=True) as ws:
        assert [verdict_code(row.verdict) for row in ws.status()] == ["fresh"] and ws.table(
            "venues"
        ).verify() == Match()
        with pytest.raises(WorkspaceReadOnly):
            ws.materialize("more", "SELECT 1 AS x")
    assert rows_as_they_lie(url) == before and len(before) > 5


def test_a_lost_catalog_is_made_again_from_the_manifests(lab, tmp_path, url):
    lab.materialize("venues", VENUES)
    lab.materialize("busy", "SELECT venue FROM jammi.venues WHERE n > 1")
    with pytest.raises(InvalidArgument, match="replaces none") as caught:
        jl.rebuild(tmp_path / "lab", catalog=url)
    lab.close()
    [move_aside] = re.findall("ALTER SCHEMA .* RENAME TO [a-z_]+", caught.value.hint)
    run_postgres(url, move_aside)
    report = jl.rebuild(tmp_path / "lab", catalog=url)
    assert sorted(report.recipes) == ["busy", "venues"] and report.kept is None
    with jl.open(tmp_path / "lab", catalog=url) as ws:
        assert ws.table("busy").read().fetchall() == [("a",)] and ws.lineage("venues").edges
    run_postgres(url, "DROP SCHEMA jammi CASCADE")
    jl.rebuild(tmp_path / "lab", catalog=url)
    with jl.open(tmp_path / "lab", catalog=url) as ws:
        assert sorted(recipe.name for recipe in ws.recipes()) == ["busy", "venues"]


def test_a_rebuild_that_fails_leaves_a_catalog_that_hides_no_table(lab, tmp_path, url, monkeypatch):
    lab.materialize("venues", VENUES)
    lab.close()
    run_postgres(url, "DROP SCHEMA jammi CASCADE")
    with monkeypatch.context() as patch:
        patch.setattr("jammi_lab.store.rebuild.fill_catalog", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            jl.rebuild(tmp_path / "lab", catalog=url)
    with pytest.raises(WorkspaceNotFound, match="is new"):
        jl.open(tmp_path / "lab", catalog=url)


def test_a_server_that_went_away_is_a_typed_error_and_its_return_is_enough(lab, url):
    lab.materialize("venues", VENUES)
    dialect = services_of(lab).catalog.database.dialect
    real, dialect._arguments = dialect._arguments, {**dialect._arguments, "port": 1}
    run_postgres(
        url,
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )
    for ask in (lab.status, lambda: lab.materialize("more", "SELECT 2 AS x")):
        with pytest.raises(SourceUnavailable, match="cannot be reached"):
            ask()
    dialect._arguments = real
    assert lab.materialize("more", "SELECT 2 AS x").version == 1
    assert [t.status for t in lab.tables(status=None)] == ["ready", "ready"]
    writers = run_postgres(url, "SELECT count(*) FROM jammi.writers WHERE retired_at IS NULL")
    assert writers == [(1,)]


def test_a_build_whose_server_is_gone_while_it_observes_is_no_unpinned_table(lab, url, monkeypatch):
    """It is there again when the table is published."""
    import psycopg

    real = SourceKind.observe

    def refuse(**_: Any) -> None:
        raise psycopg.OperationalError("connection refused")

    def observe_while_it_is_away(kind, source, observation):
        run_postgres(
            url,
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )
        with monkeypatch.context() as patch:
            patch.setattr(psycopg, "connect", refuse)
            return real(kind, source, observation)

    monkeypatch.setattr(SourceKind, "observe", observe_while_it_is_away)
    with pytest.raises(SourceUnavailable, match=r"The catalog .* cannot be reached"):
        lab.materialize("venues", VENUES)
    assert "venues" not in lab
    monkeypatch.undo()
    assert lab.materialize("venues", VENUES).outcome == "computed"


def test_a_kernel_whose_lock_the_server_let_go_has_it_again_before_it_builds(lab, tmp_path, url):
    run_postgres(
        url,
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )
    with jl.open(tmp_path / "lab", catalog=url) as other:
        assert not other.recovery  # it was taken for dead; it had left nothing

        def meanwhile(_: object) -> None:
            if [t.status for t in other.tables(status="building")]:
                assert not other.recover()

        assert lab.materialize("venues", VENUES, progress=meanwhile).outcome == "computed"


# -- two processes ---------------------------------------------------------------------------------

CHILD = """
import json, os, sys, time
import jammi_lab as jl
from jammi_lab.storage.files import install_fault_hook
place, options, what = sys.argv[1:]
def say(word):
    os.write(1, (word + "\\n").encode())
def hold(name):
    if name == what:
        say("HOLD")
        time.sleep(600)
if what == "catalog:before-commit":
    install_fault_hook(hold)
with jl.open(place, **json.loads(options)) as ws:
    install_fault_hook(hold)
    if what == "many":
        for turn in range(15):
            ws.materialize(f"t{turn % 3}", f"SELECT {turn // 3} AS turn, '{os.getpid()}' AS who")
            ws.materialize("shared", f"SELECT {turn} AS x")
            ws.status()
    else:
        ws.materialize("held", "SELECT 1 AS x")
say("DONE")
"""


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path, url: str) -> Place:
    """Where a workspace is, in a folder or a bucket, and how it is opened."""
    if getattr(request, "param", "folder") == "folder":
        return str(tmp_path / "lab"), {"catalog": url}
    bucket = request.getfixturevalue("bucket")
    return bucket.url("lab"), {"catalog": url, "storage_options": bucket.options}


@pytest.fixture
def child(place: Place, start_python: Callable[..., Any]) -> Callable[[str], Any]:
    return lambda what: start_python(CHILD, place[0], json.dumps(place[1]), what)


@pytest.mark.parametrize(
    ("point", "status", "report"),
    [
        ("publish:building", "failed", "failed"),
        ("publish:sealed", "failed", "failed"),
        ("file.after_put", "failed", "failed"),
        ("publish:manifest-durable", "ready", "promoted"),
        ("catalog:before-commit", None, None),
        ("publish:ready", "ready", None),
    ],
)
@pytest.mark.parametrize("place", ["folder", "bucket"], indirect=True)
def test_a_kernel_that_is_stopped_is_spared_and_one_that_is_killed_is_settled(
    place,
    child,
    url,
    point,
    status,
    report,
):
    at, options = place
    if point == "file.after_put" and "storage_options" not in options:
        pytest.skip("a file is not put")
    other = child(point)
    assert other.stdout.readline() == "HOLD\n"
    if point == "catalog:before-commit":
        # the very first one, of the new catalog itself: it is as if it had not been
        other.kill()
        other.wait()
        with jl.open(at, **options) as ws:
            assert not ws.recovery and ws.tables(status=None) == []
        return
    other.send_signal(signal.SIGSTOP)
    with jl.open(at, **options) as ws:
        assert not ws.recovery and ws.recovery.spared == [
            name for name, now in statuses(url).items() if now == "building"
        ]
        other.kill()
        other.wait()
        until = [ws.recover()]
        while report and not until[-1] and len(until) < 200:
            until.append(ws.recover())  # the server sees the connection end within a moment
        settled = until[-1]
        assert (list(getattr(settled, report)) if report else []) == (
            list(statuses(url)) if report else []
        )
        assert list(statuses(url).values()) == [status] and not ws.recover()
        assert ws.fsck().orphans == []
        assert len(names_in(services_of(ws).folder)) == (2 if status == "ready" else 0)
        assert ws.materialize("held", "SELECT 1 AS x").outcome == (
            "reused" if status == "ready" else "computed"
        )


def test_two_kernels_make_tables_at_once_and_lose_nothing(child, tmp_path, url):
    children = [child("many"), child("many")]
    with jl.open(tmp_path / "lab", catalog=url) as ws:
        for turn in range(10):
            ws.materialize("mine", f"SELECT {turn} AS turn")
            assert not ws.recover()
        for each in children:
            assert each.stdout.read() == "DONE\n" and each.wait() == 0
        assert set(statuses(url).values()) == {"ready"}
        assert sorted(t.version for t in ws.table("t0").history()) == list(
            range(1, len(ws.table("t0").history()) + 1)
        )
        assert len({t.definition_hash for t in ws.tables() if t.name == "shared"}) == 15
        assert all(t.verify() == Match() for t in ws.tables()) and ws.fsck().orphans == []


def test_a_results_folder_that_is_gone_is_said(lab, tmp_path, url):
    lab.materialize("venues", VENUES)
    lab.close()
    shutil.rmtree(tmp_path / "lab")
    with pytest.raises(InvalidArgument, match="belongs to the workspace in"):
        jl.open(tmp_path / "lab", catalog=url)


def test_the_rights_of_the_guide_are_enough_for_writers_and_readers(tmp_path, url):
    page = (ROOT / "docs" / "servers.md").read_text(encoding="utf-8")
    sql = page.partition("```sql\n")[2].partition("```")[0]
    roles = {
        name: f"jammi_{name}_{os.getpid()}" for name in ("lab_writers", "lab_readers", "ada", "ben")
    }
    for name, role in roles.items():
        sql = sql.replace(name, role)
    people = [f"CREATE ROLE {roles[name]} LOGIN" for name in ("ada", "ben")]
    own = {name: url.replace("//postgres@", f"//{roles[name]}@") for name in ("ada", "ben")}
    try:
        run_postgres(url, *people, *(each for each in sql.split(";") if each.strip()))
        with jl.open(tmp_path / "lab", catalog=own["ada"]) as ws:
            ws.materialize("x", "SELECT 1 AS x")
            ws.mutable.create("labels", {"id": "int64"}, primary_key=["id"]).insert([{"id": 7}])
        with jl.open(tmp_path / "lab", catalog=own["ben"], read_only=True) as ws:
            assert ws.staleness("x") == Fresh()
            assert ws.sql("SELECT * FROM jammi.x, mutable.labels").fetchall() == [(1, 7)]
    finally:
        for role in roles.values():
            run_postgres(url, f"DROP OWNED BY {role} CASCADE")
        run_postgres(url, f"DROP ROLE {', '.join(roles.values())}")


def test_a_status_and_a_plan_ask_the_catalog_equally_often_of_few_and_of_many(
    tmp_path, url, monkeypatch
):
    """Each is a way to a server that may be 20 ms away."""
    asked = list[str]()
    fetch, execute = Connection.fetch, Connection.execute

    def note(function):
        def call(connection, text, *parameters):
            asked.append(text)
            return function(connection, text, *parameters)

        return call

    monkeypatch.setattr(Connection, "fetch", note(fetch))
    monkeypatch.setattr(Connection, "execute", note(execute))

    def count(work, expected):
        asked.clear()
        assert work() == expected
        return len(asked)

    few, many = dict[str, int](), dict[str, int]()
    for size, counts in ((2, few), (10, many)):
        with jl.open(tmp_path / "lab", catalog=url) as ws:
            for number in range(size):
                source = tmp_path / f"s{number}.csv"
                source.write_text("n\n1\n")
                if f"s{number}" not in ws.sources:
                    ws.sources.add(f"s{number}", source)
                ws.materialize(f"t{number}", f"SELECT n + {number} AS n FROM s{number}")
        with jl.open(tmp_path / "lab", catalog=url) as ws:
            for word in ("first", "second"):
                counts[f"{word} status"] = count(
                    lambda: {str(row.verdict) for row in ws.status()}, {"fresh"}
                )
            counts["plan"] = count(lambda: list(ws.plan()), [])
            for number in range(size):
                (tmp_path / f"s{number}.csv").write_text("n\n2\n")
            counts["status of changes"] = count(
                lambda: {str(row.verdict).partition(":")[0] for row in ws.status()}, {"stale"}
            )
            ws.recompute()
    assert all(many[word] <= few[word] <= 12 for word in many), (few, many)


@pytest.fixture
def other_papers(tmp_path: Path) -> Path:
    path = tmp_path / "other.csv"
    path.write_text("id,venue\n1,c\n")
    return path


def test_a_source_that_another_kernel_replaced_is_seen_by_the_next_look(
    lab, other_papers, tmp_path, url
):
    lab.sources.add("other", other_papers)
    lab.materialize("venues", VENUES)
    lab.materialize("rows", "SELECT * FROM other")
    assert {str(row.verdict) for row in lab.status()} == {"fresh"}
    with jl.open(tmp_path / "lab", catalog=url) as second:
        second.sources.add("papers", other_papers, replace=True)
        second.sources.remove("other")
    verdicts = {row.name: str(row.verdict) for row in lab.status()}
    assert "papers changed" in verdicts["venues"] and "other" in verdicts["rows"]
    assert lab.materialize("venues", VENUES).arrow().to_pylist() == [{"venue": "c", "n": 1}]
    assert lab.staleness("venues") == Fresh()


def test_a_source_that_is_replaced_between_a_look_and_the_read_is_looked_at_anew(
    lab, other_papers, tmp_path, url, monkeypatch
):
    observe, replaced = Observation.observe, list[str]()

    def observe_and_replace(self, *given, **named):
        state = observe(self, *given, **named)
        if not replaced:
            replaced.append("papers")
            with jl.open(tmp_path / "lab", catalog=url) as second:
                second.sources.add("papers", other_papers, replace=True)
        return state

    monkeypatch.setattr(Observation, "observe", observe_and_replace)
    made = lab.materialize("venues", VENUES)
    assert made.arrow().to_pylist() == [{"venue": "c", "n": 1}]
    assert made.staleness() == Fresh() and replaced
