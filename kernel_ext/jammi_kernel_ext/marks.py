"""The process that keeps the marks of open notebooks up to date:
`python -m jammi_kernel_ext.marks`.

Each line of standard input is a request, each line of standard output an answer, both JSON:

    {"id", "file", "stamps": [[cell, stamp, reported], …], "texts": [[cell, Markdown], …]}
    {"id", "marks": {cell: reason}, "workspace", "counts": {verdict: number of tables}, "state"}

A request holds the stamped outputs and the Markdown cells of a notebook and replaces earlier ones
with its id; without any the notebook is no longer watched. Cells with outdated numbers are marked,
too. `reported` has what the output itself reports of its tables, as `t is stale`; `"*"` stands for
the verdict of the stamp. `state` is a digest of what a board of the workspace shows. An answer is
sent when it differs from the last one; the page then refreshes its panels. The process ends with
its input. It opens workspaces read-only, connects to nothing that they name, and runs nothing.

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
from functools import cached_property
from pathlib import Path
from typing import Any, TextIO

import msgspec

from jammi_lab.core.errors import JammiError
from jammi_lab.core.html import unmarked_word
from jammi_lab.core.redaction import redact
from jammi_lab.features.outputs.stamps import Stamp, stamp_from
from jammi_lab.features.prose.documents import Document, notebook_proses
from jammi_lab.features.prose.text_check import OUTDATED as NUMBER_OUTDATED
from jammi_lab.workspace.stamp_checks import (
    FRESH,
    OUTDATED,
    STALE,
    Shown,
    ShownTable,
    StampJudge,
    Workspaces,
)

INTERVAL_SECONDS = 0.25
"""Pause between two checks of a notebook."""
COUNT_SECONDS = 0.5
"""Pause between two counts of the tables of a workspace."""
REST_FACTOR = 9
"""Pause after a check or count, as a multiple of its duration: a slow workspace costs at most a
tenth of a processor. The shorter of the last two counts: the first one opens the workspace, and one
after a change reads what changed."""
EXIT_SECONDS = 5.0
"""How long a check that is running when the input ends may delay the exit."""
MAX_REASON_CHARACTERS = 300
MAX_TEXT_CHARACTERS = 200_000
"""Of the Markdown of a notebook. Reading more may take seconds, in which no notebook has marks."""


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
    """What it reports of tables that are not fresh, as `t is stale`."""

    def reported_word(self, stamp: Stamp, name: str) -> str | None:
        """The word of a table's verdict as the output reports it; None when it is cut off."""
        clauses = stamp.verdict.split("; ") if "*" in self.reported else self.reported
        for clause in clauses:
            if clause.startswith(f"{name} is "):
                return clause.removeprefix(f"{name} is ").partition(":")[0].rstrip(".")
        return None if clauses is not self.reported and stamp.verdict.endswith("…") else FRESH


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
        if not any(prose.numbers or prose.ties for prose in self.document.proses):
            return {}
        checker = workspaces.nearest(self.file).prose
        if (state := checker.state()) != self.state:
            self.state, self.marks = state, {}
            for entry in checker.check(self.document, [*self.tables]):
                if entry.outcome == NUMBER_OUTDATED and entry.cell is not None:
                    cell = self.cells[entry.cell][0]
                    reason = f"{entry.number} is outdated: {entry.judgement.reason}."
                    self.marks[cell] = "\n".join(filter(None, [self.marks.get(cell), reason]))
        return self.marks

    @cached_property
    def document(self) -> Document:
        """The texts with their numbers; none where they are longer than texts of people are."""
        texts = [text for _, text in self.cells]
        if sum(map(len, texts)) > MAX_TEXT_CHARACTERS:
            texts = []
        return Document(self.file, notebook_proses([*enumerate(texts)]), "\n".join(texts))


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
        self._boards: dict[tuple[str, str | None], tuple[Timer, dict[str, Any]]] = {}
        """What the boards of workspaces show, for each tenant, and when that is due again."""

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
        marks, judge, tenant = dict[str, str](), None, None
        entries = self._workspaces.check_each([each.shown for each in notebook.outputs])
        for output, found in zip(notebook.outputs, entries, strict=True):
            own_judge = self._workspaces.find(output.shown)
            if own_judge is not None and output.shown.stamp is not None:
                judge, tenant = own_judge, output.shown.stamp.tenant
            lines = [marks.get(output.cell, ""), *changed_reasons(output, found, own_judge)]
            if reasons := "\n".join(filter(None, lines)):
                marks[output.cell] = reasons[:MAX_REASON_CHARACTERS]
        with contextlib.suppress(JammiError):  # no workspace is near, or several are
            for cell, reason in notebook.texts.check(self._workspaces).items():
                marks[cell] = reason[:MAX_REASON_CHARACTERS]
        if judge is None:
            self._send(notebook, {"id": notebook.key, "marks": marks})
            return
        timer, board = self._boards.setdefault(
            (judge.path, tenant), (Timer(COUNT_SECONDS), {"counts": {}, "state": ""})
        )
        answer = {"id": notebook.key, "marks": marks, "workspace": judge.path}
        if marks != notebook.answer.get("marks"):
            timer.due = 0.0
        self._send(notebook, answer | board)
        if timer.is_due():
            began = time.monotonic()
            board |= judge.summarize_board(tenant)
            timer.begin_pause(began)
            self._send(notebook, answer | board)

    def _send(self, notebook: WatchedNotebook, answer: dict[str, Any]) -> None:
        if answer == notebook.answer:
            return
        notebook.answer = answer
        self._output.write(json.dumps(answer) + "\n")
        self._output.flush()

    def close(self) -> None:
        """Close the workspaces."""
        self._workspaces.__exit__()


def changed_reasons(
    output: StampedOutput, entries: Iterable[ShownTable], judge: StampJudge | None
) -> Iterator[str]:
    """Why an output no longer holds, each table on a line with what updates it."""
    for entry in entries:
        stamp, name = output.shown.stamp, entry.table or ""
        if entry.version is None and entry.outcome == STALE:
            yield redact(f"{entry.reason}. Run the cell.")
        if entry.version is None or stamp is None or judge is None:
            continue
        word, reported = judge.verdict_word(stamp, name), output.reported_word(stamp, name)
        is_reported = reported is None or unmarked_word(word) == unmarked_word(reported)
        name = judge.with_recipe(entry, stamp).table or ""
        if entry.outcome == OUTDATED:
            itself = "" if unmarked_word(word) == FRESH else f", itself {word}"
            yield redact(f"{name} is outdated: {entry.reason}{itself}. Run the cell.")
        elif entry.outcome == FRESH and not is_reported:
            yield redact(f"{name} is {word} now. Run the cell.")
        elif entry.outcome == STALE and not is_reported:
            yield redact(
                f"{name} is {word}: {entry.reason}. Run the cell that makes it, or recompute it "
                "and run this one."
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
