// What all panels share: elements from text, messages with answers, the saved form that a live panel hides. Nothing here makes markup from data.

const SIGNS = { "fresh": "✓", "possibly stale": "~", "stale": "●", "undecidable": "?", "missing manifest": "○", "damaged": "✕" };
const SVG = "http://www.w3.org/2000/svg";
const PATIENCE = 8000;

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
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat().filter((c) => c !== null && c !== undefined && c !== ""));
  return element;
}

/** A button with a word on it. */
export function button(word, onclick, attributes = {}) {
  return h("button", { type: "button", class: "jammi-button", onclick, ...attributes }, word);
}

/** A verdict: sign and word, told apart by both and by colour. */
export function pill(word, attributes = {}) {
  if (!word) return "";
  return h("span", { class: `jammi-pill jammi-${word.replaceAll(" ", "-")}`, ...attributes }, h("b", { "aria-hidden": "true" }, SIGNS[word] || "·"), ` ${word}`);
}

/** A number with its thousands set apart. */
export const grouped = (n) => n.toLocaleString("en-US");

/** How the page and the kernel speak: `ask` gives a promise of the answer's body; `on` hears what the kernel tells by itself. */
export class Line {
  constructor(model) {
    this.model = model;
    this.asked = new Map();
    this.heard = {};
    this.number = 0;
    this.late = () => {};                                              // what is said while an answer is waited for
    this.listen = (message, buffers) => this.receive(message, buffers);
    model.on("msg:custom", this.listen);
  }

  ask(kind, fields = {}) {
    const ask = ++this.number;
    return new Promise((answer, refuse) => {
      const late = setTimeout(() => this.late("The kernel does not answer. It is busy, or it was restarted: then run this cell again."), PATIENCE);
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
    if (message.kind === "answer" || message.kind === "refused") {
      if (!waiting) return;
      clearTimeout(waiting.late);
      this.asked.delete(message.ask);
      this.late("");
      if (message.kind === "answer") waiting.answer({ ...message.body, buffers });
      else waiting.refuse(message.lines);
    } else this.heard[message.kind]?.(message, buffers);
  }

  close() {
    this.model.off("msg:custom", this.listen);
    for (const { late } of this.asked.values()) clearTimeout(late);
    this.asked.clear();
  }
}

/** The frame of a panel: title line, tools, a place for what is said, the body. */
export function frame(el, name, label, line) {
  const tools = h("div", { class: "jammi-tools", role: "toolbar", "aria-label": `${label}: tools` });
  const said = h("div", { class: "jammi-said", role: "status", "aria-live": "polite" });
  const body = h("div", { class: "jammi-body" });
  const root = h("section", { class: `jammi jammi-${name}`, "data-testid": `jammi-${name}`, "aria-label": label }, tools, said, body);
  el.append(root);
  const stop = hideSaved(el);
  const say = (lines, tone = "") => {
    said.className = `jammi-said ${tone}`;
    said.replaceChildren(...[lines].flat().filter(Boolean).map((line) => h("div", {}, line)));
  };
  line.late = say;
  return { root, tools, body, say, fail: (lines) => say(Array.isArray(lines) ? lines : [String(lines)], "jammi-bad"), close: () => { stop(); root.remove(); } };
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

/** A line that tells how work goes, with a button that stops it. */
export function progressLine(line) {
  const bar = h("progress", { max: 1 });
  const text = h("span", {});
  const box = h("div", { class: "jammi-progress", hidden: true, role: "status" }, bar, text, button("Stop", () => line.ask("cancel").catch(() => {}), { "data-testid": "stop" }));
  return {
    box,
    show({ stage, done, total, unit }) {
      box.hidden = false;
      if (total) { bar.max = total; bar.value = done; } else bar.removeAttribute("value");
      text.textContent = total && unit !== "percent" ? `${stage}: ${grouped(done)} of ${grouped(total)} ${unit}` : unit === "percent" ? `${stage}: ${done} %` : `${stage} …`;
    },
    hide() { box.hidden = true; },
  };
}

/** A table of texts. */
export function table(columns, rows, attributes = {}) {
  const head = h("tr", {}, columns.map((c) => h("th", { scope: "col" }, c)));
  return h("table", { class: "jammi-table", ...attributes }, h("thead", {}, head), h("tbody", {}, rows.map((row) => h("tr", {}, row.map((c) => h("td", {}, c))))));
}

/** A part that folds open. */
export function fold(summary, open, ...children) {
  return h("details", { open }, h("summary", {}, summary), ...children);
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

/** The form that was saved below the panel is hidden while the panel lives. */
function hideSaved(el) {
  let tries = 0, timer = 0, hidden = null;
  const look = () => {
    const at = el.isConnected ? (el.getRootNode().host || el).closest?.(".jp-OutputArea-child, .output_area") : null;
    const saved = at?.nextElementSibling;
    if (saved?.querySelector(".jammi-saved")) {
      hidden = saved;
      hidden.style.display = "none";
    } else if (++tries < 100) timer = setTimeout(look, 50);
  };
  look();
  return () => { clearTimeout(timer); if (hidden) hidden.style.display = ""; };
}
