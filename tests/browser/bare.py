"""A panel on a bare page: its module in a real browser, its kernel side in this process, and
between them what a lab would carry."""

import json
import queue
import time
import weakref
from pathlib import Path
from typing import Any

from jammi_widgets import assets
from tests.browser.lab import SHOTS, press

ADDRESS = "http://panel.test"
EVIL = "<img src=x onerror=\"document.title='owned'\">"
"""The name of a table."""
PAGE = """<!doctype html><html><head><meta charset=utf-8><style>body { margin: 8px; background: var(--jp-layout-color1, #fff) }</style>
<style id=css></style></head><body><div id=el></div><script type=module>
import widget from "/module.js";
class Model {
  constructor(place, state) { this.place = place; this.state = state; this.heard = {}; this.saved = []; this.sent = []; this.dirty = {}; }
  get(name) { return this.state[name]; }
  set(name, value) { this.state[name] = value; this.dirty[name] = value; this.emit("change:" + name, value); }
  async save_changes() { const some = this.dirty; this.dirty = {}; this.saved.push(some); await window.toKernel(this.place, "traits", some); }
  on(name, f) { (this.heard[name] ??= []).push(f); }
  off(name, f) { this.heard[name] = (this.heard[name] || []).filter((x) => x !== f); }
  async send(message) { this.sent.push(message); if (!window.dead) await window.toKernel(this.place, "message", message); }
  emit(name, ...a) { (this.heard[name] || []).forEach((f) => f(...a)); }
}
const models = [], cleanups = [];
window.arrived = ({ place, kind, name, value, buffers }) => {
  const model = models[place];
  if (kind === "trait") { model.state[name] = value; model.emit("change:" + name, value); return; }
  const views = (buffers || []).map((b) => { const raw = Uint8Array.from(atob(b), (c) => c.charCodeAt(0)); return new DataView(raw.buffer); });
  model.emit("msg:custom", value, views);
};
window.mount = (state) => { models.push(new Model(models.length, state)); return window.show(models.length - 1); };
window.show = async (place) => {
  const el = document.createElement("div");
  el.id = `view-${cleanups.length}`;
  document.getElementById("el").append(el);
  cleanups.push(await widget.render({ model: models[place], el }));
};
window.leave = (view) => cleanups[view]();
window.restart = () => models.forEach((model) => model.emit("comm_live_update"));
window.ready = true;
</script></body></html>"""
DARK = {
    "--jp-layout-color1": "#111418",
    "--jp-layout-color2": "#22272d",
    "--jp-border-color2": "#3a424a",
    "--jp-content-font-color1": "#e8ebee",
}
DARK |= {"--jp-content-font-color2": "#a9b2bb", "--jp-brand-color1": "#64b5f6"}


class _Page:
    """A page of a browser that bare pages use one after the other: a new one costs a process."""

    def __init__(self, browser: Any) -> None:
        self.owner: Bare | None = None
        self.page = browser.new_context().new_page()
        self.page.on("pageerror", lambda error: self.owner and self.owner.broken.append(str(error)))
        self.page.context.route("**/*", lambda route: self.owner and self.owner.answer(route))
        self.page.expose_function(
            "toKernel", lambda *message: self.owner and self.owner.receive(*message)
        )


_idle: "weakref.WeakKeyDictionary[Any, list[_Page]]" = weakref.WeakKeyDictionary()


class Bare:
    """One panel on one page, or others of its kind beside it. `expect` carries messages both ways
    while it waits."""

    def __init__(
        self,
        browser: Any,
        panel: Any,
        name: str,
        *,
        wide: int = 1000,
        high: int = 700,
        dark: bool = False,
        calm: bool = False,
    ) -> None:
        self.panel = panel
        self._panels: list[Any] = []
        self._queue: queue.Queue[dict[str, Any]] = queue.Queue()
        self.refused: list[str] = []
        self.broken: list[str] = []
        self._files = {
            "/": (PAGE, "text/html"),
            "/empty": ("", "text/html"),
            **{
                f"/{each}.js": (assets.module(of), "text/javascript")
                for each, of in (("module", name), ("kit", "kit"))
            },
        }
        self._from: dict[tuple[int, str], Any] = {}
        self._pages = _idle.setdefault(browser, [])
        self._kept: _Page | None = self._pages.pop() if self._pages else _Page(browser)
        self._kept.owner = self
        self.page = self._kept.page
        self.page.set_viewport_size({"width": wide, "height": high})
        self.page.emulate_media(reduced_motion="reduce" if calm else "no-preference")
        self.page.mouse.move(0, 0)
        self.page.goto(ADDRESS + "/")
        self.page.wait_for_function("window.ready")
        self.page.evaluate(
            "css => { document.getElementById('css').textContent = css }", assets.style()
        )
        if dark:
            self.page.evaluate(
                "all => Object.entries(all).forEach(([k, v]) => document.documentElement.style.setProperty(k, v))",
                DARK,
            )
        self.add(panel)

    def install_clock(self) -> None:
        """From now on time on the page passes when `page.clock` says so, and no other test uses the
        page."""
        self.page.clock.install()
        self._kept = None

    def add(self, panel: Any) -> Any:
        """Another panel of this kind on the page; the part of the page that it is in."""
        place = len(self._panels)
        self._panels.append(panel)
        panel.send = lambda content, buffers=None: self._send(place, content, buffers)
        synced = [
            t
            for t in panel.traits(sync=True)
            if not t.startswith("_") and t not in ("layout", "comm", "keys", "tabbable", "tooltip")
        ]
        panel.observe(lambda change: self._changed(place, change), names=synced)
        self.page.evaluate("state => window.mount(state)", {t: getattr(panel, t) for t in synced})
        return self._last()

    def again(self) -> Any:
        """The panel once more on the page: a second view of it; the part of the page that it is
        in."""
        self.page.evaluate("window.show(0)")
        return self._last()

    def _last(self) -> Any:
        return self.page.locator("#el > div").last

    def answer(self, route: Any) -> None:
        """One request of the page."""
        path = route.request.url.removeprefix(ADDRESS)
        if path in self._files:
            body, kind = self._files[path]
            route.fulfill(body=body, content_type=kind)
        elif route.request.url.startswith(("data:", "blob:")):
            route.continue_()
        else:
            self.refused.append(route.request.url)
            route.abort()

    def receive(self, place: int, kind: str, value: Any) -> None:
        """One message of a panel on the page."""
        panel = self._panels[place]
        if kind == "traits":
            for name, each in value.items():
                self._from[place, name] = each
                setattr(panel, name, each)
            self._from.clear()
        else:
            panel._on_message(panel, value, [])

    def _changed(self, place: int, change: Any) -> None:
        if self._from.get((place, change["name"]), ...) != change["new"]:
            self._queue.put(
                {"place": place, "kind": "trait", "name": change["name"], "value": change["new"]}
            )

    def _send(self, place: int, content: Any, buffers: Any = None) -> None:
        import base64

        packed = [base64.b64encode(bytes(b)).decode() for b in buffers or ()]
        self._queue.put(
            {
                "place": place,
                "kind": "message",
                "value": json.loads(json.dumps(content)),
                "buffers": packed,
            }
        )

    def deliver(self) -> None:
        """Carry what waits to the page."""
        while True:
            try:
                each = self._queue.get_nowait()
            except queue.Empty:
                return
            self.page.evaluate("each => window.arrived(each)", each)

    def expect(self, holds: Any, seconds: float = 15.0) -> None:
        """Carry messages until `holds()`; AssertionError after so many seconds."""
        end = time.monotonic() + seconds
        while True:
            self.deliver()
            if holds():
                return
            assert time.monotonic() < end, (
                f"not within {seconds} s; the page has: {self.page.locator('#el').inner_text()[:2000]}"
            )
            self.page.wait_for_timeout(20)

    def part(self, name: str) -> Any:
        """The part of that data-testid, or that a CSS selector names which begins with a class, an
        id or an attribute."""
        return self.find(name) if name[0] in ".#[" else self.page.get_by_test_id(name)

    def shows(self, name: str) -> None:
        """Wait for a part."""
        self.expect(lambda: self.count(name) > 0)

    def has(self, name: str, count: int) -> None:
        """Wait until there are so many parts of that name."""
        self.expect(lambda: self.count(name) == count)

    def says(self, name: str, text: str) -> None:
        """Wait until a part has this text in it."""
        self.expect(lambda: text in self.text(name))

    def click(self, name: str) -> None:
        press(self.part(name))

    def press(self, key: str, name: str = "") -> None:
        """Press a key, on a part that gets the focus, or where the focus is."""
        if name:
            self.part(name).focus()
        self.page.keyboard.press(key)

    def text(self, name: str) -> str:
        return str(self.part(name).inner_text())

    def count(self, name: str) -> int:
        return int(self.part(name).count())

    def visible(self, name: str) -> bool:
        return bool(self.part(name).is_visible())

    def attribute(self, name: str, which: str) -> str | None:
        return self.part(name).get_attribute(which)  # type: ignore[no-any-return]

    def find(self, selector: str, **of: Any) -> Any:
        """The elements of a CSS selector."""
        return self.page.locator(selector, **of)

    def close(self) -> None:
        """Nothing broke, and nothing was asked of the network."""
        if self._kept is None:
            self.page.context.close()
        else:
            self.page.goto(ADDRESS + "/empty")
            self._kept.owner = None
            self._pages.append(self._kept)
        assert (self.refused, self.broken) == ([], [])


def named(panel: Any) -> str:
    """What its module is called."""
    return str(type(panel).__module__.rpartition(".")[2])


def kept(bare: Bare, name: str) -> None:
    """Keep a picture of the page, if `JAMMI_SHOTS` names a folder."""
    if SHOTS:
        bare.page.screenshot(path=str(Path(SHOTS) / f"{name}.png"))


def bad(bare: Bare) -> str:
    """What the page says of what went wrong, by now."""
    return " ".join(bare.part(".jammi-bad").all_inner_texts())


def stale(papers: Path) -> None:
    """Add a paper."""
    papers.write_text(papers.read_text() + "9,attention,ml\n")


def spot(bare: Bare, point: int) -> tuple[float, float]:
    """Where on the page a point of a map is."""
    box, [x, y] = bare.part("map-canvas").bounding_box(), bare.panel._points[point].tolist()
    half = min(box["width"], box["height"]) / 2
    return box["x"] + box["width"] / 2 + x * 0.92 * half, box["y"] + box[
        "height"
    ] / 2 - y * 0.92 * half
