"""Mutable tables against a dict: any history of inserts, upserts, updates, deletes and drops, from
two kernels, by method and by SQL.

The model keeps the rows of every version, so that what `changes` says is held against the
difference of two of them, and every anchor against the rows that were there.
"""

import contextlib
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import jammi_lab as jl
from jammi_lab.core.verdicts import Fresh, Stale
from tests.sizes import sized, soak

keys = st.integers(0, 5)
texts = st.none() | st.sampled_from("abc")
batches = st.lists(st.tuples(keys, texts), max_size=3)
kernels = st.booleans()


class Mutable(RuleBasedStateMachine):
    """One table, two kernels, one reader."""

    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="jammi-mutable-"))
        self.kernels = [jl.open(self.folder / "lab"), jl.open(self.folder / "lab")]
        self.anchored = None

    @initialize()
    def begin(self):
        self.kernels[0].mutable.create("t", {"k": "int64", "v": "string"}, primary_key=["k"])
        self.states = [{}]

    def teardown(self):
        for each in self.kernels:
            with contextlib.suppress(jl.JammiError):
                each.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def rows(self):
        return dict(self.states[-1])

    def became(self, rows):
        if rows != self.states[-1]:
            self.states.append(rows)

    @rule(second=kernels, batch=batches, by_sql=st.booleans())
    def insert(self, second, batch, by_sql):
        ws, rows = self.kernels[second], self.rows
        given = [k for k, _ in batch]
        refused = len(set(given)) < len(given) or any(k in rows for k in given)
        with pytest.raises(jl.DuplicateKey) if refused else contextlib.nullcontext():
            if by_sql and batch:
                ws.sql(
                    "INSERT INTO mutable.t SELECT unnest($k::BIGINT[]), unnest($v::VARCHAR[])",
                    k=given,
                    v=[v for _, v in batch],
                )
            else:
                ws.mutable["t"].insert([{"k": k, "v": v} for k, v in batch])
        if not refused:
            self.became(rows | dict(batch))

    @rule(
        second=kernels,
        batch=st.lists(st.tuples(keys, texts), max_size=3, unique_by=lambda row: row[0]),
        by_sql=st.booleans(),
    )
    def upsert(self, second, batch, by_sql):
        ws = self.kernels[second]
        if by_sql and batch:
            text = "INSERT INTO mutable.t SELECT unnest($k::BIGINT[]), unnest($v::VARCHAR[]) ON CONFLICT (k) DO UPDATE SET v = excluded.v"
            ws.sql(text, k=[k for k, _ in batch], v=[v for _, v in batch])
        else:
            ws.mutable["t"].upsert([{"k": k, "v": v} for k, v in batch])
        self.became(self.rows | dict(batch))

    @rule(second=kernels, bound=keys, text=texts, by_sql=st.booleans())
    def update(self, second, bound, text, by_sql):
        ws = self.kernels[second]
        if by_sql:
            assert ws.sql(
                "UPDATE mutable.t SET v = $v WHERE k < $k", v=text, k=bound
            ).fetchall() == [(sum(k < bound for k in self.rows),)]
        else:
            assert ws.mutable["t"].update({"v": text}, f"k < {bound}") == sum(
                k < bound for k in self.rows
            )
        self.became({k: text if k < bound else v for k, v in self.rows.items()})

    @rule(second=kernels, bound=keys, by_sql=st.booleans())
    def delete(self, second, bound, by_sql):
        ws = self.kernels[second]
        gone = (
            ws.sql("DELETE FROM mutable.t WHERE k = $k", k=bound).fetchall()[0][0]
            if by_sql
            else ws.mutable["t"].delete(f"k = {bound}")
        )
        assert gone == (bound in self.rows)
        self.became({k: v for k, v in self.rows.items() if k != bound})

    @rule(second=kernels)
    def recreate(self, second):
        self.kernels[second].mutable.drop("t")
        self.kernels[second].mutable.create("t", {"k": "int64", "v": "string"}, primary_key=["k"])
        self.states, self.anchored = [{}], self.anchored and "another table"

    @rule(second=kernels)
    def reopen(self, second):
        self.kernels[second].close()
        self.kernels[second] = jl.open(self.folder / "lab")

    @rule(second=kernels)
    def derive(self, second):
        made = self.kernels[second].materialize("derived", "SELECT * FROM mutable.t")
        assert {r["k"]: r["v"] for r in made.read().arrow().to_pylist()} == self.rows
        self.anchored = len(self.states)

    @precondition(lambda self: self.anchored is not None)
    @rule(second=kernels)
    def judge(self, second):
        verdict = self.kernels[second].staleness("derived")
        assert isinstance(verdict, Fresh if self.anchored == len(self.states) else Stale)

    @rule(second=kernels, data=st.data())
    def changes(self, second, data):
        since = data.draw(st.integers(0, len(self.states) - 1))
        was, now = self.states[since], self.rows
        wanted = {k: ("insert", v) for k, v in now.items() if k not in was}
        wanted |= {k: ("update", v) for k, v in now.items() if k in was and was[k] != v}
        wanted |= {k: ("delete", None) for k in was if k not in now}
        told = self.kernels[second].mutable["t"].changes(since=since).arrow().to_pylist()
        assert {r["k"]: (r["_change"], r["v"]) for r in told} == wanted and len(told) == len(wanted)
        assert all(since < r["_version"] < len(self.states) for r in told)

    @invariant()
    def all_kernels_see_the_rows_and_the_version(self):
        for ws in self.kernels:
            table = ws.mutable["t"]
            assert (table.version, len(table)) == (len(self.states) - 1, len(self.rows))
            assert table.read().fetchall() == sorted(self.rows.items())


Mutable.TestCase.settings = settings(
    max_examples=sized(4, 40), stateful_step_count=20, deadline=None
)
TestMutable = soak(
    pytest.mark.timeout(900)(Mutable.TestCase)
)  # its commits wait for a disk that others may keep busy
