// What all panels share: elements from text, messages with answers, the saved form that a live panel hides. Nothing here makes markup from data.
import { explanation } from "./terms.js";

const SIGNS = { "fresh": "✓", "possibly stale": "~", "stale": "●", "undecidable": "?", "missing manifest": "○", "damaged": "✕" };
/** What each verdict means, for somebody who has read nothing. */
const MEANINGS = {};                                                    // as core/html.py has them: filled in with the module
const SVG = "http://www.w3.org/2000/svg";
const PATIENCE = 8000;
const READING = "Reading the source …";
const SOON = 400;
const SILENT = "The kernel does not respond. It may be busy; if it was restarted, run this cell again.";
const RESTARTED = "The kernel was restarted and this panel is disconnected. Run this cell again.";
let numbers = Math.floor(Math.random() * 9e6);                          // another page, or another view of the panel, hears our answers too

/** A place inside a panel for another panel; `show(title, code, ask)` shows the one whose id `ask` promises there. Where a page cannot hold one panel in another, the line of code that makes it is copied. */
export function innerPlace(host, panel) {
  const box = h("div", { class: "jammi-inner", hidden: true });
  let leave = new AbortController();
  const close = () => { leave.abort(); box.replaceChildren(); box.hidden = true; };
  const show = (title, code, ask) => {
    if (!host?.getWidget) { copy(code, panel.say); return; }
    ask().then(async ({ widget }) => {
      leave.abort();
      leave = new AbortController();
      const place = h("div", {});
      box.replaceChildren(h("div", { class: "jammi-inner-head" }, h("b", {}, title), button("×", close, { class: "jammi-close", "aria-label": "Close", "data-testid": "close-inner" })), place);
      box.hidden = false;
      await (await host.getWidget(`anywidget:${widget}`)).render({ el: place, signal: leave.signal });
    }).catch(panel.fail);
  };
  return { box, close, show };
}

/** A text in which nothing hides: control characters and overrides of the direction are written out, as `markup.visible` does, so that no name looks like another. Lines stay lines. */
export function seen(text) {
  if (/^[\n -~]*$/.test(text)) return text;
  return text.replace(/(?![ \n\t\u200c\u200d])[\p{C}\p{Z}]/gu, (c) => {
    const n = c.codePointAt(0), hex = n.toString(16);
    return c === "\r" ? "\\r" : n < 0x100 ? `\\x${hex.padStart(2, "0")}` : n < 0x10000 ? `\\u${hex.padStart(4, "0")}` : `\\U${hex.padStart(8, "0")}`;
  });
}

/** The beginning of a long text. */
export function cut(text, most) {
  return text.length > most ? `${text.slice(0, most - 1)}…` : text;
}

/** An element: attributes (`on…` are listeners, `data-…` and `aria-…` as they are), then children; a string is text and nothing else. */
export function h(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/** The same for a drawing. */
export function s(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || (value === false && !name.startsWith("aria-"))) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name.startsWith("aria-")) element.setAttribute(name, seen(String(value)));                                 // true and false are words there
    else element.setAttribute(name, value === true ? "" : name === "title" ? seen(String(value)) : String(value));
  }
  element.append(...children.flat().filter((c) => c !== null && c !== undefined && c !== "").map((c) => (typeof c === "string" ? seen(c) : c)));
  return element;
}

/** A button with a word on it. */
export function button(word, onclick, attributes = {}) {
  return h("button", { type: "button", class: "jammi-button", onclick, ...attributes }, word);
}

/** Rarer actions behind "…". It closes after one of them, by Escape, and when the focus leaves it. */
export function more(...actions) {
  const menu = h("details", { class: "jammi-more", onfocusout: ({ relatedTarget }) => { if (relatedTarget && !menu.contains(relatedTarget)) menu.open = false; } },
    h("summary", { class: "jammi-button", "aria-label": "More actions", "data-testid": "more" }, "…"), h("div", { class: "jammi-menu", onclick: () => { menu.open = false; } }, actions));
  const place = () => {                                                // to the left where there is no room
    const list = menu.lastChild;
    list.classList.remove("jammi-leftward");
    list.classList.toggle("jammi-leftward", list.getBoundingClientRect().right > menu.closest(".jammi").getBoundingClientRect().right);
  };
  const moved = new MutationObserver(place);                           // what stands before it is filled in later
  menu.addEventListener("toggle", () => {
    place();
    if (menu.open) moved.observe(menu.parentElement, { childList: true, subtree: true, attributeFilter: ["hidden"] });
    else moved.disconnect();
  });
  menu.addEventListener("keydown", (event) => { if (event.key === "Escape" && menu.open) { event.stopPropagation(); menu.open = false; menu.firstChild.focus(); } });
  return menu;
}

/** The word of a verdict without the asterisk that marks grounds. */
export const unmarked = (word) => (word ?? "").replace("*", "");

/** A verdict with what it means: `stale: out of date …`. */
export const meaning = (word) => (MEANINGS[unmarked(word)] ? `${word}: ${MEANINGS[unmarked(word)]}` : null);

/** A word of the field with its explanation as tooltip. */
export const term = (word, text = word) => (explanation(word) ? h("span", { class: "jammi-term", title: explanation(word) }, text) : text);

/** A text as a file of the browser's downloads. */
export function download(name, text, type) {
  const address = URL.createObjectURL(new Blob([text], { type }));
  h("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
}

/** A verdict: sign and word, told apart by both and by colour. */
export function pill(word, attributes = {}) {
  if (!word) return "";
  return h("span", { class: `jammi-pill jammi-${unmarked(word).replaceAll(" ", "-")}`, title: meaning(word), ...attributes }, h("b", { "aria-hidden": "true" }, SIGNS[unmarked(word)] || "·"), ` ${word}`);
}

/** The sign and the colour of a verdict for each status of checks. */
export const STANDING = { pass: ["✓", "fresh"], due: ["?", "undecidable"], fail: ["✕", "damaged"] };

/** What the checks of a table found: `3 pass`, `1 of 3 fails`, with their status. */
export function checked(checks, attributes = {}) {
  if (!checks) return "";
  const [sign, kind] = STANDING[checks.status];
  return h("span", { class: `jammi-pill jammi-${kind}`, title: explanation(checks.status), ...attributes }, h("b", { "aria-hidden": "true" }, sign), ` ${checks.text}`);
}

/** A number with its thousands set apart. */
export const grouped = (n) => n.toLocaleString("en-US");

/** How the page and the kernel speak: `ask` gives a promise of the answer's body; `on` hears what the kernel tells by itself, and what it answers to another view. */
export class Line {
  constructor(model) {
    this.model = model;
    this.asked = new Map();
    this.heard = {};
    this.gone = false;
    this.late = () => {};                                              // what is said while an answer is waited for
    this.waited = false;
    this.soon = null;                                                  // until it is said that a source is read
    this.lost = () => {};                                              // what is done when no answer can come any more
    this.listen = (message, buffers) => this.receive(message, buffers);
    this.wake = () => this.tell("wake");
    document.addEventListener("jammi-changed", this.wake);             // the server has seen a change, as it marks cells
    this.restarted = () => {
      this.gone = true;
      for (const { refuse, late } of this.asked.values()) { clearTimeout(late); refuse([RESTARTED]); }
      this.asked.clear();
      this.lost([RESTARTED]);
    };
    model.on("msg:custom", this.listen);
    model.on("comm_live_update", this.restarted);
    this.view = ++numbers;
    this.ask("here", { view: this.view }).catch(() => {});
  }

  ask(kind, fields = {}) {
    if (this.gone) return Promise.reject([RESTARTED]);
    const ask = ++numbers;
    return new Promise((answer, refuse) => {
      const late = setTimeout(() => { this.waited = true; this.late(SILENT); }, PATIENCE);
      this.asked.set(ask, { answer, refuse, late });
      this.model.send({ v: 1, ask, kind, ...fields });
    });
  }

  on(kind, heard) {
    this.heard[kind] = heard;
  }

  receive(message, buffers) {
    if (!message || message.v !== 1) return;
    const waiting = this.asked.get(message.ask);
    if (message.kind === "reading") {
      if (waiting) {                                                   // the kernel answers when it has read, which may take longer than its silence would
        clearTimeout(waiting.late);
        waiting.late = setTimeout(() => { this.waited = true; this.late(SILENT); }, 10 * PATIENCE);
      }
      if (waiting || message.ask === null) this.soon ??= setTimeout(() => { this.waited ||= Boolean(waiting); this.late(READING, "jammi-passing"); }, SOON);
      return;
    }
    if (waiting || message.kind !== "about") { clearTimeout(this.soon); this.soon = null; }
    if (message.kind === "answer" || message.kind === "refused") {
      if (!waiting) { if (message.shared) this.heard.changed?.(message, buffers); return; }
      clearTimeout(waiting.late);
      this.asked.delete(message.ask);
      if (this.waited) { this.waited = false; this.late(""); }
      if (message.kind === "answer") waiting.answer({ ...message.body, buffers });
      else waiting.refuse(message.lines);
    } else this.heard[message.kind]?.(message, buffers);
  }

  close() {
    this.model.off("msg:custom", this.listen);
    this.model.off("comm_live_update", this.restarted);
    clearTimeout(this.soon);
    for (const { late } of this.asked.values()) clearTimeout(late);
    this.asked.clear();
    document.removeEventListener("jammi-changed", this.wake);
    this.tell("gone", { view: this.view });
  }

  /** Say something that needs no answer. */
  tell(kind, fields = {}) {
    if (!this.gone) try { this.model.send({ v: 1, ask: ++numbers, kind, ...fields }); } catch { /* the kernel is gone before its page */ }
  }
}

/** The frame of a panel: title line, tools, a place for what is said, the body. */
export function frame(el, name, label, line) {
  const tools = h("div", { class: "jammi-tools", role: "toolbar", "aria-label": `${label}: tools` });
  const said = h("div", { class: "jammi-said", role: "status", "aria-live": "polite" });
  const body = h("div", { class: "jammi-body" });
  const root = h("section", { class: `jammi jammi-${name}`, "data-testid": `jammi-${name}`, "aria-label": label }, tools, said, body);
  el.append(root);
  const say = (lines, tone = "") => {
    said.className = `jammi-said ${tone}`;
    said.replaceChildren(...[lines].flat().filter(Boolean).map((line) => h("div", {}, line)));
  };
  const fail = (lines) => say(Array.isArray(lines) ? lines : [String(lines)], "jammi-bad");
  line.late = say;
  line.lost = (lines) => { root.classList.add("jammi-lost"); fail(lines); };
  line.on("said", ({ lines, expected }) => (expected ? say : fail)(lines));
  return { root, tools, body, say, fail, close: () => root.remove() };
}

/** The filter that every panel has: what is typed goes to the trait a moment later. */
export function filterInput(model, placeholder) {
  let late = 0;
  const input = h("input", { type: "search", class: "jammi-filter", placeholder, "aria-label": placeholder, "data-testid": "filter-input", value: model.get("filter") || "" });
  const given = () => { if (input.value !== model.get("filter")) input.value = model.get("filter") || ""; };
  input.addEventListener("input", () => {
    clearTimeout(late);
    late = setTimeout(() => { model.set("filter", input.value); model.save_changes(); }, 150);
  });
  model.on("change:filter", given);
  return { input, close: () => { clearTimeout(late); model.off("change:filter", given); } };
}

/** Choose exactly these. */
export function choose(model, names) {
  if (JSON.stringify(model.get("selection")) === JSON.stringify(names)) return;
  model.set("selection", names);
  model.save_changes();
}

/** A line that tells how work goes, with a button that stops it. The kernel tells every few seconds that it goes on: after silence the line is gone. */
export function progressLine(line) {
  const bar = h("progress", { max: 1 });
  const text = h("span", {});
  const box = h("div", { class: "jammi-progress", hidden: true, role: "status" }, bar, text, button("Stop", () => line.ask("cancel").catch(() => {}), { "data-testid": "stop" }));
  let silent = 0;
  const hide = () => {
    clearTimeout(silent);
    if (box.contains(box.getRootNode().activeElement)) box.closest(".jammi").querySelector(".jammi-filter")?.focus({ preventScroll: true });
    box.hidden = true;
  };
  const lost = line.lost;
  line.lost = (lines) => { hide(); lost(lines); };
  return {
    box,
    show({ stage, done, total, unit }) {
      if (silent === -1) line.late("");
      clearTimeout(silent);
      silent = setTimeout(() => { hide(); silent = -1; line.late(SILENT); }, PATIENCE);
      box.hidden = false;
      if (total) { bar.max = total; bar.value = done; } else bar.removeAttribute("value");
      bar.setAttribute("aria-label", stage);
      text.textContent = total && unit !== "percent" ? `${stage}: ${grouped(done)} of ${grouped(total)} ${unit}` : unit === "percent" ? `${stage}: ${done} %` : `${stage} …`;
    },
    hide,
  };
}

/** A table of texts. */
export function table(columns, rows, attributes = {}) {
  const head = h("tr", {}, columns.map((c) => h("th", { scope: "col" }, c)));
  return h("table", { class: "jammi-table", ...attributes }, h("thead", {}, head), h("tbody", {}, rows.map((row) => h("tr", {}, row.map((c) => h("td", {}, c))))));
}

/** The first rows of a table: each on one line, of long values the beginning; pointed at, a value is whole. */
export function peek(columns, rows, attributes = {}) {
  const shown = table(columns, rows.map((row) => row.map((value) => value.replace(/\s*\n\s*/g, " ⏎ "))), { ...attributes, class: "jammi-table jammi-peek" });
  shown.querySelectorAll("td").forEach((cell, at) => { cell.title = seen(rows.flat()[at]); });
  return shown;
}

/** What a check found, with its first failing rows. */
export const checkRow = (check) => h("div", { class: "jammi-checked", "data-testid": `check-${check.name}` },
  h("div", {}, checked({ text: check.outcome, status: check.status }), " ", h("b", {}, check.name), h("span", { class: "jammi-dim" }, " ", term(check.severity === "block" ? "blocks" : "warns"))),
  h("div", {}, check.said), check.previous ? h("div", { class: "jammi-dim" }, check.previous) : "",
  check.columns.length ? h("div", { class: "jammi-scroll" }, peek(check.columns, check.rows, { "data-testid": `failing-${check.name}` })) : "");

/** A part that folds open; `part` is what it is called among those beside it. */
export function fold(part, summary, open, ...children) {
  return h("details", { open, "data-part": part }, h("summary", { "data-testid": `fold-${part}` }, summary), ...children);
}

/** Draws anew what is inside a place. What had the focus there has it again, by its data-testid, or else what `instead` gives: no key falls out of a panel. */
export function redrawn(inside, draw, instead) {
  const at = inside.getRootNode().activeElement, held = at !== inside && inside.contains(at);
  draw();
  if (!held || inside.contains(inside.getRootNode().activeElement)) return;
  const again = at.dataset.testid && [...inside.querySelectorAll("[data-testid]")].find((e) => e.dataset.testid === at.dataset.testid && !e.disabled && e.checkVisibility?.() !== false);
  (again || instead())?.focus({ preventScroll: true });
}

/** A text for the clipboard, with a word that it is there; where the page may not write to it, the text is shown for copying. */
export async function copy(text, say) {
  try {
    await navigator.clipboard.writeText(text);
    say(`Copied: ${text}`);
  } catch {
    say(`Type: ${text}`);
  }
}
