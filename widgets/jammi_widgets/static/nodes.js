import { STANDING, cut, h, meaning, s, seen, unmarked } from "./kit.js";
import { explanation } from "./terms.js";

const SIGN = { "fresh": "✓", "possibly stale": "~", "stale": "●", "undecidable": "?", "missing manifest": "○", "damaged": "✕" };
const SEVERITY = ["damaged", "stale", "possibly stale", "undecidable", "missing manifest", "fresh"];
const PATTERNS = {                                                     // what is drawn in a tile of 8 × 8: stripes, dots, a lattice; as lineage_svg has them
  "possibly stale": ["M-2 10 10-2M-2 2 2-2M6 10 10 6", "#ffd166", "#e6a817"], "undecidable": ["M2 2h2v2h-2zM6 6h2v2h-2z", "#cdbdff", "#a893f0"],
  "damaged": ["M-2 10 10-2M-2 2 2-2M6 10 10 6M-2-2 10 10", "#b3202c", "#8e1420"],
};
const ROUND = { x: 3.5, width: 11, rx: 5.5 };
const MARKS = {                                                        // the marks on nodes: sign, meaning, and how the legend draws them
  "changed": ["Δ", "Here something changed, which made other tables stale", { class: "jammi-sample jammi-moved" }],
  "held": ["‖", "A recompute of everything skips these tables", ROUND],
  "checked": ["", "There are checks of the rows: ✓ all pass, ✕ one fails, ? they are due", ROUND],
};
const ROW = 17, ROWS_PAD = 6;                                          // as sensing.picture has them
const PART = 400;                                                      // pixels of the drawing
const ruler = document.createElement("canvas").getContext("2d");

const patternId = (page, word) => `jammi-${page}-${word.replace(" ", "-")}`;

/** The patterns of verdicts, for the drawing with this number: two drawings on a page share none, as one of them may be hidden. */
export function patterns(page) {
  return s("defs", {}, Object.entries(PATTERNS).map(([word, [path, fill, line]]) => s("pattern", { id: patternId(page, word), width: 8, height: 8, patternUnits: "userSpaceOnUse" },
    s("rect", { width: 8, height: 8, fill }), s("path", word === "undecidable" ? { d: path, fill: line } : { d: path, stroke: line, "stroke-width": 2 }))));
}

/** How a verdict fills what it is about: its class and, where it has a pattern, its paint. */
export const painted = (word, page) => ({ class: `jammi-is-${unmarked(word).replace(" ", "-")}`, style: PATTERNS[word] ? `fill: url(#${patternId(page, word)})` : null });

/** What the fills of a drawing mean and how often each is there; a click shows those alone. */
export function legend(graph, page, sought, filter) {
  const part = (word, n, sign, title, swatch) => h("button", { type: "button", class: "jammi-count", title, "aria-pressed": String(sought === word), "data-testid": `legend-${word}`, onclick: () => filter(sought === word ? "" : word) },
    s("svg", { class: "jammi-swatch", width: 18, height: 14, "aria-hidden": "true" }, s("rect", { x: 1.5, y: 1.5, width: 15, height: 11, rx: 3, ...swatch })), ` ${n.toLocaleString("en-US")} ${sign} ${word}`);
  const parts = SEVERITY.filter((word) => graph.counts[word]).map((word) => { const { class: kind, style } = painted(word, page); return part(word, graph.counts[word], SIGN[word], `${meaning(word)}. Click to show only these`, { class: `jammi-sample ${kind}`, style }); });
  return [...parts, ...Object.entries(MARKS).filter(([word]) => graph.marks[word]).map(([word, [sign, title, swatch]]) => part(word, graph.marks[word], sign, `${word}: ${title}. Click to show only these`, { class: "jammi-sample jammi-round", ...swatch }))];
}

/** The outline of a node: a source is a drum, a frame a sheet with a folded corner, a model has its corners cut off, what else comes from outside is a hexagon, a table a box, a group a pile. */
function outline(node) {
  const [x, y, w, high] = node.box;
  if (node.members) return `M${x + 4} ${y - 4}h${w}v${high}h-4v-${high - 4}h-${w - 4}ZM${x} ${y}h${w}v${high}h-${w}Z`;
  if (node.kind === "source") return `M${x} ${y + 5}v${high - 10}a${w / 2} 6 0 0 0 ${w} 0v-${high - 10}a${w / 2} 6 0 0 0-${w} 0Z`;
  if (node.kind === "frame") return `M${x} ${y}h${w - 12}l12 12v${high - 12}h-${w}Z`;
  if (node.kind === "model") return `M${x + 9} ${y}h${w - 18}l9 9v${high - 18}l-9 9h-${w - 18}l-9-9v-${high - 18}Z`;
  if (["mutable", "topic", "clock"].includes(node.kind)) return `M${x + 10} ${y}h${w - 20}l10 ${high / 2}l-10 ${high / 2}h-${w - 20}l-10-${high / 2}Z`;
  return `M${x + 7} ${y}h${w - 14}q7 0 7 7v${high - 14}q0 7-7 7h-${w - 14}q-7 0-7-7v-${high - 14}q0-7 7-7Z`;
}

/** As much of a text as there is room for: letters are as wide as this page's font has them. */
function fitted(text, room, font) {
  if (text.length * 14 <= room) return text;                           // no letter is wider
  ruler.font = font;
  let most = text.length;
  while (most > 1 && ruler.measureText(cut(text, most)).width > room) most -= 1;
  return cut(text, most);
}

/** The sign beside a node that shows or hides what it is made from (`up`) or what it goes into (`down`); null when there is nothing. */
export function knob(node, side, unfold) {
  const [x, y, w, high] = node.box, up = side === "up";
  if (!(up ? node.ups : node.downs)) return null;
  const open = (up ? node.above : node.below) > 0;
  const toggle = (event) => { event.stopPropagation(); unfold(node, side, open); };
  const word = `${open ? "Show" : "Hide"} ${up ? "the inputs" : "the dependents"} of ${node.name}`;
  const cx = up ? x - 9 : x + w + 9, cy = y + (high - (node.columns.length ? node.columns.length * ROW + ROWS_PAD : 0)) / 2;   // lines begin at the columns, below it
  return s("g", { class: `jammi-knob jammi-${side}`, onclick: toggle, role: "button", "aria-label": word, "data-testid": `${open ? "expand" : "collapse"}-${side}-${node.id}` },
    s("title", {}, word), s("circle", { cx, cy, r: 7 }), s("text", { x: cx, y: cy + 4 }, open ? "+" : "−"));
}

/** The mark of a table that has checks; `open`: what a click on it does. */
function mark(node, open) {
  const [x, y, w] = node.box, [sign, kind] = STANDING[node.checks.status], word = `Checks of ${node.name}: ${node.checks.text}. ${explanation(node.checks.status)}`;
  const show = (event) => { event.stopPropagation(); open(node); };
  return s("g", { class: `jammi-check jammi-${kind}`, role: "button", "aria-label": word, "data-testid": `checks-${node.id}`, onclick: show },
    s("title", {}, word), s("circle", { cx: x + w - 6, cy: y + 4, r: 8 }), s("text", { x: x + w - 6, y: y + 8, class: "jammi-sign" }, sign));
}

/** The mark of a table that a recompute of everything leaves as it is. */
function pause(node) {
  const [x, y] = node.box;
  return s("g", { class: "jammi-check jammi-missing-manifest", "data-testid": `held-${node.id}` }, s("title", {}, `${node.held}. A recompute of everything skips it`),
    s("circle", { cx: x + 1, cy: y + 1, r: 8 }), s("text", { x: x + 1, y: y + 5, class: "jammi-sign" }, "‖"));
}

/** A node as an outline, with its name for those who hear the page. Where letters cannot be read any more, a large sign tells its verdict. */
export function outlined(node, chosen, pick, page) {
  const changed = node.changed ? `, changed: ${node.changed}` : "", [x, y, w, high] = node.box, paint = node.verdict ? painted(node.verdict, page) : { class: `jammi-of-${node.members ? "group" : node.kind}` };
  const label = `${node.name}, ${node.said}${node.verdict ? `, ${node.verdict}` : ""}${changed}${node.checks ? `, checks: ${node.checks.text}` : ""}${node.held ? `, ${node.held}` : ""}`;
  const kind = node.members ? null : explanation(node.kind);
  const far = node.changed ? "Δ" : unmarked(node.verdict) === "fresh" ? "" : SIGN[node.verdict];
  return s("g", { class: `jammi-node${chosen ? " jammi-chosen" : ""}${node.verdict ? ` ${paint.class}` : ""}`, role: "treeitem", tabindex: -1, "aria-label": label, "aria-selected": chosen, "data-testid": `node-${node.id}`, "data-id": node.id, onclick: () => pick(node) },
    s("title", {}, [`${node.name}${changed}`, kind && `${node.kind}: ${kind}`, node.verdict && meaning(node.verdict)].filter(Boolean).join("\n")), s("path", { d: outline(node), class: `jammi-shape ${paint.class}${node.changed ? " jammi-moved" : ""}`, style: paint.style }),
    far ? s("text", { x: x + w / 2, y: y + high / 2 + 17, class: "jammi-far-sign" }, far) : "");
}

/** What stands in the outline. `family`: the letters of the page; `unfold`, `light` and `open`: what a click on a sign, on a column and on the mark of the checks does. */
export function writing(node, family, unfold, light, open) {
  const [x, y, w, high] = node.box, middle = x + w / 2, rows = node.columns.length, head = high - (rows ? rows * ROW + ROWS_PAD : 0);
  const inside = [s("text", { x: middle, y: y + 19, class: "jammi-name" }, fitted(cut(seen(node.name), 28), w - 12, `600 13px ${family}`)), s("text", { x: middle, y: y + 34, class: "jammi-kind" }, node.said)];
  if (node.verdict) {
    const wide = node.verdict.length * 6.2 + 28;
    inside.push(s("rect", { class: "jammi-label", x: middle - wide / 2, y: y + head - 21, width: wide, height: 16, rx: 8 }));
    inside.push(s("text", { x: middle, y: y + head - 9, class: `jammi-word jammi-${unmarked(node.verdict).replaceAll(" ", "-")}`, "data-testid": `verdict-${node.id}` },
      s("tspan", { class: "jammi-sign" }, SIGN[unmarked(node.verdict)] || ""), ` ${node.verdict}`));
  }
  if (rows) inside.push(s("rect", { class: "jammi-rows", x: x + 1, y: y + head, width: w - 2, height: rows * ROW + 1 }), ...node.columns.map((column, at) => entry(node, column, [x, y + head + at * ROW, w], family, light)));
  if (node.checks) inside.push(mark(node, open));
  if (node.held) inside.push(pause(node));
  if (!node.members) inside.push(...["up", "down"].filter((side) => (side === "up" ? node.above : node.below)).map((side) => knob(node, side, unfold)).filter(Boolean));
  return inside;
}

/** A column in its node; a click lights its way, as one in the details does. */
function entry(node, column, [x, y, w], family, light) {
  const more = column.startsWith("… ") && column === node.columns.at(-1);
  const lightUp = (event) => { event.stopPropagation(); light(node.id, column); };
  return s("g", { class: `jammi-column${more ? " jammi-more" : ""}`, "data-name": column, "data-testid": `column-of-${node.id}-${column}`, onclick: more ? null : lightUp },
    s("title", {}, column), s("rect", { x: x + 1, y, width: w - 2, height: ROW }), s("text", { x: x + 12, y: y + 13 }, fitted(seen(column), w - 20, `12px ${family}`)));
}

/** Edges that begin near each other as one path: of a path with all of them the browser draws all for each part of the picture. */
export function strands(nodes, edges, name = "") {
  const near = new Map();
  for (const edge of edges) {
    const [x, y] = nodes[edge.from].box, place = `${Math.floor(x / PART)} ${Math.floor(y / PART)}`;
    near.set(place, (near.get(place) ?? "") + edge.path);
  }
  return [...near.values()].map((d) => s("path", { class: `jammi-edge${name}`, d }));
}
