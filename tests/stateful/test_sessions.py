"""Ephemeral sessions against a model and a clock that the machine moves: access until the deadline,
one end each, told once, nothing left."""

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from jammi_lab.core.errors import DuplicateKey, DuplicateTable, SessionClosed, UnknownTable
from jammi_lab.features.live.ephemeral_sessions import EphemeralSessions
from tests.features.live.clocks import SECOND, Hands, opened
from tests.inside import services_of
from tests.sizes import sized, soak

AUDIT = "jammi.audit.session_lifecycle.v1"
CANARY = "canary-of-the-state-machine"
GRACE = 60
NAMES = st.sampled_from(["a", "b"])
TENANTS = st.sampled_from(["acme", "bolt"])


class Model:
    """What one session should be."""

    def __init__(self, handle, deadline):
        self.handle, self.deadline = handle, deadline
        self.tables = {}
        self.ended = None

    def accessible(self, now):
        return self.ended is None and now < self.deadline

    def end(self, how):
        self.ended = (how, len(self.tables), sum(map(len, self.tables.values())))


class SessionMachine(RuleBasedStateMachine):
    sessions = Bundle("sessions")

    @initialize()
    def begin(self):
        self._patch = pytest.MonkeyPatch()
        self._patch.setattr(EphemeralSessions, "_start_scanner", lambda _: None)
        self.folder = tempfile.TemporaryDirectory()
        self.clock = Hands()
        self.ws = opened(Path(self.folder.name) / "lab", self.clock)
        self.models = []

    @property
    def now(self):
        return self.clock.wall / SECOND

    def allowed(self, model, use, *errors):
        """Whether the session let itself be used; SessionClosed exactly when the model says so."""
        if not model.accessible(self.now):
            with pytest.raises(SessionClosed):
                use()
            return False
        if errors:
            with pytest.raises(errors):
                use()
            return False
        use()
        return True

    @rule(target=sessions, tenant=TENANTS, timeout=st.integers(1, 300))
    def open(self, tenant, timeout):
        with self.ws.tenant(tenant):
            model = Model(self.ws.ephemeral(timeout=timeout), self.now + timeout)
        self.models.append(model)
        self.create(model, "a")
        self.insert(model, "a", [6])
        return model

    @rule(model=sessions, name=NAMES)
    def create(self, model, name):
        errors = (DuplicateTable,) if name in model.tables else ()
        if self.allowed(
            model,
            lambda: model.handle.create(
                name, {"id": "int64", "word": "string"}, primary_key=["id"]
            ),
            *errors,
        ):
            model.tables[name] = {}

    @rule(
        model=sessions,
        name=NAMES,
        keys=st.lists(st.integers(0, 6), min_size=1, max_size=4, unique=True),
    )
    def insert(self, model, name, keys):
        rows = [{"id": key, "word": f"{{table}} {CANARY * key}"} for key in keys]
        there = model.tables.get(name)
        errors = (
            (UnknownTable,) if there is None else (DuplicateKey,) if set(keys) & set(there) else ()
        )
        if self.allowed(model, lambda: model.handle.insert(name, rows), *errors):
            there.update(dict.fromkeys(keys))

    @rule(model=sessions, name=NAMES, bound=st.sampled_from(["acme", "bolt", None]))
    def read(self, model, name, bound):
        errors = () if name in model.tables else (UnknownTable,)
        with self.ws.tenant(bound):
            found = []
            if self.allowed(
                model,
                lambda: found.extend(
                    model.handle.sql(
                        name,
                        "SELECT id FROM {table} WHERE word <> '{table}' ORDER BY id -- {table}",
                    ).fetchall()
                ),
                *errors,
            ):
                assert [key for (key,) in found] == sorted(model.tables[name])

    @rule(model=sessions, seconds=st.integers(1, 100))
    def extend(self, model, seconds):
        if self.allowed(model, lambda: model.handle.extend(seconds)):
            model.deadline += seconds

    @rule(model=sessions)
    def close(self, model):
        model.handle.close()
        if model.ended is None:
            model.end("closed")

    @rule(seconds=st.integers(1, 120))
    def time_passes(self, seconds):
        self.clock.go_on(seconds)

    @rule(model=sessions)
    def the_deadline_comes_and_nobody_has_looked(self, model):
        if model.ended is None:
            self.clock.go_on(max(0, model.deadline - self.now))
            with pytest.raises(SessionClosed):
                model.handle.count_rows("a")

    @rule(seconds=st.integers(5, 1000))
    def the_machine_sleeps(self, seconds):
        self.clock.sleep(seconds)
        for (
            model
        ) in self.models:  # also for one whose deadline was just before, and nobody had looked yet
            if model.ended is None:
                model.deadline = max(model.deadline, self.now + GRACE)
        assert all(model.handle.expired is False for model in self.models if model.ended is None)

    @rule(seconds=st.integers(5, 10_000))
    def the_clock_is_set_back(self, seconds):
        self.clock.set_back(seconds)
        for model in self.models:
            model.deadline -= seconds
        assert all(
            model.handle.expired is (model.deadline <= self.now)
            for model in self.models
            if model.ended is None
        )

    @rule()
    def scan(self):
        services_of(self.ws).sessions.scan()
        for model in self.models:
            if model.ended is None and not model.accessible(self.now):
                model.end("timed_out")

    @rule()
    def sweep(self):
        assert services_of(self.ws).sessions.sweep() == []

    @invariant()
    def each_is_told_once(self):
        for tenant in ("acme", "bolt"):
            with self.ws.tenant(tenant):
                told = []
                if AUDIT in self.ws.topics:
                    told = [
                        json.loads(row)
                        for event in self.ws.topics.replay(AUDIT)
                        for row in event.batch["record"].to_pylist()
                    ]
                mine = [model for model in self.models if model.handle.tenant == tenant]
                assert {each.id for each in self.ws.sessions()} == {
                    model.handle.id for model in mine if model.ended is None
                }
            for model in mine:
                records = [each for each in told if each["session_id"] == model.handle.id]
                ends = [
                    (each["event"], each["ephemeral_table_count"], each["deleted_row_count"])
                    for each in records[1:]
                ]
                assert records[0]["event"] == "opened"
                assert ends == ([] if model.ended is None else [model.ended])
            assert len(told) == sum(1 + (model.ended is not None) for model in mine)

    def teardown(self):
        if hasattr(self, "ws"):
            for model in self.models:
                model.handle.close()
            left = [
                f.name
                for f in Path(self.folder.name).rglob("*")
                if f.is_file() and CANARY.encode() in f.read_bytes()
            ]
            self.ws.close()
            self.folder.cleanup()
            self._patch.undo()
            assert left == []


TestSessions = soak(
    pytest.mark.timeout(900)(SessionMachine.TestCase)
)  # thousands of commits that wait for the disk, which others may keep busy
TestSessions.settings = settings(max_examples=sized(4, 30), stateful_step_count=25, deadline=None)
