"""Every panel in light and dark, wide and narrow, over few and many tables: all texts are legible,
whole and apart. `JAMMI_SHOTS=folder` keeps pictures, `make soak` takes 150 and 1 000 tables."""

import pytest

import jammi_lab as jl
from jammi_lab.core.html import VERDICT_ICONS
from jammi_widgets import (
    CatalogBrowser,
    DiffView,
    EmbeddingMap,
    LineageGraph,
    NeighborExplorer,
    ResultView,
    StalenessBoard,
)
from tests.browser.bare import kept, named
from tests.sizes import sized
from tests.templates import Template

pytestmark = [pytest.mark.soak, pytest.mark.timeout(900)]
SIZES = sized((12,), (12, 150, 1_000))
SOURCES = ("orders", "customers")
AREAS = ("sales", "finance", "web", "ops")
VERDICTS = list(VERDICT_ICONS)
UNREADABLE = """([root, verdicts]) => {
  const canvas = document.createElement("canvas"), paint = canvas.getContext("2d", { willReadFrequently: true });
  canvas.width = canvas.height = 1;
  const rgba = (colour) => { paint.clearRect(0, 0, 1, 1); paint.fillStyle = colour; paint.fillRect(0, 0, 1, 1); const [r, g, b, a] = paint.getImageData(0, 0, 1, 1).data; return [r, g, b, a / 255]; };
  const over = (top, below) => [0, 1, 2].map((i) => top[i] * top[3] + below[i] * (1 - top[3]));
  const luminance = (colour) => colour.map((v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4)).reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const within = (x, y, box) => x >= box.left && x <= box.right && y >= box.top && y <= box.bottom;
  const problems = new Set(), texts = document.createTreeWalker(document.querySelector(root), NodeFilter.SHOW_TEXT);
  if (document.documentElement.scrollWidth > innerWidth) problems.add("the page scrolls sideways");
  while (texts.nextNode()) {
    const text = texts.currentNode, element = text.parentElement, said = text.data.trim().slice(0, 40);
    const explained = element.closest("[title]")?.title ?? element.closest("g:has(> title)")?.querySelector("title").textContent ?? "";
    if (verdicts.includes(said.replace(/^[^a-z]+/, "")) && explained.length < 40) problems.add(`no explanation: ${said}`);
    if (!said || element instanceof SVGElement || !element.checkVisibility({ opacityProperty: true, visibilityProperty: true }) || element.closest(":disabled")) continue;
    const range = document.createRange(), behind = [];
    range.selectNodeContents(text);
    let opacity = 1, ground = [255, 255, 255], seen = true;
    const { left, top, width, height } = range.getBoundingClientRect(), x = left + width / 2, y = top + Math.min(height, 14) / 2;
    for (let part = element; part; part = part.parentElement) {
      const style = getComputedStyle(part);
      opacity *= Number(style.opacity);
      behind.unshift(rgba(style.backgroundColor));
      if (style.overflow !== "visible" && part !== document.body && part !== document.documentElement) seen &&= within(x, y, part.getBoundingClientRect());
    }
    if (!width || !seen) continue;
    for (const each of behind) ground = over(each, ground);
    const ink = rgba(getComputedStyle(element).color);
    ink[3] *= opacity;
    const [bright, dark] = [luminance(over(ink, ground)), luminance(ground)].sort((a, b) => b - a);
    if ((bright + 0.05) / (dark + 0.05) < 4.5) problems.add(`contrast ${((bright + 0.05) / (dark + 0.05)).toFixed(2)}: ${said}`);
    const above = document.elementFromPoint(x, y);
    if (above && element.tagName !== "OPTION" && !element.contains(above) && !above.contains(element)) problems.add(`covered: ${said}`);
    const style = getComputedStyle(element);
    if (element.scrollWidth > element.clientWidth + 1 && style.overflowX === "hidden" && !element.closest("[title]")) problems.add(`cut without a tooltip: ${said}`);
  }
  return [...problems];
}"""


def _rows(path, changed=""):
    lines = [f"{i},name {i % 7},{i * 7919 % 1000 / 100},{'abc'[i % 3]}" for i in range(60)]
    path.write_text("id,name,price,kind\n" + "\n".join(lines) + "\n" + changed)


def _build(folder, size):
    with jl.open(folder / "lab") as ws:
        for name in SOURCES:
            _rows(folder / f"{name}.csv")
            ws.sources.add(name, folder / f"{name}.csv")
        staging = size // 3
        for i in range(size):
            parent = SOURCES[i % 2] if i < staging else f"jammi.{_name(i - staging, staging)}"
            sql = f"SELECT id, price * {i + 1} AS price, name, kind FROM {parent}"
            ws.materialize(_name(i, staging), sql, key="id")
        ws.checks.add(
            "priced", jl.checks.between("price", 1), on=_name(0, staging), severity="warn"
        )
        sql = f"SELECT id, price * 20 AS price, name, kind FROM {SOURCES[1]}"
        ws.materialize(_name(1, staging), sql, key="id")
        ws.hold(_name(2, staging), note="the auditors read it")
        ws.embed("vectors", SOURCES[1], key="id", text="name", model="hashing")


def _name(i, staging):
    return f"staging_items_of_orders_{i}" if i < staging else f"{AREAS[i % 4]}_margins_{i}"


TEMPLATES = {size: Template(lambda folder, size=size: _build(folder, size)) for size in SIZES}


@pytest.fixture(params=SIZES)
def ws(request):
    folder = TEMPLATES[request.param].restore()
    with jl.open(folder / "lab") as ws:
        _rows(folder / "orders.csv", "99,new,1.0,a\n")
        yield ws


def planned(bare):
    bare.part("choose-all").check()
    bare.expect(lambda: bare.part("plan-chosen").is_enabled())
    bare.click("plan-chosen")
    bare.shows("plan")


def chosen(bare):
    bare.panel.selection = [CHANGED]
    bare.has(".jammi-side h4", 1)


def profiled(bare):
    bare.click("profile")
    bare.shows("bar-price-0")


def coloured(bare):
    bare.has(".jammi-key", 3)


def nothing(_):
    pass


CHANGED = _name(1, 4)
LOOKS = {
    "lineage": (LineageGraph, "legend-stale", nothing),
    "details": (LineageGraph, "legend-stale", chosen),
    "columns": (lambda ws: LineageGraph(ws, CHANGED, columns=True), "legend-stale", nothing),
    "board": (StalenessBoard, f"row-{_name(0, 4)}", nothing),
    "plan": (StalenessBoard, f"row-{_name(0, 4)}", planned),
    "catalog": (CatalogBrowser, f"catalog-item-{SOURCES[0]}", nothing),
    "rows": (
        lambda ws: ResultView(ws.sql(f"SELECT *, NULL AS note FROM jammi.{CHANGED}")),
        "grid",
        profiled,
    ),
    "diff": (lambda ws: DiffView(ws, CHANGED), "cell-1-price", nothing),
    "map": (lambda ws: EmbeddingMap(ws, "vectors", color="kind"), "verdict-table", coloured),
    "neighbors": (
        lambda ws: NeighborExplorer(ws, "vectors", query="name 3"),
        "neighbor-3",
        nothing,
    ),
}


@pytest.mark.product
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("wide", [1400, 480])
@pytest.mark.parametrize("look", LOOKS)
def test_all_that_a_panel_says_can_be_read(ws, on_page, request, look, wide, dark):
    make, part, then = LOOKS[look]
    panel = make(ws)
    bare = on_page(panel, named(panel), wide=wide, high=800, dark=dark)
    bare.shows(part)
    then(bare)
    kept(bare, f"{look}-{request.node.callspec.params['ws']}-{wide}-{'dark' if dark else 'light'}")
    assert bare.page.evaluate(UNREADABLE, ["#el", VERDICTS]) == []


@pytest.mark.parametrize("wide", [1400, 480])
def test_a_large_lineage_begins_where_something_changed(ws, on_page, wide):
    bare = on_page(LineageGraph(ws), "lineage", wide=wide)
    bare.shows("legend-changed")
    seen = """() => { const room = document.querySelector('.jammi-canvas').getBoundingClientRect();
      return [...document.querySelectorAll('[data-changed]')].some((e) => { const b = e.getBoundingClientRect();
        return b.left >= room.left && b.right <= room.right && b.top >= room.top && b.bottom <= room.bottom; }) }"""
    assert bare.page.evaluate(seen)
