"""`jammi-lab watch` as a process: its lines, its JSON, how it ends."""

import contextlib
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import jammi_lab as jl
from tests.processes import COMMAND, Popen, environment

SECONDS = 30


@pytest.fixture
def papers(tmp_path: Path) -> Path:
    path = tmp_path / "papers.csv"
    path.write_text("id,year\n1,2020\n2,2021\n")
    return path


@pytest.fixture
def lab(tmp_path: Path, papers: Path) -> Iterator[jl.Workspace]:
    with jl.open(tmp_path / "lab") as ws:
        ws.sources.add("papers", papers)
        ws.materialize("recent", "SELECT * FROM papers WHERE year > 2020")
        ws.materialize("counted", "SELECT count(*) AS n FROM jammi.recent")
        yield ws


class Watch:
    """A running `jammi-lab watch`."""

    def __init__(self, process: Popen) -> None:
        self.process = process
        self._lines = queue.SimpleQueue[tuple[str, str]]()
        for kind in ("out", "err"):
            threading.Thread(target=self._read, args=(kind,), daemon=True).start()

    def _read(self, kind: str) -> None:
        stream = self.process.stdout if kind == "out" else self.process.stderr
        assert stream is not None
        with contextlib.suppress(ValueError):  # closed at the end of the test
            for line in stream:
                self._lines.put((kind, line.rstrip("\n")))

    def line(self) -> tuple[str, str]:
        """The next line, and from which stream."""
        return self._lines.get(timeout=SECONDS)

    def rest(self) -> list[tuple[str, str]]:
        """The lines that are left when the process has ended."""
        lines = list[tuple[str, str]]()
        with contextlib.suppress(queue.Empty):
            while True:
                lines.append(self._lines.get(timeout=0.3))
        return lines


@pytest.fixture
def watch(lab: jl.Workspace) -> Iterator[object]:
    with contextlib.ExitStack() as stack:

        def start(*flags: str) -> Watch:
            code = COMMAND
            command = [
                sys.executable,
                "-c",
                code,
                "watch",
                str(lab.path),
                "--interval",
                "0.2s",
                *flags,
            ]
            process = stack.enter_context(
                Popen(
                    command,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                    env=environment(),
                )
            )
            stack.callback(process.kill)
            return Watch(process)

        yield start


def test_a_line_is_printed_for_each_verdict_that_changes(lab, watch, papers):
    watching = watch()
    kind, text = watching.line()
    assert kind == "err" and "2 recipes: 2 fresh" in text
    papers.write_text("id,year\n1,2020\n2,2021\n3,2022\n")
    changed = dict(
        text.partition(" ")[2].partition(": ")[::2]
        for _, text in (watching.line(), watching.line())
    )
    assert changed == {
        "counted": "fresh → possibly stale: papers changed, 2 → 3 rows, by way of recent",
        "recent": "fresh → stale: papers changed, 2 → 3 rows",
    }
    papers.write_text("id,year\n1,2020\n2,2021\n")
    assert {watching.line()[1].partition(": ")[2] for _ in range(2)} == {
        "stale → fresh",
        "possibly stale → fresh",
    }
    lab.materialize("old", "SELECT * FROM papers WHERE year < 2021")
    text = watching.line()[1]
    if text.endswith(" old: new → stale: defined, not computed yet"):  # seen while it was computed
        text = watching.line()[1].replace("stale →", "new →")
    assert text.endswith(" old: new → fresh")
    lab.drop("old")
    assert watching.line()[1].endswith(" old: fresh → removed")
    watching.process.send_signal(signal.SIGINT)
    assert watching.process.wait(SECONDS) == 0 and watching.rest() == []


def test_lines_of_json_are_for_programs_and_termination_is_clean(watch, papers):
    watching = watch("--json")
    assert watching.line()[0] == "err"
    papers.write_text("id,year\n1,2020\n2,2021\n3,2022\n")
    entries = {(entry := json.loads(watching.line()[1]))["name"]: entry for _ in range(2)}
    assert entries["recent"].pop("at").endswith("Z")
    assert entries["recent"] == {
        "name": "recent",
        "before": "fresh",
        "verdict": "stale",
        "version": 1,
        "reasons": ["papers changed, 2 → 3 rows"],
        "grounds": [],
    }
    watching.process.send_signal(signal.SIGTERM)
    assert watching.process.wait(SECONDS) == 0 and watching.rest() == []


def test_with_fail_it_ends_at_the_first_verdict_that_is_not_fresh(lab, watch, papers):
    watching = watch("--fail")
    assert watching.line()[0] == "err"
    papers.write_text("id,year\n1,2020\n2,2021\n3,2022\n")
    assert watching.process.wait(SECONDS) == 1
    assert len(watching.rest()) == 2
    assert watch("--fail").process.wait(SECONDS) == 1  # at once: it is stale already


def test_grounds_end_it_only_where_that_is_asked(lab, watch, papers):
    lab.sources.add("by_year", papers, anchor="column:year")
    lab.materialize("late", "SELECT * FROM by_year")
    bare = watch("--fail")
    assert "2 fresh, 1 fresh*" in bare.line()[1]
    assert watch("--fail=grounds").process.wait(SECONDS) == 1
    assert bare.process.poll() is None
    bare.process.send_signal(signal.SIGINT)
    assert bare.process.wait(SECONDS) == 0


def test_a_workspace_that_is_removed_ends_it_with_the_reason(lab, watch, tmp_path):
    watching = watch()
    assert watching.line()[0] == "err"
    os.rename(tmp_path / "lab", tmp_path / "moved")
    assert watching.process.wait(SECONDS) == 3
    assert "was removed, moved or replaced" in "\n".join(text for _, text in watching.rest())
    shutil.move(tmp_path / "moved", tmp_path / "lab")
