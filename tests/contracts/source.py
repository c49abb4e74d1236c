"""What every kind of source must do, by itself and in a workspace: describe a `Kind`, subclass
`SourceSuite`, name yours in `kinds`, and its tests run against it."""

from __future__ import annotations

import contextlib
import copy
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import duckdb
import pyarrow as pa
import pytest

import jammi_lab
from jammi_lab.core.anchors import Cost, Observed, Snapshot, Unknown, Vanished, source_input
from jammi_lab.core.errors import InvalidArgument, JammiError, SourceUnavailable, TableNotFound
from jammi_lab.core.identifiers import quoted_name
from jammi_lab.core.verdicts import Fresh, InputAdvanced, InputVanished, Stale, Undecidable
from jammi_lab.sources.base import Connector, ObservationContext, ReadPlan, Relation
from jammi_lab.sources.scan_conditions import ALL_ROWS
from jammi_lab.sources.scratch_duckdb import describe, query
from jammi_lab.storage.digests import CacheEntry
from tests.conftest import descriptors_under, settled
from tests.sizes import contract

# -- looks -----------------------------------------------------------------------------------------


class DictMemo(dict[str, CacheEntry]):
    """A memo for tests."""

    def put(self, key: str, entry: CacheEntry) -> None:
        self[key] = entry


@dataclass
class Describing:
    """Describes bodies, and counts how often."""

    calls: int = 0

    def __call__(self, body: str | Relation) -> dict[str, str]:
        self.calls += 1
        if isinstance(body, Relation):
            return describe(body)
        with duckdb.connect() as connection:
            return {row[0]: row[1] for row in connection.execute(f"DESCRIBE {body}").fetchall()}


READ_SETS = frozenset({None, (), ("id",), ("name",)})
"""The sets of columns that the suite compares."""
LATER_NS = 3600 * 10**9


def look(memo: DictMemo | None = None, *, later: bool = False, **bounds: Any) -> ObservationContext:
    """A look of now, or of an hour later, when every stat of today has settled."""
    now = time.time_ns() + (LATER_NS if later else 0)
    given = {
        "describe": Describing(),
        "racy_seconds": 2.0,
        "read_sets": READ_SETS,
        **bounds,
    }
    return ObservationContext(cache=DictMemo() if memo is None else memo, now_ns=now, **given)


def observed(connector: Connector, memo: DictMemo | None = None, **how: Any) -> Any:
    """What a look sees of a source that is one table."""
    return connector.observe(None, look(memo, **how))


def seen(
    connector: Connector, table: str | None = None, /, memo: Any = None, **how: Any
) -> Snapshot:
    """What a look that must see the source sees."""
    state = connector.observe(table, look(memo, **how))
    assert isinstance(state, Snapshot), state
    return state


def same_state(before: Observed, after: Observed, columns: tuple[str, ...] | None = None) -> bool:
    """Whether two observations of an input prove that it did not change in between, on the given
    columns (None: all). Only two snapshots can."""
    if not isinstance(before, Snapshot) or not isinstance(after, Snapshot):
        return False
    any_input = source_input("")
    return before.anchor(any_input, columns).same_state(after.anchor(any_input, columns))


def rows(relation: Relation) -> list[tuple[Any, ...]]:
    return query(relation, "SELECT id, name FROM it ORDER BY id")


# -- kinds -----------------------------------------------------------------------------------------


class Kind:
    """A kind of source with rows (1, 'a', 'x'), (2, 'b', 'x'), (3, 'c', 'x') in the columns id,
    name and note, and what its owner does to it. A kind that can only be written as a whole says
    `make`, `put` and `vanish`."""

    kind = ""
    """What a workspace calls it."""
    method = "digest of the columns"
    """How its anchors are found, in words."""
    by_column = True
    """Whether columns can be told apart."""
    is_versioned = False
    """Whether its state is a number, and only rows that are compared tell columns apart."""
    second_look = Cost.FREE
    second_look_when_idle: Cost | None = None  # of a server to which nobody else writes
    """What a look at an unchanged source costs that was looked at before."""
    table = ""
    """The table inside, when there are several."""
    options: Mapping[str, Any] = {}
    given: Mapping[str, Any] = {}
    """What else `add` is given: `kind`, `secret`."""
    deep = False
    """Whether only a deep look may read it: nobody can tell how many rows it has."""
    again = False
    """Whether every kernel has to be given it: a frame, or an address with a credential typed into
    it."""
    takes_anchors = True
    """Whether an anchor may be given."""
    vanishes = True
    """Whether it, or a table of it, can be told to be gone."""
    damaged = ""
    """What is said of it after `damage`; empty where nothing can be damaged but the rows."""
    has_own_file = False
    """Whether it is one local file, `path`."""
    path: Path
    first: Mapping[str, list[Any]] = {
        "id": [1, 2, 3],
        "name": ["a", "b", "c"],
        "note": ["x"] * 3,
    }
    """Its rows, by column."""
    location: Any = None
    """What `add` takes: a text, or a frame."""

    def __str__(self) -> str:
        return type(self).__name__

    def make(self, folder: Path, get: Callable[[str], Any]) -> None:
        """Makes it in a new folder, with fixtures of these names."""
        raise NotImplementedError

    def end(self) -> None:
        """Takes away what would stay."""

    def put(self, table: pa.Table) -> None:
        """Gives it these rows in place of all others."""
        raise NotImplementedError

    def vanish(self) -> None:
        """Takes it away."""
        raise NotImplementedError

    def damage(self) -> Callable[[], object]:
        """Damages it; the result mends it."""
        raise NotImplementedError

    def start(self) -> None:
        self.columns = dict(self.first)
        self.put(pa.table(self.columns))

    def now(self, **columns: list[Any]) -> None:
        """Gives these columns other values."""
        self.columns = {**self.columns, **columns}
        self.put(pa.table(self.columns))

    def edit(self) -> None:
        self.now(name=["a", "z", "c"])

    def restore(self) -> None:
        self.now(name=["a", "b", "c"])

    def edit_note(self) -> None:
        self.now(note=["x", "y", "x"])

    def grow(self) -> None:
        self.now(id=[1, 2, 3, 4], name=["a", "b", "c", "d"], note=["x"] * 4)

    def widen(self) -> None:
        self.now(extra=["e"] * 3)

    def idle(self) -> Mapping[str, Callable[[], object]]:
        """What changes no row: by its name."""
        return {"the same rows again": self.now}

    def address_in(self, name: str) -> str:
        """What stands for its rows in a statement."""
        return quoted_name(name, *filter(None, [self.table]))

    @property
    def address(self) -> str:
        return self.address_in("s")

    def add(self, ws: jammi_lab.Workspace, name: str = "s", **how: Any) -> None:
        given = {"options": dict(self.options), **self.given, **how}
        ws.sources.add(name, self.location, **given)


def of_those_with(trait: str) -> Callable[[Any], Any]:
    """Marks a test of the suite that means something to those kinds alone."""

    def mark(test: Any) -> Any:
        test.trait = trait
        return test

    return mark


@contract
class Suite:
    """Tests that run for each of these kinds, as the source s of a workspace."""

    kinds: ClassVar[list[Kind]] = []

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if "kind" in metafunc.fixturenames:
            trait = getattr(metafunc.function, "trait", "kind")
            kinds = [kind for kind in self.kinds if getattr(kind, trait)]
            metafunc.parametrize("kind", kinds, indirect=True, ids=str)

    @pytest.fixture
    def kind(self, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Kind]:
        made = copy.copy(request.param)
        (tmp_path / "there").mkdir()
        made.make(tmp_path / "there", request.getfixturevalue)
        yield made
        made.end()

    @pytest.fixture
    def ws(self, tmp_path, kind):
        with jammi_lab.open(tmp_path / "ws") as opened:
            kind.add(opened)
            yield opened

    @pytest.fixture
    def connector(self, ws):
        return ws.sources["s"]._connector()


class SourceSuite(Suite):
    """Subclass this and name your kinds."""

    @contextlib.contextmanager
    def reopened(self, ws, kind, tmp_path):
        """The workspace of the next kernel."""
        ws.close()
        with jammi_lab.open(tmp_path / "ws") as again:
            if kind.again:
                again.sources.remove("s")
                kind.add(again)
            yield again

    def test_it_is_checked_listed_and_read_alike_again_and_again_and_as_narrow_as_is_asked(
        self, kind, connector, tmp_path
    ):
        table = kind.table or None
        for _ in range(2):
            connector.check()
            assert connector.location and connector.kind == kind.kind
            assert not table or table in connector.tables()
            relation = connector.relation(table)
            assert (relation.read.body is None) != (relation.read.frame is None)
            assert relation.input.columns == () and relation.input.table == table
            assert rows(relation) == [(1, "a"), (2, "b"), (3, "c")]
            columns = describe(relation)
            assert list(columns) == ["id", "name", "note"]
            assert relation.columns is None or dict(relation.columns) == columns
            assert seen(connector, table, later=True).columns == columns
        if relation.read.projected_body is not None:
            body = relation.read.projected_body(frozenset({"id"}), lambda: ALL_ROWS)
            narrowed = replace(relation, read=ReadPlan(body=body))
            assert query(narrowed, "SELECT id FROM it ORDER BY id") == [(1,), (2,), (3,)]
        if kind.vanishes:
            with pytest.raises(TableNotFound):
                connector.relation("no such table")
            assert isinstance(connector.observe("no such table", look()), Vanished)
        assert not settled(lambda: descriptors_under(tmp_path / "there"))

    def test_an_unchanged_source_is_seen_equal_and_is_not_read_again(self, kind, connector):
        memo = DictMemo()
        first = seen(connector, kind.table or None, memo, later=True)
        second = seen(connector, kind.table or None, memo, later=True)
        assert same_state(first, second) and first.by_column == second.by_column
        assert first.columns == second.columns
        # the stamp of a table that was written a moment ago moves while others write to the server
        assert first.stamp == second.stamp or second.cost != kind.second_look_when_idle
        assert second.cost in (kind.second_look, kind.second_look_when_idle)
        free = connector.observe(kind.table or None, look(scan_bytes=0, scan_rows=0))
        assert (isinstance(free, Unknown) and "would scan" in free.why) or (
            isinstance(free, Snapshot) and free.cost is not Cost.SCAN
        )

    def test_a_change_is_seen_by_who_reads_it_and_one_that_is_undone_is_none(self, kind, connector):
        memo = DictMemo()

        def now():
            return seen(connector, kind.table or None, memo)

        before = now()
        kind.edit()
        after = now()
        assert not same_state(before, after) and not same_state(before, after, ("name",))
        is_told = kind.by_column and not kind.is_versioned
        assert same_state(before, after, ("id",)) == same_state(before, after, ()) == is_told
        kind.restore()
        assert same_state(before, now()) or kind.is_versioned
        before = now()
        kind.now(name=["b", "a", "c"])
        assert not same_state(before, now()), "values change places between rows"
        kind.restore()
        before = now()
        kind.grow()
        after = now()
        assert not same_state(before, after, ()) and after.row_count in (4, None)

    def test_a_table_made_of_it_goes_stale_with_an_edit_and_is_fresh_again_when_recomputed_and_reopened(
        self, ws, kind, tmp_path
    ):
        def anchor():
            return ws.sources["s"].anchor(kind.table or None, columns=["id", "name"])

        ws.materialize("t", f"SELECT id, name FROM {kind.address}")
        before = anchor()
        assert isinstance(ws.staleness("t"), Fresh)
        kind.edit()
        verdict = ws.staleness("t")
        assert isinstance(verdict, Stale), verdict
        [reason] = verdict.reasons
        now = anchor()
        assert isinstance(reason, InputAdvanced)
        assert reason.recorded.same_state(before) and reason.current.same_state(now)
        assert not before.same_state(now)
        assert kind.method == reason.recorded.method == reason.current.method
        ws.recompute("t")
        assert isinstance(ws.staleness("t"), Fresh)
        ws.close()
        with jammi_lab.open(tmp_path / "ws") as again:
            if kind.again:
                assert isinstance(again.staleness("t"), Undecidable)
                kind.add(again)
            assert isinstance(again.staleness("t"), Fresh)
            assert isinstance(again.status(deep=kind.deep)["t"].verdict, Fresh)
            assert isinstance(again.status()["t"].verdict, Undecidable if kind.deep else Fresh)
            assert again.sql(f"SELECT count(*) FROM {kind.address}").fetchall() == [(3,)]

    def test_a_column_that_nobody_reads_may_change_and_an_added_one_makes_a_star_stale(
        self, ws, kind
    ):
        ws.materialize("named", f"SELECT id, name FROM {kind.address}")
        ws.materialize("every", f"SELECT * FROM {kind.address}")
        for change in (kind.edit_note, kind.widen):
            change()
            verdicts = type(ws.staleness("named")), type(ws.staleness("every"))
            assert verdicts == (Fresh if kind.by_column else Stale, Stale)
            ws.recompute()
            assert isinstance(ws.staleness("every"), Fresh)

    def test_an_added_row_makes_even_a_count_stale(self, ws, kind):
        ws.materialize("t", f"SELECT count(*) AS n FROM {kind.address}")
        kind.grow()
        assert isinstance(ws.staleness("t"), Stale)
        ws.recompute("t")
        assert ws.sql("SELECT n FROM jammi.t").fetchall() == [(4,)]

    def test_what_changes_no_row_leaves_it_fresh(self, ws, kind):
        ws.materialize("t", f"SELECT id, name FROM {kind.address}")
        for what, act in kind.idle().items():
            act()
            assert isinstance(ws.staleness("t"), Fresh), what
            assert isinstance(ws.status(deep=kind.deep)["t"].verdict, Fresh), what

    @of_those_with("has_own_file")
    def test_an_edit_whose_times_are_put_back_is_seen(self, ws, kind):
        ws.materialize("t", f"SELECT id, name FROM {kind.address}")
        times = kind.path.stat()
        time.sleep(0.02)  # a tick of the clock that nobody can put back
        kind.edit()
        os.utime(kind.path, ns=(times.st_atime_ns, times.st_mtime_ns))
        assert isinstance(ws.staleness("t"), Stale)

    def test_it_joins_a_file_a_frame_and_a_result_that_stays_when_it_is_removed(
        self, ws, kind, tmp_path
    ):
        (tmp_path / "prices.csv").write_text("id,price\n1,10\n2,20\n")
        ws.sources.add("prices", tmp_path / "prices.csv")
        ws.sources.add("flags", pa.table({"id": [1, 2, 3], "flag": [True, False, True]}))
        ws.materialize("names", f"SELECT id, name FROM {kind.address}")
        joined = ws.sql(
            f"SELECT n.name, price, flag, note FROM {kind.address} JOIN prices USING (id) JOIN flags USING (id) JOIN jammi.names n USING (id) ORDER BY id"
        )
        assert joined.fetchall() == [("a", 10, True, "x"), ("b", 20, False, "x")]
        ws.sources.remove("s")
        assert "s" not in ws.sources and ws.table("names").row_count == 3
        verdict = ws.staleness("names")
        if kind.kind == "frame":  # another cell may make it again
            assert isinstance(verdict, Undecidable)
        else:
            assert isinstance(verdict, Stale) and "is gone" in str(verdict)

    def test_what_is_gone_is_told_in_a_few_lines_and_leaves_the_others(self, ws, kind):
        ws.sources.add("other", pa.table({"a": [1]}))
        ws.materialize("t", f"SELECT id FROM {kind.address}")
        kind.vanish()
        verdict = ws.staleness("t")
        if kind.vanishes:
            assert isinstance(verdict, Stale) and isinstance(verdict.reasons[0], InputVanished)
        else:
            assert isinstance(verdict, Undecidable)
        with pytest.raises(JammiError) as caught:
            ws.sql(f"SELECT id FROM {kind.address}").fetchall()
        assert "s" in caught.value.message and len(caught.value.rendered_lines()) <= 5
        assert "Traceback" not in "".join(caught.value.rendered_lines())
        with pytest.raises(JammiError):
            ws.materialize("u", f"SELECT id FROM {kind.address}")
        assert "u" not in ws and ws.sql("FROM other").fetchall() == [(1,)]

    @of_those_with("damaged")
    def test_what_is_damaged_is_told_and_fresh_again_when_it_is_mended(self, ws, kind):
        ws.materialize("t", f"SELECT id FROM {kind.address}")
        mend = kind.damage()
        assert re.search(kind.damaged, str(ws.staleness("t")))
        for act in (
            lambda: ws.sql(f"SELECT id FROM {kind.address}"),
            lambda: kind.add(ws, "other"),
        ):
            with pytest.raises(SourceUnavailable, match=kind.damaged) as caught:
                act()
            assert caught.value.hint and len(caught.value.rendered_lines()) <= 5
        assert "other" not in ws.sources
        mend()
        assert isinstance(ws.staleness("t"), Fresh)

    @of_those_with("has_own_file")
    def test_what_belongs_to_the_workspace_is_no_source_and_a_missing_file_is_told_with_the_near_one(
        self, ws, kind, tmp_path
    ):
        own = tmp_path / "ws" / "catalog.sqlite3"
        missing = kind.path.with_name("x" + kind.path.name.replace("[1]", "1"))
        with pytest.raises(InvalidArgument, match="belongs to the workspace itself"):
            ws.sources.add("own", own, kind=kind.kind)
        with pytest.raises(SourceUnavailable, match="no file") as caught:
            ws.sources.add("own", missing, kind=kind.kind)
        assert kind.path.name in caught.value.near and "own" not in ws.sources

    def test_it_is_listed_described_and_shown_alike_before_and_after_a_restart(
        self, ws, kind, tmp_path
    ):
        def told(of):
            [source] = [each for each in of.sources.list() if each.name == "s"]
            inside = kind.table or None
            assert (kind.table or "s") in source.tables()
            assert sorted(source.preview(table=inside).column("id").to_pylist()) == [1, 2, 3]
            listed = of.sql("SELECT kind FROM jammi_catalog.sources WHERE name = 's'").fetchall()
            assert listed == [(kind.kind,)] and source.kind == kind.kind
            return source.location, [(c.name, c.type) for c in source.columns(inside)]

        before = told(ws)
        assert [name for name, _ in before[1]] == ["id", "name", "note"]
        with self.reopened(ws, kind, tmp_path) as again:
            assert told(again) == before

    def test_each_tenant_sees_and_is_told_of_its_own_rows(self, ws, kind):
        kind.now(note=["Acme", "globex", None])
        kind.add(ws, replace=True, tenant_column="note")
        for tenant, own in {"acme": [1, 3], "globex": [2, 3], None: [3]}.items():
            with ws.tenant(tenant):
                ids = ws.sql(f"SELECT id FROM {kind.address} ORDER BY id").fetchall()
                assert ids == [(each,) for each in own]
                ws.materialize("t", f"SELECT id, name FROM {kind.address}")
                assert ws.staleness("t") == Fresh()

        def verdicts():
            found = []
            for tenant in ("acme", "globex", None):
                with ws.tenant(tenant):
                    found.append(type(ws.staleness("t")))
            return found

        kind.now(name=["a", "z", "c"])
        assert verdicts() == [Fresh, Stale, Fresh]
        kind.now(name=["a", "b", "c"], note=["Acme", "acme", None])
        assert verdicts() == [Stale, Stale, Fresh]
        with ws.tenant("acme"):
            ws.recompute("t")
            assert ws.table("t").row_count == 3

    def test_an_absent_column_or_table_and_an_unknown_option_are_told_with_near_ones(
        self, ws, kind
    ):
        with pytest.raises(JammiError, match="nmae") as caught:
            ws.sql(f"SELECT nmae FROM {kind.address}")
        assert "name" in caught.value.near
        with pytest.raises(JammiError):
            ws.sql("SELECT 1 FROM s.no_such_table")
        with pytest.raises(JammiError, match="no option 'vershun'"):
            kind.add(ws, "other", options={**kind.options, "vershun": 1})
        assert "other" not in ws.sources

    def test_an_anchor_that_is_given_rests_on_its_owner_s_word(self, ws, kind):
        if not kind.takes_anchors:
            with pytest.raises(InvalidArgument, match="its state is the digest of its rows"):
                kind.add(ws, replace=True, anchor="column:id")
            return
        kind.add(ws, replace=True, anchor="column:note")
        ws.materialize("t", f"SELECT id, name FROM {kind.address}")
        kind.edit()
        assert isinstance(ws.staleness("t"), Fresh)
        kind.edit_note()
        verdict = ws.staleness("t")
        assert isinstance(verdict, Stale) and "column:note" in str(verdict)
        kind.now(note=["x"] * 3)
        assert isinstance(ws.staleness("t"), Fresh)
        kind.grow()  # a row with a note that others have
        assert isinstance(ws.staleness("t"), Stale)
        with pytest.raises(InvalidArgument, match="no column 'nope'"):
            kind.add(ws, replace=True, anchor="column:nope")
        kind.add(ws, replace=True, anchor="none")
        ws.materialize("u", f"SELECT id FROM {kind.address}")
        verdict = ws.staleness("u")
        assert isinstance(verdict, Undecidable) and 'anchor="none"' in str(verdict)
