"""What every kind of source must do in a workspace, from the first table made of it to a reopened
kernel: subclass `JourneySuite`, give it a `journey`."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import jammi_lab
from jammi_lab.core.errors import InvalidArgument, JammiError
from jammi_lab.core.verdicts import Fresh, InputAdvanced, InputVanished, Stale, Undecidable
from tests.sizes import contract


@dataclass
class Journey:
    """A source with rows (1, 'a', 'x'), (2, 'b', 'x'), (3, 'c', 'x') in the columns id, name and
    note, and what its owner does to it."""

    location: Any
    """What `add` takes: a text, or a frame."""
    kind: str
    method: str
    """How its anchors are found, in words."""
    edit: Callable[[], None]
    """Makes a name another."""
    edit_note: Callable[[], None]
    """Makes a note another."""
    grow: Callable[[], None]
    """Adds a row."""
    widen: Callable[[], None]
    """Adds a column."""
    idle: Mapping[str, Callable[[], None]]
    """What changes no row: by its name."""
    vanish: Callable[[], None]
    """Takes it away."""
    table: str = ""
    """The table inside, when there are several."""
    by_column: bool = True
    """Whether columns can be told apart."""
    options: dict[str, Any] = field(default_factory=dict)
    given: dict[str, Any] = field(default_factory=dict)
    """What else `add` is given: `kind`, `secret`."""
    deep: bool = False
    """Whether only a deep look may read it: nobody can tell how many rows it has."""
    again: bool = False
    """Whether every kernel has to be given it: a frame, or an address with a credential typed into
    it."""


@dataclass
class Rows:
    """The rows of a journey, kept by whatever `put` does with them."""

    put: Callable[[pa.Table], None]
    columns: dict[str, list[Any]] = field(
        default_factory=lambda: {"id": [1, 2, 3], "name": ["a", "b", "c"], "note": ["x", "x", "x"]}
    )

    def __post_init__(self) -> None:
        self.put(pa.table(self.columns))

    def now(self, **columns: list[Any]) -> None:
        """Put them with other values in these columns."""
        self.columns = {**self.columns, **columns}
        self.put(pa.table(self.columns))


def written_journey(
    location: Any,
    kind: str,
    put: Callable[[pa.Table], None],
    idle: Mapping[str, Callable[[], None]],
    **more: Any,
) -> Journey:
    """The way of rows that are written as a whole by `put`: makes them, and says how their owner
    changes them; `more` is what else a journey says."""
    rows = Rows(put)
    return Journey(
        location=location,
        kind=kind,
        edit=lambda: rows.now(name=["a", "z", "c"]),
        edit_note=lambda: rows.now(note=["x", "y", "x"]),
        grow=lambda: rows.now(id=[1, 2, 3, 4], name=["a", "b", "c", "d"], note=["x"] * 4),
        widen=lambda: rows.now(extra=["e"] * 3),
        idle={"the same rows again": rows.now, **idle},
        **more,
    )


def database_file_journey(
    kind: str,
    path: Path,
    write: Callable[..., None],
    idle: Mapping[str, Callable[[], None]],
    vanish: Callable[[], None],
) -> Journey:
    """The way of a database file: makes it, and says how its owner changes it by `write(path,
    *statements)`."""
    rows = ((1, "a"), (2, "b"), (3, "c"))
    write(
        path,
        "CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT, note TEXT)",
        *(f"INSERT INTO t VALUES ({i}, '{n}', 'x')" for i, n in rows),
    )
    write(path, "CREATE TABLE other(a INTEGER)")
    return Journey(
        location=f"{kind}:///{path}",
        kind=kind,
        method="digest of the columns",
        table="t",
        edit=lambda: write(path, "UPDATE t SET name = 'z' WHERE id = 2"),
        edit_note=lambda: write(path, "UPDATE t SET note = 'y' WHERE id = 2"),
        grow=lambda: write(path, "INSERT INTO t VALUES (4, 'd', 'x')"),
        widen=lambda: write(path, "ALTER TABLE t ADD COLUMN extra TEXT DEFAULT 'e'"),
        idle={
            "touch": lambda: os.utime(path),
            "no-op update": lambda: write(path, "UPDATE t SET name = name"),
            "another table": lambda: write(path, "INSERT INTO other VALUES (1)"),
            **idle,
        },
        vanish=vanish,
    )


@contract
class JourneySuite:
    """Subclass this and define the fixture `journey`."""

    @pytest.fixture
    def journey(self) -> Journey:
        raise NotImplementedError

    @pytest.fixture
    def ws(self, tmp_path, journey):
        with jammi_lab.open(tmp_path / "ws") as opened:
            opened.sources.add("s", journey.location, options=journey.options, **journey.given)
            yield opened

    @pytest.fixture
    def address(self, journey):
        return f"s.{journey.table}" if journey.table else "s"

    def test_its_kind_is_told_by_its_location(self, ws, journey):
        assert ws.sources["s"].kind == journey.kind

    def test_a_table_made_of_it_goes_stale_with_an_edit_and_is_fresh_again_when_recomputed_and_reopened(
        self, ws, journey, address, tmp_path
    ):
        ws.materialize("t", f"SELECT id, name FROM {address}")
        before = ws.sources["s"].anchor(journey.table or None, columns=["id", "name"])
        assert isinstance(ws.staleness("t"), Fresh)
        journey.edit()
        verdict = ws.staleness("t")
        assert isinstance(verdict, Stale), verdict
        [reason] = verdict.reasons
        now = ws.sources["s"].anchor(journey.table or None, columns=["id", "name"])
        assert isinstance(reason, InputAdvanced)
        assert (
            reason.recorded.same_state(before)
            and reason.current.same_state(now)
            and not before.same_state(now)
        )
        assert journey.method == reason.recorded.method == reason.current.method
        ws.recompute("t")
        assert isinstance(ws.staleness("t"), Fresh)
        ws.close()
        with jammi_lab.open(tmp_path / "ws") as again:
            if journey.again:
                assert isinstance(again.staleness("t"), Undecidable)
                again.sources.add("s", journey.location, options=journey.options, **journey.given)
            assert isinstance(again.staleness("t"), Fresh)
            assert isinstance(again.status(deep=journey.deep)["t"].verdict, Fresh)
            assert isinstance(again.status()["t"].verdict, Undecidable if journey.deep else Fresh)
            assert again.sql(f"SELECT count(*) FROM {address}").fetchall() == [(3,)]

    def test_a_column_that_nobody_reads_may_change(self, ws, journey, address):
        ws.materialize("named", f"SELECT id, name FROM {address}")
        ws.materialize("every", f"SELECT * FROM {address}")
        journey.edit_note()
        assert isinstance(ws.staleness("named"), Fresh if journey.by_column else Stale)
        assert isinstance(ws.staleness("every"), Stale)

    def test_an_added_row_makes_even_a_count_stale(self, ws, journey, address):
        ws.materialize("t", f"SELECT count(*) AS n FROM {address}")
        journey.grow()
        assert isinstance(ws.staleness("t"), Stale)
        ws.recompute("t")
        assert ws.sql("SELECT n FROM jammi.t").fetchall() == [(4,)]

    def test_an_added_column_makes_a_star_stale_and_no_other_statement(self, ws, journey, address):
        ws.materialize("named", f"SELECT id, name FROM {address}")
        ws.materialize("every", f"SELECT * FROM {address}")
        journey.widen()
        assert isinstance(ws.staleness("every"), Stale)
        assert isinstance(ws.staleness("named"), Fresh if journey.by_column else Stale)

    def test_what_changes_no_row_leaves_it_fresh(self, ws, journey, address):
        ws.materialize("t", f"SELECT id, name FROM {address}")
        for what, act in journey.idle.items():
            act()
            assert isinstance(ws.staleness("t"), Fresh), what
            assert isinstance(ws.status(deep=journey.deep)["t"].verdict, Fresh), what

    def test_it_joins_a_file_a_frame_and_a_result(self, ws, journey, address, tmp_path):
        (tmp_path / "prices.csv").write_text("id,price\n1,10\n2,20\n")
        ws.sources.add("prices", str(tmp_path / "prices.csv"))
        ws.sources.add("flags", pa.table({"id": [1, 2, 3], "flag": [True, False, True]}))
        ws.materialize("names", f"SELECT id, name FROM {address}")
        joined = ws.sql(
            f"SELECT n.name, price, flag, note FROM {address} JOIN prices USING (id) JOIN flags USING (id) JOIN jammi.names n USING (id) ORDER BY id"
        )
        assert joined.fetchall() == [("a", 10, True, "x"), ("b", 20, False, "x")]

    def test_what_is_gone_is_input_vanished(self, ws, journey, address):
        ws.materialize("t", f"SELECT id FROM {address}")
        journey.vanish()
        verdict = ws.staleness("t")
        assert isinstance(verdict, Stale) and isinstance(verdict.reasons[0], InputVanished)

    def test_a_removed_source_keeps_its_tables_which_say_so(self, ws, journey, address):
        ws.materialize("t", f"SELECT id FROM {address}")
        ws.sources.remove("s")
        assert "s" not in ws.sources and ws.table("t").row_count == 3
        verdict = ws.staleness("t")
        assert isinstance(verdict, Stale) and isinstance(verdict.reasons[0], InputVanished)

    def test_its_columns_are_told_and_its_first_rows_shown(self, ws, journey):
        assert [column.name for column in ws.sources["s"].columns(journey.table or None)] == [
            "id",
            "name",
            "note",
        ]

    def test_it_is_listed_described_and_shown_alike_before_and_after_a_restart(
        self, ws, journey, tmp_path
    ):
        def told(of):
            [source] = [each for each in of.sources.list() if each.name == "s"]
            inside = journey.table or None
            columns = [(column.name, column.type) for column in source.columns(inside)]
            assert (journey.table or "s") in source.tables()
            assert sorted(source.preview(table=inside).column("id").to_pylist()) == [1, 2, 3]
            assert of.sql("SELECT kind FROM jammi_catalog.sources WHERE name = 's'").fetchall() == [
                (journey.kind,)
            ]
            return source.kind, source.location, columns

        before = told(ws)
        ws.close()
        with jammi_lab.open(tmp_path / "ws") as again:
            if journey.again:
                again.sources.add("s", journey.location, options=journey.options, **journey.given)
            assert told(again) == before

    def test_what_is_gone_is_told_in_a_few_lines_and_comes_back_to_nothing_else(
        self, ws, journey, address
    ):
        ws.sources.add("other", pa.table({"a": [1]}))
        journey.vanish()
        with pytest.raises(JammiError) as caught:
            ws.sql(f"SELECT id FROM {address}").fetchall()
        assert (
            "s" in caught.value.message
            and len(caught.value.rendered_lines()) <= 5
            and "Traceback" not in "".join(caught.value.rendered_lines())
        )
        with pytest.raises(JammiError):
            ws.materialize("t", f"SELECT id FROM {address}")
        assert "t" not in ws and ws.sql("FROM other").fetchall() == [(1,)]

    def test_without_an_anchor_it_is_undecidable_and_never_scanned(self, ws, journey, address):
        ws.sources.add(
            "s",
            journey.location,
            options=journey.options,
            anchor="none",
            replace=True,
            **journey.given,
        )
        ws.materialize("t", f"SELECT id FROM {address}")
        verdict = ws.staleness("t")
        assert isinstance(verdict, Undecidable) and 'anchor="none"' in str(verdict)

    def test_a_column_and_a_table_that_are_not_there_are_told_with_near_ones(
        self, ws, journey, address
    ):
        with pytest.raises(JammiError, match="nmae") as caught:
            ws.sql(f"SELECT nmae FROM {address}")
        assert "name" in caught.value.near
        with pytest.raises(JammiError):
            ws.sql("SELECT 1 FROM s.no_such_table")

    def test_an_unknown_option_is_refused_with_the_near_one(self, ws, journey):
        with pytest.raises(InvalidArgument, match="no option 'vershun'"):
            ws.sources.add(
                "other",
                journey.location,
                options={**journey.options, "vershun": 1},
                **journey.given,
            )
        assert "other" not in ws.sources

    def test_an_anchor_on_a_column_rests_on_its_owner_s_word(self, ws, journey, address):
        ws.sources.add(
            "s",
            journey.location,
            options=journey.options,
            anchor="column:id",
            replace=True,
            **journey.given,
        )
        ws.materialize("t", f"SELECT id, name FROM {address}")
        journey.edit_note()
        assert isinstance(ws.staleness("t"), Fresh)
        journey.grow()
        verdict = ws.staleness("t")
        assert isinstance(verdict, Stale) and "column:id" in str(verdict)
        with pytest.raises(InvalidArgument, match="no column 'nope'"):
            ws.sources.add(
                "s",
                journey.location,
                options=journey.options,
                anchor="column:nope",
                replace=True,
                **journey.given,
            )
