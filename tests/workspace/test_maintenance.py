"""Versions as people hold them: pinned, compared, restored, and named in FROM."""

import gc
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

import jammi_lab as jl
from jammi_lab.core.errors import (
    InvalidArgument,
    SqlError,
    StatementNotAllowed,
    TableDamaged,
    TableNotFound,
    TenantForbidden,
)
from tests.cases import cases
from tests.inside import services_of
from tests.templates import Template

if TYPE_CHECKING:
    from jammi_lab.core.records import Progress

PAPERS = "id,venue,year\n1,a,2020\n2,b,2021\n3,a,2022\n"
VENUES = "SELECT venue, count(*) AS n FROM papers GROUP BY venue"


def _build_two(folder: Path) -> None:
    papers = folder / "papers.csv"
    papers.write_text(PAPERS)
    with jl.open(folder / "lab") as lab:
        lab.sources.add("papers", papers)
        lab.materialize("venues", VENUES, key="venue")
        papers.write_text("id,venue,year\n1,a,2020\n3,a,2022\n4,c,2023\n5,a,2024\n")
        lab.materialize("venues", VENUES, key="venue")


TEMPLATES = {"two": Template(_build_two)}


@pytest.fixture
def papers(tmp_path: Path) -> Path:
    path = tmp_path / "papers.csv"
    if not path.exists():
        path.write_text(PAPERS)
    return path


@pytest.fixture
def lab(ws: Any, papers: Path) -> Any:
    if "papers" not in ws.sources:
        ws.sources.add("papers", papers)
    return ws


@pytest.fixture
def two(lab: Any) -> tuple[Any, Any]:
    """Two versions of `venues`: a 2, b 1, then a 3, c 1."""
    gc.collect()  # an unread result of another test still leases the file, which has the same path
    second, first = lab.table("venues").history()
    return first, second


@pytest.fixture
def versions(lab: Any) -> Callable[..., Any]:
    """`versions(*frames, key=None)` registers one version of `t` for each frame and gives the
    last."""

    def make(*frames: dict[str, Any], key: Any = None) -> Any:
        return [lab.register("t", pa.table(frame), producer="test", key=key) for frame in frames][
            -1
        ]

    return make


# -- pin -------------------------------------------------------------------------------------------


def test_a_pin_and_its_note_last(lab, two):
    two[0].pin("the paper cites it")
    again = lab.table("venues", version=1)
    assert (again.pinned, again.note, two[0].pinned, two[0].note) == (
        True,
        "the paper cites it",
        True,
        "the paper cites it",
    )
    again.unpin()
    assert (
        lab.table("venues", version=1).pinned,
        lab.table("venues", version=1).note,
        again.pinned,
    ) == (False, None, False)


def test_a_handle_from_before_a_rename_touches_no_other_recipe(lab, two):
    lab.rename("venues", "places")
    lab.materialize("venues", "SELECT 1 AS one")
    with pytest.raises(TableNotFound):
        two[1].restore()
    with pytest.raises(TableNotFound):
        two[0].pin()
    for held in two:
        with pytest.raises(TableNotFound, match="no longer"):
            held.drop()
    assert not lab.table("venues").pinned and [
        t.version for t in lab.table("venues").history()
    ] == [1]
    assert [t.version for t in lab.table("places").history()] == [2, 1]


@pytest.mark.parametrize("taken", [None, "SELECT 1 AS one", VENUES])
def test_a_handle_from_before_a_rename_is_judged_and_compared_by_its_recipe(lab, two, taken):
    lab.materialize("others", VENUES)  # refers to the bytes of the last one, too
    lab.rename("venues", "places")
    if taken is not None:
        lab.materialize("venues", taken)
    first, last = two
    assert (
        [(t.name, t.version) for t in last.history()]
        == [(t.name, t.version) for t in first.history()]
        == [("places", 2), ("places", 1)]
    )
    assert (
        str(last.staleness()) == str(lab.staleness(last.table_name)) == "fresh"
        and lab.why(last).lines[0] == "places, version 2: fresh"
    )
    assert (
        str(first.staleness())
        == str(lab.staleness(first.table_name))
        == "stale: papers changed, 3 → 4 rows"
    )
    assert str(last.diff()).startswith("places, version 1 → 2: 1 row added") and last.diff(
        1
    ).removed.to_pylist() == [{"venue": "b", "n": 1}]
    assert [(e.input, e.derived) for e in last.lineage().edges] == [("papers", "places")]


# -- diff ------------------------------------------------------------------------------------------


def test_a_diff_by_key_has_rows_added_removed_and_changed(two):
    diff = two[1].diff()
    assert diff.added.to_pylist() == [{"venue": "c", "n": 1}]
    assert diff.removed.to_pylist() == [{"venue": "b", "n": 1}]
    assert diff.changed.to_pylist() == [{"venue": "a", "n": 3}] and diff.before.to_pylist() == [
        {"venue": "a", "n": 2}
    ]
    assert diff and str(diff).startswith(
        "venues, version 1 → 2: 1 row added, 1 row removed, 1 row changed"
    )
    assert "\na         2 → 3\n1 row" in str(diff) and ">2 → 3<" in diff._repr_html_()
    assert "<table" in diff._repr_html_()


def test_a_diff_goes_from_the_named_version_to_this_one(lab, two):
    assert two[0].diff(2).added.to_pylist() == [{"venue": "b", "n": 1}]
    assert not two[1].diff(2) and "no row differs" in str(two[1].diff(2))


def test_a_diff_is_by_default_from_the_ready_version_before(lab, two):
    third = lab.materialize("venues", VENUES, key="venue", cache="bypass")
    assert not third.diff()
    two[1].drop()
    assert third.diff().added.to_pylist() == [{"venue": "c", "n": 1}]


def test_the_first_version_a_missing_one_and_what_is_no_number_have_no_diff(two):
    with pytest.raises(TableNotFound, match="before version 1"):
        two[0].diff()
    with pytest.raises(TableNotFound, match="no ready version 9"):
        two[1].diff(9)
    with pytest.raises(InvalidArgument, match="must be an integer"):
        two[1].diff(two[0])


@pytest.mark.parametrize(
    ("before", "after", "key", "rows"),
    cases("statements/differences", "before", "after", "key", "rows"),
)
def test_a_diff_has_the_rows_that_differ(versions, before, after, key, rows):
    diff = versions(before, after, key=key).diff()
    assert [each.to_pylist() for each in (diff.added, diff.removed, diff.changed)] == rows
    assert isinstance(diff.changed, pa.Table)


def test_nested_values_and_hostile_names_are_compared(versions):
    odd = 'a "q" {0} %s'
    one = {
        "k": ["x", "y"],
        odd: [[1, 2], [3]],
        "N": [{"k": 1}, {"k": 1}],
        "__jammi_new": [{"f": float("nan")}, {"f": 1.0}],
    }
    other = {
        "k": ["x", "y"],
        odd: [[1, 2], [4]],
        "N": [{"k": 1}, {"k": 1}],
        "__jammi_new": [{"f": float("nan")}, {"f": 1.0}],
    }
    assert versions(one, other, key="k").diff().changed.column("k").to_pylist() == ["y"]
    assert versions(one, other).diff().added.column(odd).to_pylist() == [[4]]


def test_columns_that_came_and_went_are_said_and_not_compared(versions):
    diff = versions(
        {"k": [1], "gone": [1], "typed": [1], "v": [1]},
        {"k": [1], "new": [1], "typed": ["1"], "v": [1]},
        key="k",
    ).diff()
    assert diff.columns_added == ["new", "typed"] and diff.columns_removed == ["gone", "typed"]
    assert diff and not diff.changed.num_rows and "columns added: new, typed" in str(diff)


def test_versions_with_other_keys_or_no_common_column_are_compared_as_bags(lab, versions):
    lab.register("t", pa.table({"k": [1, 2], "v": [1, 2]}), producer="test")
    diff = lab.register("t", pa.table({"k": [1, 2], "v": [1, 3]}), producer="test", key="k").diff()
    assert diff.added.to_pylist() == [{"k": 2, "v": 3}] and diff.removed.to_pylist() == [
        {"k": 2, "v": 2}
    ]
    diff = lab.register("t", pa.table({"other": [1]}), producer="test").diff()
    assert diff.added.to_pylist() == [{"other": 1}] and diff.removed.num_rows == 2


def test_a_version_of_a_recipe_that_is_not_there_says_what_there_is(lab, two):
    with pytest.raises(
        TableNotFound, match="There is no recipe 'venus' with a ready version"
    ) as caught:
        lab.sql("SELECT * FROM jammi_version('venus', 1)")
    assert caught.value.near == ("venues",) and "ws.recipes()" in caught.value.hint
    lab.define("later", VENUES)
    with pytest.raises(
        TableNotFound, match="The recipe 'later' has no ready version yet"
    ) as caught:
        lab.sql("SELECT * FROM jammi_version('later', 1)")
    assert "ws.recompute('later')" in caught.value.hint


def test_a_diff_during_which_a_version_is_dropped_names_that_version(lab, two, monkeypatch):
    lookup = services_of(lab).lookup
    find = lookup.version_to_compare

    def version_to_compare(*arguments: Any) -> Any:
        match = find(*arguments)
        two[0].drop()  # as another kernel may, right now
        return match

    monkeypatch.setattr(type(lookup), "version_to_compare", lambda _, *a: version_to_compare(*a))
    with pytest.raises(TableNotFound, match="ersion 1"):
        two[1].diff(version=1)


def test_a_version_that_was_dropped_is_not_there_any_more_and_neither_damaged_nor_unattested(
    lab, two, tmp_path
):
    held = lab.table("venues", version=1)
    two[0].drop()
    for change in (held.pin, held.unpin, held.restore):
        with pytest.raises(TableNotFound, match="Version 1 of 'venues' no longer exists"):
            change()
    for ask in (
        held.read,
        held.staleness,
        held.verify,
        lambda: lab.why(held),
        lambda: lab.verify(held),
        lambda: held.path,
        lambda: held.scan("pyarrow"),
        lambda: held.export(tmp_path / "out.parquet"),
    ):
        with pytest.raises(TableNotFound, match="Version 1 of 'venues' no longer exists"):
            ask()


# -- restore ---------------------------------------------------------------------------------------


def test_a_restored_version_is_the_newest_and_refers_to_the_old_bytes(lab, two, tmp_path):
    assert two[1].restore().version == 2, "it is the newest already"
    again = two[0].restore()
    assert (again.version, again.table_name, again.outcome) == (3, two[0].table_name, "reused")
    assert lab.sql("SELECT n FROM jammi.venues WHERE venue = 'b'").fetchall() == [(1,)]
    assert [t.version for t in again.history()] == [3, 2, 1]
    assert len(list((tmp_path / "lab" / "results" / "_global").glob("*.parquet"))) == 2


def test_a_restored_version_is_judged_like_any_other_and_makes_its_readers_stale(lab, two):
    lab.materialize("top", "SELECT * FROM jammi.venues")
    two[0].restore()
    assert "venues changed, version 2 → 3" in str(lab.staleness("top"))
    assert "papers changed" in str(lab.staleness("venues"))
    lab.define("venues", VENUES + " HAVING count(*) > 1", key="venue")
    assert str(lab.staleness("venues")).startswith("stale: definition changed")


def test_damaged_bytes_are_neither_restored_nor_compared(lab, two):
    two[0].path.unlink()
    for act in (two[0].restore, two[1].diff):
        with pytest.raises(TableDamaged):
            act()
    assert lab.table("venues").version == 2


def test_a_tenant_cannot_restore_or_pin_what_is_shared(lab, two):
    with lab.tenant("acme"):
        for change in (two[0].restore, two[0].pin, two[0].unpin, two[0].drop):
            with pytest.raises(TenantForbidden):
                change()
    assert [t.version for t in lab.table("venues").history()] == [2, 1]


@pytest.mark.parametrize("bound", [None, "globex"])
def test_a_held_table_of_another_tenant_is_as_one_that_is_not_there_for_everything_that_it_can_do(
    lab, bound, tmp_path
):
    with lab.tenant("acme"):
        hers = lab.materialize("venues", "SELECT 1 AS one")
    lab.bind_tenant(bound)
    verbs = "restore pin unpin history diff read scan staleness verify lineage drop".split()
    for ask in (
        *(getattr(hers, verb) for verb in verbs),
        lambda: hers.export(tmp_path / "x.csv"),
        lambda: hers.manifest,
        lambda: hers.path,
    ):
        with pytest.raises(TableNotFound) as refused:
            ask()
        assert refused.value.message == "Version 1 of 'venues' no longer exists."
    assert not (tmp_path / "x.csv").exists()
    with lab.tenant("acme"):
        assert [t.version for t in hers.history()] == [1] and not hers.pinned
    lab.bind_tenant(None)


# -- jammi_version in FROM -------------------------------------------------------------------------


def test_jammi_version_is_a_table_of_any_statement(lab, two):
    for sql, rows in (
        ("SELECT n FROM jammi_version('venues', 1) WHERE venue = 'b'", [(1,)]),
        ("SELECT count(*) FROM JAMMI_VERSION ( 'VENUES' ,\n 2 )", [(2,)]),
        (
            "SELECT é.venue, é.n, alt.n FROM jammi_version('venues', 2) é JOIN (FROM jammi_version('venues', 1)) alt USING (venue)",
            [("a", 3, 2)],
        ),
        (
            "SELECT jammi_version.n FROM jammi_version('venues', 1), papers WHERE papers.id = 1 ORDER BY 1",
            [(1,), (2,)],
        ),
    ):
        assert lab.sql(sql).fetchall() == rows
    assert lab.explain("FROM jammi_version('venues', 1)")
    described = lab.sql("DESCRIBE FROM jammi_version('venues', 1)").fetchall()
    assert [row[0] for row in described] == ["venue", "n"]


def test_a_table_made_from_an_exact_version_is_anchored_on_that_table_alone(lab, two, papers):
    table = lab.materialize("old", "SELECT * FROM jammi_version('venues', 1)")
    assert [i.name for i in table.inputs] == [two[0].table_name]
    papers.write_text(PAPERS + "9,z,2030\n")
    lab.recompute("venues")
    assert str(lab.staleness("old")) == "fresh" and lab.table("venues").version == 3
    two[0].drop()
    assert str(lab.staleness("old")) == f"stale: {two[0].table_name} is gone"


def test_what_reads_a_version_of_a_name_is_stale_when_another_recipe_takes_the_name(lab, two):
    lab.materialize("old", "SELECT * FROM jammi_version('venues', 1)")
    lab.rename("venues", "places")
    assert str(lab.staleness("old")) == "fresh"
    lab.materialize("venues", "SELECT 7 AS n")
    verdicts = str(lab.staleness("old")), lab.status()["old"].verdict
    assert {str(v) for v in verdicts} == {f"stale: {two[0].table_name} is gone"}
    lab.recompute("old")
    assert lab.table("old").read().fetchall() == [(7,)] and str(lab.staleness("old")) == "fresh"


def test_what_reads_a_version_that_was_dropped_is_stale_though_another_recipe_has_its_table(
    lab, two
):
    assert lab.materialize("beside", VENUES, key="venue").outcome == "reused"
    lab.materialize("old", "SELECT * FROM jammi_version('beside', 1)")
    assert str(lab.staleness("old")) == "fresh"
    physical = lab.table("beside").table_name
    lab.table("beside", 1).drop()
    assert str(lab.staleness("old")) == f"stale: {physical} is gone"


def test_the_recorded_statement_is_as_written_and_the_definition_names_the_table(lab, two):
    statement = "SELECT venue /* é */ FROM jammi_version('venues', 1)"
    assert lab.materialize("old", statement).manifest.descriptor["statement"] == statement
    assert (
        lab.materialize("same", f'SELECT venue FROM jammi."{two[0].table_name}"').outcome
        == "reused"
    )
    assert (
        lab.materialize("other", "SELECT venue FROM jammi_version('venues', 2)").outcome
        == "computed"
    )


def test_a_missing_version_and_an_error_behind_a_call_are_told_with_their_place(lab, two):
    with pytest.raises(TableNotFound, match="it has 2, 1") as caught:
        lab.sql("SELECT 1; SELECT 'é' FROM jammi_version('venues', 7)")
    assert caught.value.position == len("SELECT 1; SELECT 'é' FROM ")
    sql = "SELECT v.venue FROM jammi_version('venues', 1) v WHERE v.nothing = 1"
    with pytest.raises(SqlError) as caught:
        lab.sql(sql)
    assert caught.value.position == sql.index("v.nothing")
    assert caught.value.excerpt.split("\n")[0] == sql


def test_other_arguments_are_refused_with_the_way_to_write_it(lab, two):
    for given in (
        "'venues'",
        "'venues', 1, 2",
        "1, 'venues'",
        "'venues', NULL",
        "'venues', 1.0",
        "'venues', version := 1",
        "'ven' || 'ues', 1",
        "'venues', true",
        "",
    ):
        with pytest.raises((InvalidArgument, StatementNotAllowed)) as caught:
            lab.sql(f"SELECT * FROM jammi_version({given})")
        assert "jammi_version('recipe', version)" in caught.value.hint


def test_no_other_way_leads_to_a_table_function(lab, two):
    for sql in (
        "SELECT jammi_version('venues', 1)",
        "FROM x.jammi_version('venues', 1)",
        "FROM __j0.jammi_version",
    ):
        with pytest.raises((SqlError, StatementNotAllowed, TableNotFound)):
            lab.sql(sql)


def test_a_tenant_reads_its_own_version_of_a_name(lab, two):
    with lab.tenant("acme"):
        assert lab.sql("SELECT n FROM jammi_version('venues', 1) ORDER BY 1").fetchall() == [
            (1,),
            (2,),
        ]
        lab.materialize("venues", "SELECT 7 AS n")
        assert lab.sql("SELECT n FROM jammi_version('venues', 1)").fetchall() == [(7,)]
    assert lab.sql("SELECT count(*) FROM jammi_version('venues', 1)").fetchall() == [(2,)]


def test_what_takes_long_tells_how_far_it_is(tmp_path):
    data = tmp_path / "d.csv"
    data.write_text("a\n1\n")
    with jl.open(tmp_path / "ws") as ws:
        ws.sources.add("d", data)
        ws.materialize("t", "FROM d")
        told: list[Progress] = []
        size = ws.table("t").path.stat().st_size
        assert ws.verify("t", progress=told.append) == ws.table("t").verify(progress=told.append)
        assert [(p.stage, p.done, p.total, p.unit) for p in told] == [
            ("verify", size, size, "bytes")
        ] * 2
        for ask in (
            ws.staleness,
            ws.why,
            ws.plan,
            ws.recompute,
            lambda _, progress: ws.status(deep=True, progress=progress),
        ):
            told.clear()
            ask("t", progress=told.append)
            assert (told[-1].stage, told[-1].done, told[-1].total) == ("look", 1, 1)
        told.clear()
        ws.status(progress=told.append)
        assert not told  # it is a matter of milliseconds
        ws.recover(progress=told.append)
        assert [(p.stage, p.done, p.total) for p in told] == [("recover", 1, 1)]
    told.clear()
    jl.rebuild(tmp_path / "ws", progress=told.append)
    assert [(p.stage, p.done, p.total) for p in told] == [("rebuild", 1, 1)]


def test_one_recipe_is_read_by_its_name_or_an_alias(ws):
    ws.define("top", "SELECT 1 AS x")
    assert ws.recipe("TOP").definition == "SELECT 1 AS x"
    ws.rename("top", "best")
    assert ws.recipe("top").name == "best"
    with pytest.raises(TableNotFound, match="bast") as caught:
        ws.recipe("bast")
    assert caught.value.near == ("best",)
