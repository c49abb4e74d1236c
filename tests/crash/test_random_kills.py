"""kill -9 at random moments, again and again on one workspace, each followed by a recovery and the
check of all that was promised.

`JAMMI_CRASHES=400` kills that many times in each test.
"""

import json
import os
import random
import signal
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import jammi_lab as jl
from tests.crash.check import Promises, asked, hold_true, rows_by_sql
from tests.crash.child import CANARY
from tests.sizes import soak

pytestmark = [soak, pytest.mark.slow, pytest.mark.timeout(3600)]
KILLS, CHANGES = asked(15, 150, every=400), asked(8, 100, every=400)


kills: Counter[str] = Counter()
"""How many kills fell into each verb, or between it and the next."""


def killed(server: Any, chance: random.Random, *argv: object) -> str:
    """What a child said until it was killed, at any moment: while it opens the workspace, or in the
    middle of what it does then."""
    child = server.start(*argv)
    server.await_lines(chance.choice([0, 1, 2, 2, 3, 3, 4, 6]))
    time.sleep(chance.random() * 0.05)
    os.kill(child, signal.SIGKILL)
    code, said = server.end()
    assert code == -signal.SIGKILL, said
    verbs = [line.split()[1] for line in said.splitlines() if line.startswith("VERB ")]
    kills[verbs[-1] if verbs else "open"] += 1
    return said


def rows_by_footer(ws: Any, table: Any) -> int:
    """How many rows the Parquet file has; starting the engine for it would be most of what a check
    costs."""
    return int(pq.read_metadata(table.path).num_rows)


def test_a_workspace_survives_being_killed_again_and_again(server, tmp_path, tell):
    folder, chance, promised, settled = tmp_path / "lab", random.Random(7), Promises(), 0
    jl.open(folder).close()
    kills.clear()
    for seed in range(KILLS):
        said = killed(server, chance, "forever", folder, seed)
        settled += bool(
            hold_true(folder, promised.hear(said), rows_by_footer if seed % 10 else rows_by_sql)
        )
    tell(
        f"random kills: {kills}, of which {settled} left something to settle; {len(promised.ready)} tables were promised, and none is lost"
    )
    # On a busy machine the few kills of a short run may all miss what is aimed at.
    assert settled or KILLS < 100, "no kill fell into a build"
    assert kills.total() == KILLS and (len(kills) >= 6 or KILLS < 100), kills


@dataclass
class Changes:
    """What the table `notes` and the topic `events` hold as far as children said so, and what the
    last one was at when it died."""

    notes: dict[int, int] = field(default_factory=dict)
    version: int = 0
    events: int = 0
    note: tuple[int, int | None] | None = None
    event: bool = False

    def hear(self, said: str) -> None:
        """Take in the lines that a child wrote."""
        self.note, self.event = None, False
        for line in said.splitlines():
            match line.split():
                case ["TRY", "note", key, value]:
                    self.note = int(key), None if value == "-" else int(value)
                case ["ACK", "note", version]:
                    self.take()
                    assert self.version == int(version), "a change that is not one version"
                case ["TRY", "publish"]:
                    self.event = True
                case ["ACK", "publish", offset]:
                    assert self.events == int(offset), "an offset that does not follow the last"
                    self.events, self.event = self.events + 1, False

    def take(self) -> None:
        """The change that was begun is done."""
        key, value = self.note
        self.notes = {k: v for k, v in self.notes.items() if k != key} | (
            {} if value is None else {key: value}
        )
        self.version, self.note = self.version + 1, None


def changes_hold_true(folder: Path, promised: Changes) -> None:
    """Open the workspace, which recovers it, and check what was promised; what was begun and not
    acknowledged is there whole or not at all."""
    with jl.open(folder) as ws:
        assert not ws.recover(), "a second recovery still finds something to do"
        before, since, notes = dict(promised.notes), promised.version, ws.mutable["notes"]
        if promised.note and notes.version == promised.version + 1:
            promised.take()
        found = notes.read().arrow()
        assert dict(
            zip(found["k"].to_pylist(), found["v"].to_pylist(), strict=True)
        ) == promised.notes and len(notes) == len(promised.notes)
        assert notes.version == promised.version
        net = {row["k"]: row["v"] for row in notes.changes(since).arrow().to_pylist()}
        assert {k: v for k, v in (before | net).items() if v is not None} == promised.notes, (
            "the changes are not what happened"
        )
        offsets = [(event.offset, event.batch.num_rows) for event in ws.topics.replay("events")]
        promised.events += promised.event and len(offsets) == promised.events + 1
        assert offsets == [(n, 3) for n in range(promised.events)], (
            "an event that is lost, torn or out of its place"
        )
        with ws.tenant("acme"):
            assert ws.sessions() == []
            told = [
                json.loads(text)
                for event in ws.topics.replay("jammi.audit.session_lifecycle.v1")
                for text in event.batch["record"].to_pylist()
            ]
        ends = [each["session_id"] for each in told if each["event"] != "opened"]
        assert sorted(ends) == sorted({each["session_id"] for each in told}), (
            "a session that ended twice, or not"
        )
        assert [m.name for m in ws.mutable.list()] == ["notes"]
    left = [
        path.name
        for path in folder.rglob("*")
        if path.is_file() and CANARY.encode() in path.read_bytes()
    ]
    assert not left, "a value of a session is left"


def test_what_changes_survives_being_killed_again_and_again(server, tmp_path, tell):
    folder, chance, promised, torn = tmp_path / "lab", random.Random(8), Changes(), 0
    with jl.open(folder) as ws:
        ws.mutable.create(
            "notes", {"k": "int64", "v": "int64", "text": "string"}, primary_key=["k"]
        )
        ws.topics.register("events", {"seed": "int64", "turn": "int64", "text": "string"})
        with ws.tenant("acme"):
            ws.ephemeral().close()  # the topic of their ends is there from the first check on
    kills.clear()
    for seed in range(CHANGES):
        promised.hear(killed(server, chance, "change", folder, seed))
        torn += bool(promised.note or promised.event)
        changes_hold_true(folder, promised)
    tell(
        f"random kills among changes: {kills}, of which {torn} fell into one; {promised.version} commits and {promised.events} events, none lost"
    )
    assert torn or CHANGES < 100, "no kill fell into a change"
    assert kills.total() == CHANGES and (len(kills) >= 5 or CHANGES < 100), kills
