"""Mark, status bar, board, Workbench, lineage and badge say the same of a workspace within moments of
an edit, a run, a failure, a definition and a restart; so does what another process reads."""

import re
import time
from collections import Counter

import pytest

import jammi_lab as jl
from tests.browser.lab import SHOTS, THEMES, picture, written
from tests.browser.test_marks import KERNEL, MAKE, PANEL, edit, wait_for_kernel
from tests.sizes import sized, soak

CELLS = [
    MAKE,
    "%%jammi -m busy\nSELECT v.day, v.visits FROM visits AS v WHERE v.visits > 3",
    "%%jammi -m counted\nSELECT count(*) AS n FROM jammi.busy",
    "%jammi status",
    "%jammi lineage",
    "import jammi_lab as jl\njl.widgets.Workbench(ws)",
    "_ = %jammi recompute",
    "print('READY', 6 * 7)",
]
RECOMPUTE = 6
"""The index of that cell."""
DOUBLED = "SELECT 2 * count(*) AS n FROM jammi.busy"
FAILURE = "its last run failed: There is no column visits in visits."
TABLES = ("busy", "counted")
SNAPSHOTS = 10
"""How many are taken after each event, once the surfaces agree."""
WAIT_SECONDS = 20.0
"""The machine of the tests is shared; how long it takes on an idle one is printed."""
WORDS = ("possibly stale", "stale", "fresh", "undecidable", "damaged", "missing manifest")
SEEN = f"""() => {{
  {PANEL}
  const texts = (inside, part) => [...inside.querySelectorAll(part)];
  const marks = Object.fromEntries(panel.content.widgets.flatMap((cell, n) => {{
    const mark = cell.node.querySelector(':scope > .jammi-cell-mark');
    return mark ? [[n + 1, mark.title]] : [];
  }}));
  const boards = texts(panel.node, '[data-testid="jammi-staleness"]').map((board) => ({{
    rows: Object.fromEntries(texts(board, 'tr[data-name]').map((row) =>
      [row.dataset.name, row.querySelector('[data-testid^="verdict-"]').innerText])),
    reasons: texts(board, '.jammi-why .jammi-one-line').map((line) => line.innerText),
    counts: texts(board, '[data-testid^="count-"]').map((count) => count.innerText),
  }}));
  return {{
    marks, boards,
    status: document.querySelector('[data-testid="jammi-status"]').textContent,
    heading: texts(panel.node, '.jammi-heading').map((line) => line.innerText),
    graphs: texts(panel.node, '[data-testid="jammi-lineage"]').map((graph) => Object.fromEntries(
      texts(graph, '[data-testid^="node-"]').map((node) => [node.dataset.testid.slice(5), node.getAttribute('aria-label')]))),
  }};
}}"""


def word_in(text: str) -> str:
    """The word of a verdict in a text."""
    return next((word for word in WORDS if re.search(rf"\b{word}\b", text)), "")


def counts_in(text: str) -> dict[str, int]:
    """`≠ 1 stale, 1 possibly stale` as numbers by word."""
    return {word.strip(): int(number) for number, word in re.findall(r"(\d+)\W+([a-z ]+)", text)}


def disagreements(seen, status) -> list[str]:
    """What a snapshot of the page shows otherwise than the workspace is, by surface."""
    words = {row.name: jl_word(row) for row in status}
    counts, found = dict(Counter(words.values())), []
    for board in seen["boards"]:
        shown = {name: word_in(text) for name, text in board["rows"].items()}
        found += [f"board: {shown}"] if shown != words else []
        number = {k: v for count in board["counts"] for k, v in counts_in(count).items()}
        found += [f"board counts: {number}"] if number != counts else []
        failed = any("its last run failed" in reason for reason in board["reasons"])
        if failed != any(row.failed_run for row in status):
            found.append(f"board: {board['reasons']}")
    found += [f"heading: {h}" for h in seen["heading"] if counts_in(h.partition(":")[2]) != counts]
    for graph in seen["graphs"]:
        shown = {name: word_in(graph.get(name) or "") for name in TABLES}
        found += [f"lineage: {shown}"] if shown != words else []
    open_counts = {word: n for word, n in counts.items() if word != "fresh"}
    if counts_in(seen["status"]) != open_counts or ("fresh" in seen["status"]) == bool(open_counts):
        found.append(f"status bar: {seen['status']}")
    for cell, name in enumerate(TABLES, 2):
        mark = seen["marks"].get(str(cell), "")
        outdated = f"{name} is outdated: "  # the output is of an earlier version
        shown = word_in(mark) or "fresh"
        if shown != words[name] or (shown == "fresh" and mark and not mark.startswith(outdated)):
            found.append(f"mark of {name}: {mark or 'none'}")
    return found


def jl_word(row) -> str:
    """The verdict's word as a program has it."""
    return row.verdict.to_dict()["kind"].replace("_", " ")


def recompute_on_board(page):
    board = page.get_by_test_id("jammi-staleness").first
    everything = board.get_by_test_id("choose-all")
    everything.uncheck()  # a table whose run failed stays selected
    everything.check()
    board.get_by_text("Recompute 2", exact=True).wait_for()
    board.get_by_test_id("recompute-chosen").click()


def run_cell(page, index):
    page.evaluate(
        f"() => {{ {PANEL} panel.content.activeCellIndex = {index}; "
        "window.jupyterapp.commands.execute('notebook:run-cell'); }"
    )


def define(lab, text):
    with jl.open(lab.folder / "lab") as ws:
        ws.define("counted", text)


def restart(page):
    """The kernel ends, and the cells are run again."""
    wait_for_kernel(page)
    page.evaluate(f"async () => {{ {KERNEL} await kernel.restart(); }}")
    wait_for_kernel(page)
    page.evaluate("() => window.jupyterapp.commands.execute('notebook:run-all-cells')")


def write_other_columns(lab):
    (lab.folder / "visits.csv").write_text("day,guests\nMon,3\n")


@soak
@pytest.mark.parametrize("theme", THEMES)
def test_all_surfaces_say_the_same_after_edits_runs_failures_and_restarts(lab, theme):
    written(lab.folder / "agree.ipynb", CELLS)
    page = lab.open("agree.ipynb", width=1280, height=1400)
    page.get_by_text("READY 42").wait_for()
    fresh, moved = ("fresh", "fresh"), ("stale", "possibly stale")
    events = [
        ("opened", lambda: None, fresh, ""),
        ("edited", lambda: edit(lab.folder, 3, 5, 9), moved, ""),
        ("recomputed on the board", lambda: recompute_on_board(page), fresh, ""),
        ("edited back", lambda: edit(lab.folder, 3, 5), moved, ""),
        ("recomputed by a cell", lambda: run_cell(page, RECOMPUTE), fresh, ""),
        ("other columns", lambda: write_other_columns(lab), moved, ""),
        ("a run that fails", lambda: recompute_on_board(page), moved, FAILURE),
        ("columns as before", lambda: edit(lab.folder, 3, 7, 9), moved, FAILURE),
        ("a run that succeeds", lambda: recompute_on_board(page), fresh, ""),
        ("defined elsewhere", lambda: define(lab, DOUBLED), ("fresh", "stale"), ""),
        ("restarted and run again", lambda: restart(page), fresh, ""),
    ]
    short = ("opened", "edited", "recomputed on the board", "defined elsewhere")
    events = sized([event for event in events if event[0] in short], events)
    slowest = 0.0
    for name, act, words, failure in events:
        act()
        began = time.monotonic()
        while True:
            with jl.open(lab.folder / "lab", read_only=True) as ws:
                status = ws.status()
            seen = page.evaluate(SEEN)
            found = disagreements(seen, status)
            if (tuple(map(jl_word, status)), status["busy"].failed_run or "") != (words, failure):
                found.append(f"the workspace: {status!r}")
            if not found and len(seen["boards"]) == 2 and len(seen["graphs"]) == 2:
                break
            assert time.monotonic() - began < WAIT_SECONDS, (name, found, seen)
        took = time.monotonic() - began
        slowest = max(slowest, took)
        print(f"{name}: all agree after {took:.2f} s: {seen['status']}")
        if SHOTS:
            picture(page, f"agree-{name.replace(' ', '-')}", theme)
        for _ in range(SNAPSHOTS):
            assert disagreements(page.evaluate(SEEN), status) == [], name
    print(f"{SNAPSHOTS * len(events)} snapshots agree; slowest {slowest:.2f} s")
