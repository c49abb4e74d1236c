"""The process that keeps the marks of open notebooks up to date:
`python -m jammi_kernel_ext.marks`.

Each line of standard input is a request, each line of standard output an answer, both JSON:

    {"id", "file", "stamps": [[cell, stamp, reported], …], "texts": [[cell, Markdown], …]}
    {"id", "marks": {cell: reason}, "counts": {verdict: number of tables}, "workspace"}

A request holds the stamped outputs and the Markdown cells of a notebook and replaces earlier ones
with its id; without any the notebook is no longer watched. Cells with outdated numbers are marked,
too. `reported` names the tables that the output itself reports as not fresh; `"*"` stands for those
in the verdict of the stamp. An answer is sent when it differs from the last one. The process ends
with its input. It opens workspaces read-only, connects to nothing that they name, and runs nothing.

A Jupyter server starts it (`marks_server`): the engine stays out of the process on which all
kernels depend, and its memory is released with the last notebook.
"""

import contextlib
import json
import os
import queue
import sys
import threading
import time
import traceback
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import msgspec

from jammi_lab.core.errors import JammiError
from jammi_lab.core.redaction import redact
from jammi_lab.features.outputs.stamps import stamp_from
from jammi_lab.features.prose.documents import Document, notebook_proses
from jammi_lab.features.prose.text_check import OUTDATED as NUMBER_OUTDATED
from jammi_lab.workspace.stamp_checks import (
    OUTDATED,
    STALE,
    Shown,
    ShownTable,
    StampJudge,
    Workspaces,
)

INTERVAL_SECONDS = 0.25
"""Pause between two checks of a notebook."""
COUNT_SECONDS = 2.0
"""Pause between two counts of the tables of a workspace."""
REST_FACTOR = 9
"""Pause after a check or count, as a multiple of its duration: a slow workspace costs at most a
tenth of a processor. The shorter of the last two counts: the first one opens the workspace, and one
after a change reads what changed."""
EXIT_SECONDS = 5.0
"""How long a check that is running when the input ends may delay the exit."""
MAX_REASON_CHARACTERS = 300


class MarksRequest(msgspec.Struct):
    """A request, in the types that an answer needs."""

    id: int
    file: str = ""
    stamps: list[tuple[str, Any, list[str]]] = []
    texts: list[tuple[str, str]] = []


@dataclass
class Timer:
    """When something is due again."""

    pause_seconds: float
    """The shortest pause."""
    due: float = 0.0
    """On the monotonic clock."""
    last_seconds: float = 0.0
    """How long the work took last time."""

    def is_due(self) -> bool:
        """Whether the pause is over."""
        return time.monotonic() >= self.due

    def begin_pause(self, began: float) -> None:
        """Begin the pause after work that began at that time."""
        now = time.monotonic()
        seconds, self.last_seconds = self.last_seconds, now - began
        shorter = min(seconds, self.last_seconds)
        self.due = now + max(self.pause_seconds, REST_FACTOR * shorter)


@dataclass
class StampedOutput:
    """An output of an open notebook."""

    cell: str
    """The id of its cell."""
    shown: Shown
    reported: Sequence[str]
    """The tables that it reports as not fresh."""

    def reports(self, entry: ShownTable) -> bool:
        """Whether the output itself reports that a table does not hold."""
        name, stamp = entry.table or "", self.shown.stamp
        if "*" in self.reported:
            return stamp is not None and stamp.reports_stale(name)
        return name in self.reported


@dataclass
class WatchedTexts:
    """The Markdown cells of one open notebook, and what was found in them."""

    file: Path
    cells: list[tuple[str, str]]
    """The ids of the cells, and their texts."""
    tables: set[str]
    """The tables that the outputs show."""
    state: object = None
    """The versions with which they were compared; None before the first time."""
    marks: dict[str, str] = field(default_factory=dict)

    def check(self, workspaces: Workspaces) -> dict[str, str]:
        """Why numbers of cells are outdated. They are compared again when there is another
        version. JammiError."""
        document = Document(self.file, notebook_proses([*enumerate(self.texts)]), "")
        if not any(prose.numbers or prose.ties for prose in document.proses):
            return {}
        checker = workspaces.nearest(self.file).prose
        if (state := checker.state()) != self.state:
            self.state, self.marks = state, {}
            document.raw = "\n".join(self.texts)
            for entry in checker.check(document, [*self.tables]):
                if entry.outcome == NUMBER_OUTDATED and entry.cell is not None:
                    cell = self.cells[entry.cell][0]
                    reason = f"{entry.number} is outdated: {entry.judgement.reason}."
                    self.marks[cell] = "\n".join(filter(None, [self.marks.get(cell), reason]))
        return self.marks

    @property
    def texts(self) -> list[str]:
        """The texts of the cells."""
        return [text for _, text in self.cells]


@dataclass
class WatchedNotebook:
    """The stamped outputs of one open notebook."""

    key: int
    """The id of its requests."""
    outputs: list["StampedOutput"]
    texts: "WatchedTexts"
    answer: dict[str, Any] = field(default_factory=dict)
    """The answer that was sent last."""
    timer: Timer = field(default_factory=lambda: Timer(INTERVAL_SECONDS))
    """When the next check is due."""


class MarkService:
    """Checks watched notebooks, and sends what changed."""

    def __init__(self, output: TextIO) -> None:
        self._output, self._workspaces = output, Workspaces(None, None)
        self._notebooks: dict[int, WatchedNotebook] = {}
        self._counts: dict[str, tuple[Timer, dict[str, int]]] = {}

    def receive(self, line: str | bytes) -> None:
        """Watch a notebook in its present state, or stop watching it. A malformed request, which a
        page may send, is ignored."""
        try:
            request = msgspec.json.decode(line, type=MarksRequest)
        except (msgspec.DecodeError, RecursionError):
            return
        outputs = [
            StampedOutput(cell, Shown(Path(request.file), None, stamp, stamp.rows), reported)
            for cell, metadata, reported in request.stamps
            if (stamp := stamp_from(metadata)) is not None
        ]
        self._notebooks.pop(request.id, None)
        if outputs or request.texts:
            stamps = [output.shown.stamp for output in outputs]
            tables = {each.name for stamp in stamps if stamp is not None for each in stamp.tables}
            texts = WatchedTexts(Path(request.file), request.texts, tables)
            self._notebooks[request.id] = WatchedNotebook(request.id, outputs, texts)

    def check_due(self) -> float:
        """Check the notebooks that are due. Returns the seconds until the next one is."""
        for notebook in [each for each in self._notebooks.values() if each.timer.is_due()]:
            began = time.monotonic()
            try:
                self._check(notebook)
            except JammiError:
                pass  # the catalog is busy or gone: the marks stay
            except Exception:  # noqa: BLE001  the process serves the other notebooks, too
                traceback.print_exc()
                self._notebooks.pop(notebook.key)
            notebook.timer.begin_pause(began)
        next_due = min((each.timer.due for each in self._notebooks.values()), default=None)
        return 3600.0 if next_due is None else max(0.0, next_due - time.monotonic())

    def _check(self, notebook: WatchedNotebook) -> None:
        self._workspaces.forget_observations()
        marks, judge = dict[str, str](), None
        entries = self._workspaces.check_each([each.shown for each in notebook.outputs])
        for output, found in zip(notebook.outputs, entries, strict=True):
            judge = judge or self._workspaces.find(output.shown)
            lines = [marks.get(output.cell, ""), *changed_reasons(output, found)]
            if reasons := "\n".join(filter(None, lines)):
                marks[output.cell] = reasons[:MAX_REASON_CHARACTERS]
        with contextlib.suppress(JammiError):  # no workspace is near, or several are
            for cell, reason in notebook.texts.check(self._workspaces).items():
                marks[cell] = reason[:MAX_REASON_CHARACTERS]
        self._send(notebook, marks, judge)
        if judge is not None and self._count_verdicts(judge):
            self._send(notebook, marks, judge)

    def _send(
        self, notebook: WatchedNotebook, marks: dict[str, str], judge: StampJudge | None
    ) -> None:
        answer: dict[str, Any] = {"id": notebook.key, "marks": marks}
        if judge is not None:
            counts = self._counts.setdefault(judge.path, (Timer(COUNT_SECONDS), {}))[1]
            answer |= {"workspace": judge.path, "counts": counts}
        if answer == notebook.answer:
            return
        if marks != notebook.answer.get("marks") and judge is not None:
            self._counts[judge.path][0].due = 0.0
        notebook.answer = answer
        self._output.write(json.dumps(answer) + "\n")
        self._output.flush()

    def _count_verdicts(self, judge: StampJudge) -> bool:
        """Count the tables again when that is due. Returns whether it was."""
        timer = self._counts[judge.path][0]
        if not timer.is_due():
            return False
        began = time.monotonic()
        self._counts[judge.path] = timer, dict(judge.count_verdicts())
        timer.begin_pause(began)
        return True

    def close(self) -> None:
        """Close the workspaces."""
        self._workspaces.__exit__()


def changed_reasons(output: StampedOutput, entries: Iterable[ShownTable]) -> Iterator[str]:
    """Why an output no longer holds, each table on a line with what updates it."""
    for entry in entries:
        if entry.version is None and entry.outcome == STALE:
            yield redact(f"{entry.reason}. Run the cell.")
        elif entry.outcome == OUTDATED:
            yield redact(f"{entry.table} is outdated: {entry.reason}. Run the cell.")
        elif entry.outcome == STALE and not output.reports(entry):
            yield redact(
                f"{entry.table} is stale: {entry.reason}. Run the cell that makes it, or recompute "
                "it and run this one."
            )


def main() -> None:
    """Serve requests until the input ends."""
    requests: queue.SimpleQueue[str | None] = queue.SimpleQueue()

    def read() -> None:
        for line in sys.stdin:
            requests.put(line)
        requests.put(None)
        time.sleep(EXIT_SECONDS)
        os._exit(0)  # a check hangs in a system call

    threading.Thread(target=read, name="jammi-marks-input", daemon=True).start()
    # Nothing else may write between the answers.
    output = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    service, wait_seconds = MarkService(output), 3600.0
    try:
        while True:
            try:
                line = requests.get(timeout=wait_seconds)
            except queue.Empty:
                pass
            else:
                if line is None:
                    return
                service.receive(line)
            wait_seconds = service.check_due()
    finally:
        service.close()


if __name__ == "__main__":
    main()
