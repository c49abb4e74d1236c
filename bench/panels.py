"""What the panels take: on the page in a real browser, and in the kernel for each thing that
somebody does. The other side is what was promised."""

import base64
import contextlib
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

import jammi_lab as jl
from bench.harness import Line
from jammi_kernel_ext.frame_follower import FrameFollower
from jammi_lab.core.records import Edge
from jammi_lab.core.verdicts import Fresh
from jammi_lab.freshness.lineage import Node
from jammi_lab.freshness.reports import StatusRow
from jammi_lab.sources.frame_origins import origins
from jammi_widgets import assets, auto_refresh, board_rows, graph_view, protocol
from jammi_widgets.catalog import CatalogBrowser
from jammi_widgets.diff import DiffView
from jammi_widgets.graph_view import LineageSnapshot
from jammi_widgets.lineage import LineageGraph
from jammi_widgets.map import EmbeddingMap
from jammi_widgets.neighbors import NeighborExplorer
from jammi_widgets.results import ResultView
from jammi_widgets.staleness import StalenessBoard

DIFF_ROWS, PROFILED_COLUMNS = 10_000_000, 20
DIFFERENCES = {
    "in one of five columns": ("(i % 1000003 = 0)::INT", f"range({DIFF_ROWS}) r(i)", 10),
    "one of which was removed": ("0", f"range({DIFF_ROWS}) r(i) WHERE i <> {DIFF_ROWS // 2}", 1),
    "after which some were added": ("0", f"range({DIFF_ROWS + 1_000}) r(i)", 1_000),
}
"""What the later version adds to the prices, its rows, and the number of rows that differ."""
NODES, MANY_NODES, POINTS, RECIPES, TABLES = 1_000, 10_000, 100_000, 50_000, 300
PAGE = """<!doctype html><meta charset=utf-8><div id=el></div><script type=module>
import widget from "/module.js";
const waiting = [];
const answers = {answers};
class Model {{
  constructor(state) {{ this.state = state; this.heard = {{}}; }}
  get(name) {{ return this.state[name]; }}
  set(name, value) {{ this.state[name] = value; }}
  async save_changes() {{}}
  on(name, f) {{ (this.heard[name] ??= []).push(f); }}
  off() {{}}
  send(message) {{
    const {{ body, buffers }} = answers[message.kind] || {{ body: {{}} }};
    const views = (buffers || []).map((b) => new DataView(Uint8Array.from(atob(b), (c) => c.charCodeAt(0)).buffer));
    queueMicrotask(() => this.heard["msg:custom"].forEach((f) => f({{ v: 1, kind: "answer", ask: message.ask, body }}, views)));
  }}
}}
const frame = () => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
window.paint = async (state) => {{
  const el = document.getElementById("el");
  el.replaceChildren();
  window.el = el;
  const began = performance.now();
  await widget.render({{ model: new Model(state), el }});
  while (!el.querySelector("{part}")) await new Promise((f) => setTimeout(f, 1));
  await frame();
  return performance.now() - began;
}};
window.pan = async (n) => {{
  const began = performance.now();
  for (let i = 0; i < n; i++) {{ window.el._pan(1); await new Promise((f) => requestAnimationFrame(f)); }}
  return (performance.now() - began) / n;
}};
window.ready = true;
</script>"""


def panels(folder: Path, repeats: int) -> Iterator[Line]:
    """First paint, panning, points, the kernel's part, and how large the modules are."""
    with jl.open(folder / "lab") as ws:
        yield from _sizes()
        many = _graph(ws, MANY_NODES)
        many_open = many._dispatch(protocol.Open(v=1, ask=1))
        many_seconds = _message_seconds(many, protocol.Open, repeats)
        graph = _graph(ws, NODES)
        for what, message in (
            ("the first drawing", protocol.Open),
            ("a filter", protocol.Refresh),
            ("no filter any more", None),
            ("hops", protocol.Show),
            ("a click", protocol.Details),
        ):
            yield _promise_line(
                f"kernel: {what} in the lineage of {NODES:,} nodes",
                _message_seconds(graph, message, max(9, repeats)),
                0.020,
            )
        yield _promise_line(
            f"kernel: another order of {RECIPES:,} rows on the board",
            _sort_seconds(ws, repeats),
            0.020,
        )
        yield _promise_line(
            "kernel: what a cell waits for while a board is shown",
            _follow_seconds(ws, repeats),
            0.020,
        )
        yield _promise_line(
            "kernel: following frames through a new cell of 20 lines (processor)",
            _cell_seconds(ws, max(21, repeats)),
            0.001,
        )
        plan = _map(ws)
        yield _promise_line(
            f"kernel: a lasso of 60 corners over {POINTS:,} points",
            _lasso_seconds(plan, repeats),
            0.020,
        )
        for key in ("id", None):
            for what, (columns, rows, differing) in DIFFERENCES.items():
                yield _promise_line(
                    f"kernel: the numbers of a difference of {DIFF_ROWS:,} rows {what}, "
                    f"{'with a key' if key else 'without a key'}",
                    _diff_seconds(ws, key, columns, rows, differing, repeats),
                    1.0,
                )
        yield _promise_line(
            f"kernel: the profiles of {PROFILED_COLUMNS} columns of {DIFF_ROWS:,} rows",
            _profile_seconds(ws, repeats),
            2.0,
        )
        yield from _refresh_lines(folder / "many", repeats)
        yield from _source_column_lines(ws, folder / "behind.csv", repeats)
        try:
            yield from _pages(_graph(ws, graph_view.MAX_DRAWN_NODES), plan, repeats)
            yield from _many_page(many_open, many_seconds, repeats)
        except ImportError:
            print("the browser's part was left out: playwright is not installed")


def _promise_line(what: str, seconds: float, limit: float) -> Line:
    return Line(what, seconds, limit, seconds / limit, 1.0)


def _sizes() -> Iterator[Line]:
    for name in ("lineage", "staleness", "neighbors", "map", "catalog", "results", "diff"):
        size = len(assets.module(name).encode()) + len(assets.style().encode())
        yield Line(
            f"module and style of {name}, in MB against 0.1", size / 1e6, 0.1, size / 1e5, 1.0
        )


def _diff_seconds(
    ws: Any, key: str | None, change: str, rows: str, differing: int, repeats: int
) -> float:
    """The time until a panel knows how many rows differ in which columns."""
    table = "offers" if key else "unkeyed_offers"
    for added, numbers in (("0", f"range({DIFF_ROWS}) r(i)"), (change, rows)):
        ws.materialize(
            table,
            f"""SELECT i AS id, (i * 7919 % 100000) / 100.0 + {added} AS price, 'name ' || (i % 5000)
            AS name, (i % 97)::INT AS amount, DATE '2020-01-01' + (i % 1000)::INT AS day
            FROM {numbers}""",
            key=key,
        )
    took = []
    for _ in range(repeats + 1):
        panel = DiffView(ws, table)
        began = time.perf_counter()
        summary = panel.summary
        took.append(time.perf_counter() - began)
        assert summary.changed + summary.added + summary.removed == differing
        panel.close()
    ws.drop(table)
    return sorted(took[1:])[len(took[1:]) // 2]


def _profile_seconds(ws: Any, repeats: int) -> float:
    """The time until the profiles of all columns are known: whole numbers, floats, texts, dates."""
    columns = (
        f"(i * {7919 + at}) % 1000003 AS number_{at}, (i * {at + 3} % 100000) / 100.0 AS price_{at}, "
        f"'name ' || (i * {at + 7} % 5000) AS name_{at}, "
        f"DATE '2020-01-01' + (i * {at + 1} % 1000)::INT AS day_{at}"
        for at in range(PROFILED_COLUMNS // 4)
    )
    ws.materialize("wide", f"SELECT {', '.join(columns)} FROM range({DIFF_ROWS}) r(i)")
    took = []
    for _ in range(repeats + 1):
        panel = ResultView(ws.table("wide"))
        began = time.perf_counter()
        assert panel.profile("number_0").highest == "1000002"
        took.append(time.perf_counter() - began)
        panel.close()
    return sorted(took[1:])[len(took[1:]) // 2]


def _graph(ws: Any, size: int) -> LineageGraph:
    """A panel over a lineage of many tables in twenty columns."""
    wide = size // 20
    nodes = [Node("sql", f"table_{i}", 1) for i in range(size)]
    edges = [
        Edge(f"table_{i}", f"table_{i + wide + d}", "result_digest")
        for i in range(size - wide - 1)
        for d in (0, 1)
    ]
    panel = LineageGraph(ws)
    panel._snapshot = LineageSnapshot(nodes, edges, {n.name: Fresh() for n in nodes})
    panel.send = lambda *_: None
    return panel


def _message_seconds(panel: LineageGraph, kind: Any, repeats: int) -> float:
    took = []
    for at in range(repeats + 1):
        name = f"table_{400 + at}"
        if kind is protocol.Open:
            began = time.perf_counter()
            panel._body()
        elif kind is protocol.Refresh:
            began = time.perf_counter()
            panel.filter = name
        elif kind is None:
            panel.filter = name
            began = time.perf_counter()
            panel.filter = ""
        elif kind is protocol.Details:
            began = time.perf_counter()
            panel.selection = [name]
        else:
            panel.filter = ""
            began = time.perf_counter()
            panel._dispatch(protocol.Show(v=1, ask=1, node=name, hops=3))
        took.append(time.perf_counter() - began)
    panel.filter = ""
    panel.focus = None
    panel.selection = []
    return sorted(took[1:])[len(took[1:]) // 2]


def _sort_seconds(ws: Any, repeats: int) -> float:
    """The time of the first page of a board in a new sort order."""
    panel = StalenessBoard(ws)
    panel.send = lambda *_: None
    verdict = Fresh()
    rows = [
        StatusRow(
            name=f"table_{at}",
            version=1,
            verdict=verdict,
            rows=at % 977,
            bytes=at % 4_001,
            age=float(at % 89),
        )
        for at in range(RECIPES)
    ]
    lines = [board_rows.RecipeRow(row, "fresh", [], [], None) for row in rows]
    took = []
    for _ in range(repeats + 1):
        panel._rows = board_rows.RecipeRows(lines)
        panel._dispatch(protocol.Rows(v=1, ask=1, sort="name"))
        began = time.perf_counter()
        panel._dispatch(protocol.Rows(v=1, ask=1, sort="rows"))
        took.append(time.perf_counter() - began)
    return sorted(took[1:])[len(took[1:]) // 2]


def _follow_seconds(ws: Any, repeats: int) -> float:
    """The time from the end of a cell to the next one; the observation itself runs in the
    background."""
    panel = StalenessBoard(ws)
    panel.send = lambda *_: None
    panel._dispatch(protocol.ViewOpened(v=1, ask=1, view=1))
    took = []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        auto_refresh.schedule_refresh()
        took.append(time.perf_counter() - began)
        auto_refresh._queue.wait()
    panel.close()
    return sorted(took[1:])[len(took[1:]) // 2]


_CELL = """
a = df.assign(n=df.x * 2)
b = a[a.n > {number}]
c = b.groupby('id').sum()
d = c.reset_index()
e = d.merge(df, on='id')
f = e.rename(columns={{'n': 'm'}})
g = f.sort_values('m')
h = {{'a': a, 'b': b}}
k = [h[name] for name in h]
m = pd.concat(k)
n = float(m.x.sum())
def scale(frame, by=2.0):
    return frame.assign(x=frame.x * by)
o = scale(df, n)
p = o.x.to_numpy()
q = np.log1p(p)
r = pd.DataFrame({{'id': range(len(q)), 'x': q}})
s = r.describe()
t = s.loc['mean', 'x']
u = df.copy()
"""


def _cell_seconds(ws: Any, repeats: int) -> float:
    """The processor time that following frames adds to the first run of a cell of 20 lines."""
    import pandas as pd

    values: dict[str, Any] = {"pd": pd, "np": np, "__name__": "__main__"}
    ws.materialize("numbers", "SELECT i AS id, i * 1.5 AS x FROM range(10) t(i)")
    follower, took = FrameFollower(values), []
    origins.take_reads()
    follower.begin("df = ws.table('numbers').pandas()", 0)
    values["df"] = ws.table("numbers").pandas()
    follower.end()
    for number in range(1, repeats + 1):
        code = _CELL.format(number=number)
        began = time.process_time()
        follower.begin(code, number)
        before = time.process_time()
        exec(compile(code, "cell", "exec"), values)
        after = time.process_time()
        follower.end()
        took.append(before - began + time.process_time() - after)
    origins.follower = None
    return sorted(took)[len(took) // 2]


def _refresh_lines(folder: Path, repeats: int) -> Iterator[Line]:
    """A refresh without changes: how long it blocks the kernel, and the processor time of its
    background work."""
    with jl.open(folder) as ws:
        for at in range(TABLES):
            ws.materialize(
                f"table_{at}",
                f"SELECT {at} AS n"
                if at < TABLES // 3
                else f"SELECT * FROM jammi.table_{at - TABLES // 3}",
            )
        for name, panel in (
            ("lineage", LineageGraph(ws)),
            ("board", StalenessBoard(ws)),
            ("catalog browser", CatalogBrowser(ws)),
        ):
            panel.send = lambda *_: None
            panel._dispatch(protocol.ViewOpened(v=1, ask=1, view=1))
            waited, worked = [], []
            for _ in range(repeats + 1):
                began, spent = time.perf_counter(), time.process_time()
                panel._on_message(panel, {"v": 1, "ask": 1, "kind": "refresh"}, [])
                waited.append(time.perf_counter() - began)
                panel._reply_queue.wait()
                worked.append(time.process_time() - spent)
            panel.close()
            for what, took, limit in (
                ("", waited, 0.020),
                (", and what a thread does for it (processor)", worked, 0.200),
            ):
                yield _promise_line(
                    f"kernel: a refresh of the {name} over {TABLES} tables{what}",
                    sorted(took[1:])[len(took[1:]) // 2],
                    limit,
                )


def _map(ws: Any) -> EmbeddingMap:
    rng = np.random.default_rng(7)
    vectors = rng.normal(size=(POINTS, 8)).astype(np.float32)
    frame = pa.table(
        {
            "id": pa.array(range(POINTS)),
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), 8),
        }
    )
    ws.import_embeddings("points", frame, key="id", index="later")
    panel = EmbeddingMap(ws, "points")
    panel.send = lambda *_: None
    return panel


def _lasso_seconds(panel: EmbeddingMap, repeats: int) -> float:
    around = [
        (0.4 * float(np.cos(a)), 0.4 * float(np.sin(a))) for a in np.linspace(0, 2 * np.pi, 60)
    ]
    took = []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        panel._dispatch(protocol.Lasso(v=1, ask=1, outline=around))
        took.append(time.perf_counter() - began)
    return sorted(took[1:])[len(took[1:]) // 2]


def _source_column_lines(ws: Any, path: Path, repeats: int) -> Iterator[Line]:
    """Panel updates with columns of a CSV file. The first two are not counted."""
    rng = np.random.default_rng(8)
    with path.open("w", encoding="utf-8") as file:
        file.write("id,title,venue,year\n")
        file.writelines(
            f"{at},the title of {at},venue {venue},{1980 + at % 40}\n"
            for at, venue in enumerate(rng.integers(0, 60, POINTS))
        )
    ws.sources.add("behind", str(path))
    drawn = rng.normal(size=(POINTS, 8)).astype(np.float32)
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(drawn.ravel()), 8)
    ws.import_embeddings(
        "beside", pa.table({"id": pa.array(range(POINTS)), "vector": vectors}), source="behind"
    )
    plan, explorer = EmbeddingMap(ws, "beside"), NeighborExplorer(ws, "beside")
    steps: tuple[tuple[str, Any, Callable[[int], Any]], ...] = (
        ("a row of the map is pointed at", plan, lambda at: protocol.Hover(v=1, ask=1, point=at)),
        (
            "the map has a colour",
            plan,
            lambda at: protocol.Colour(v=1, ask=1, column=("title", "venue", "year")[at % 3]),
        ),
        (
            "a step of the explorer",
            explorer,
            lambda at: protocol.FindNeighbors(v=1, ask=1, row=str(at), k=10),
        ),
    )
    for what, panel, message in steps:
        panel.send = lambda *_: None
        took = []
        for at in range(repeats + 2):
            began = time.perf_counter()
            panel._dispatch(message(at))
            took.append(time.perf_counter() - began)
        yield _promise_line(
            f"kernel: {what}, over a CSV file of {POINTS:,} rows",
            sorted(took[2:])[len(took[2:]) // 2],
            0.020,
        )
    shown = (("map", plan), ("explorer", explorer))
    for what, panel in shown:
        yield _promise_line(
            f"kernel: a condition for the {what}, over a CSV file of {POINTS:,} rows",
            _condition_seconds(panel, repeats),
            0.040,
        )
    for what, panel in shown:
        for step, asked in (
            ("a step of", steps[0][2] if panel is plan else steps[2][2]),
            ("a condition for", None),
        ):
            held = _seconds_after_change(panel, path, asked, repeats)
            yield _promise_line(
                f"kernel: {step} the {what} when the CSV file has just changed, which is "
                "read beside it",
                held,
                0.020,
            )


def _condition_seconds(panel: Any, repeats: int) -> float:
    """The time of a new filter condition."""
    took = []
    for at in range(repeats + 1):
        began = time.perf_counter()
        panel.filter = f"year > {1990 + at} AND title LIKE '%{at}%' AND venue <> 'venue {at}'"
        took.append(time.perf_counter() - began)
    panel.filter = ""
    return sorted(took[1:])[len(took[1:]) // 2]


def _seconds_after_change(
    panel: Any, path: Path, message: Callable[[int], Any] | None, repeats: int
) -> float:
    """How long a request blocks the kernel when the file has changed since the last observation; a
    thread does the rest."""
    panel._dispatch(protocol.ViewOpened(v=1, ask=1, view=1))
    took = []
    for at in range(repeats + 1):
        with path.open("a", encoding="utf-8") as file:
            file.write(f"{POINTS + int(time.monotonic() * 1e6)},another,venue 0,2000\n")
        began = time.perf_counter()
        if message is None:
            panel.filter = f"year < {2000 + at}"
        else:
            panel._on_message(panel, msgspec.to_builtins(message(at)), [])
        took.append(time.perf_counter() - began)
        panel._reply_queue.wait()
    panel._dispatch(protocol.ViewClosed(v=1, ask=1, view=1))
    panel.filter = ""
    return sorted(took[1:])[len(took[1:]) // 2]


@contextlib.contextmanager
def _browser_page() -> Iterator[Any]:
    """A page of a browser; None where there is no browser."""
    import os
    import shutil

    from playwright.sync_api import sync_playwright

    chromium = (
        os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    )
    if chromium is None:
        print("the browser's part was left out: there is no chromium")
        yield None
        return
    with sync_playwright() as started:
        browser = started.chromium.launch(
            executable_path=chromium,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        yield browser.new_page(viewport={"width": 1200, "height": 800})
        browser.close()


def _many_page(drawn: dict[str, Any], seconds: float, repeats: int) -> Iterator[Line]:
    with _browser_page() as page:
        if page is None:
            return
        _load(page, "lineage", {"open": {"body": drawn}}, ".jammi-node")
        paint = _median(page, "window.paint({selection: [], filter: '', focus: null})", repeats)
        yield _promise_line(
            f"kernel and page: first paint of {MANY_NODES:,} nodes",
            seconds + paint / 1e3,
            0.500,
        )


def _pages(graph: LineageGraph, plan: EmbeddingMap, repeats: int) -> Iterator[Line]:
    with _browser_page() as page:
        if page is None:
            return
        drawn = {"body": graph._dispatch(protocol.Open(v=1, ask=1))}
        _load(page, "lineage", {"open": drawn, "details": drawn}, ".jammi-node")
        paint = _median(page, "window.paint({selection: [], filter: '', focus: null})", repeats)
        yield _promise_line(
            f"page: first paint of {len(drawn['body']['nodes']):,} nodes after the data arrived",
            paint / 1e3,
            0.300,
        )
        yield _promise_line(
            "page: a frame while the picture is moved, against 60 a second",
            page.evaluate("window.pan(30)") / 1e3,
            1 / 60 * 1.1,
        )
        points = plan._dispatch(protocol.Points(v=1, ask=1))
        packed = [base64.b64encode(bytes(b)).decode() for b in points.pop("buffers")]
        _load(
            page,
            "map",
            {
                "open": {"body": plan._dispatch(protocol.Open(v=1, ask=1))},
                "points": {"body": points, "buffers": packed},
            },
            "[data-points]",
        )
        paint = _median(page, "window.paint({selection: [], filter: '', color: ''})", repeats)
        yield _promise_line(f"page: {POINTS:,} points on the screen", paint / 1e3, 1.0)


def _load(page: Any, name: str, answers: dict[str, Any], part: str) -> None:
    files = {
        "/": (PAGE.format(answers=json.dumps(answers), part=part), "text/html"),
        "/module.js": (assets.module(name), "text/javascript"),
    }
    page.unroute_all()
    page.route(
        "**/*",
        lambda route: route.fulfill(
            body=files[(at := route.request.url.removeprefix("http://panel.test"))][0],
            content_type=files[at][1],
        ),
    )
    page.goto("http://panel.test/")
    page.wait_for_function("window.ready")
    page.evaluate(
        "css => { const s = document.createElement('style'); s.textContent = css; "
        "document.head.append(s) }",
        assets.style(),
    )


def _median(page: Any, what: str, repeats: int) -> float:
    took = sorted(float(page.evaluate(what)) for _ in range(repeats + 1))
    return took[len(took) // 2]
