import { explanation } from "./terms.js";
import { button, checkRow, choose, copy, cut, download, filterInput, fold, frame, grouped, h, innerPlace, Line, meaning, more, peek, pill, progressLine, redrawn, s, seen, table, term } from "./kit.js";

const LEAST = 0.05, MOST = 3;
const FAR = 0.45;                                                      // below this scale letters cannot be read
const MOST_NAMED = 12;                                                 // of more inputs or readers the others are named on request
const counted = (n, word) => `${grouped(n)} ${word}${n === 1 ? "" : "s"}`;
const key = (...parts) => JSON.stringify(parts);

/** An SVG of the kernel. Its patterns get names of their own: two drawings on a page share none, as one of them may be hidden. */
function parsed(text, own) {
  const svg = document.importNode(new DOMParser().parseFromString(text, "image/svg+xml").documentElement, true);
  for (const each of svg.querySelectorAll("[id]")) each.id += own;
  for (const name of ["fill", "marker-end"]) for (const each of svg.querySelectorAll(`[${name}^="url("]`)) each.setAttribute(name, each.getAttribute(name).replace(")", `${own})`));
  return svg;
}

/** What the fills and marks of a drawing mean and how often each is there; a click shows those alone. */
const legend = (entries, own, sought, filter) => entries.map(([word, n, sign, meaning, swatch], at) => h("button", { type: "button", class: "jammi-count", title: `${word}: ${meaning}. Click to show only these`, "aria-pressed": String(sought === word), "data-testid": `legend-${word}`, onclick: () => filter(sought === word ? "" : word) },
  Object.assign(parsed(swatch, `${own}-${at}`), { ariaHidden: "true" }), ` ${grouped(n)} ${sign} ${word}`));

function render({ model, el, host }) {
  const line = new Line(model);
  const panel = frame(el, "lineage", "Lineage", line);
  const filter = filterInput(model, "Filter by name, kind or verdict");
  const progress = progressLine(line);
  const drawing = s("svg", { class: "jammi-drawing", role: "tree", "aria-label": "Lineage graph" });
  const picture = h("div", { class: "jammi-canvas" }, drawing);
  const side = h("aside", { class: "jammi-side", "aria-label": "Details", hidden: true });
  const split = h("div", { class: "jammi-split" }, picture, side);
  const unfoldSide = (open) => { side.hidden = !open; split.classList.toggle("jammi-open", open); };
  const summary = h("span", { class: "jammi-dim", "data-testid": "summary" }), further = h("span", { class: "jammi-dim", "data-testid": "further-nodes" });
  const legends = h("div", { class: "jammi-counts jammi-legend-of", role: "group", "aria-label": "Legend: click to filter", "data-testid": "legend" });
  const inner = innerPlace(host, panel);
  let graph = { nodes: [], edges: [], lit: [], legend: [] }, size = [0, 0], spots = new Map(), paths = [];
  let scale = 1, left = 0, top = 0, moved = false, whole = false, laid = 0, drawnFor = null, traced = null, tall = 0, sought = "";

  const own = `-${line.view}`;
  const extent = () => [picture.clientWidth || 800, picture.clientHeight || 420];
  const apply = () => {                                                // no node is drawn again by it
    drawing.classList.toggle("jammi-far", scale < FAR);
    drawing.style.transform = `translate(${left}px, ${top}px) scale(${scale})`;
    const [w, high] = extent(), beyond = Object.entries({ left: left < -1, right: left + size[0] * scale > w + 1, up: top < -1, down: top + size[1] * scale > high + 1 }).filter(([, is]) => is).map(([side]) => side).join(" ");
    if (picture.dataset.beyond === beyond) return;
    picture.dataset.beyond = beyond;                                   // its edges say that there is more behind them
    further.textContent = beyond ? " · not all in sight: Fit shows the rest" : "";
  };
  /** The scale at first: all of the graph, unless its letters could not be read then. */
  const scaled = (fitting) => Math.min(1.1, fitting >= FAR ? fitting : panel.root.clientWidth > 640 ? 0.7 : 0.85);
  const chosenSpot = () => spots.get(model.get("selection")[0]);
  const spotOf = (element) => spots.get(element?.closest?.(".jammi-node")?.dataset.id);
  /** As high as the graph needs at this width: a small one leaves no void, a filter moves nothing below. */
  const heighten = () => {
    const [gw, gh] = size, scale = scaled(picture.clientWidth / Math.max(gw, 1) || 1);
    tall = Math.max(tall, Math.min(420, Math.max(160, Math.round(gh * scale) + 32)));
    picture.style.setProperty("--j-tall", `${tall}px`);
  };
  /** Where the graph begins in a space: in its middle, or where it is to be, as far as that leaves no void beside it. */
  const placed = (space, extent, to) => (extent <= space ? (space - extent) / 2 : Math.min(0, Math.max(space - extent, to)));
  /** All of the graph, unless it could not be read then: of a large one the part around the node that was chosen or named, else around the first that changed, else its beginning. `whole`: all of it in any case; `stay`: of a large one what is seen now. */
  const fit = (room = extent(), stay = false) => {
    moved = false;
    const [w, high] = room, [gw, gh] = size;
    const fitting = Math.min(w / Math.max(gw, 1), high / Math.max(gh, 1));
    scale = whole ? Math.min(1.1, Math.max(LEAST, fitting)) : scaled(fitting);
    const middle = chosenSpot() ?? spots.get(graph.focus) ?? [...spots.values()].find((v) => v.node.id.startsWith(`${graph.focus}.`))
      ?? spotOf(drawing.querySelector("[data-changed]") ?? drawing.querySelector(".jammi-node:not([data-verdict=''], [data-verdict=fresh])"));
    const [x, y, nw, nh] = whole || !middle ? [0, 0, 0, 0] : middle.node.box;
    left = placed(w, gw * scale, stay ? left : w / 2 - (x + nw / 2) * scale);
    top = placed(high, gh * scale, stay ? top : high / 2 - (y + nh / 2) * scale);
    laid = picture.clientWidth;
    apply();
  };
  const fitAll = () => { whole = true; fit(); };
  const zoom = (by, x, y) => {
    [moved, whole] = [true, false];
    const [w, high] = extent(), to = Math.min(MOST, Math.max(LEAST, scale * by));
    x ??= w / 2; y ??= high / 2;
    left = x - ((x - left) * to) / scale;
    top = y - ((y - top) * to) / scale;
    scale = to;
    apply();
  };
  const reveal = (spot) => {
    if (!spot) return;
    const [w, high] = extent(), [x, y, nw, nh] = spot.node.box, [gw, gh] = size;
    const sx = left + x * scale, sy = top + y * scale;
    if (sx < 0 || sx + nw * scale > w) left = placed(w, gw * scale, w / 2 - (x + nw / 2) * scale);
    if (sy < 0 || sy + nh * scale > high) top = placed(high, gh * scale, high / 2 - (y + nh / 2) * scale);
    apply();
  };

  /** Makes a drawn node one that is chosen, walked to, heard and found. */
  function adopt(element, node) {
    const title = element.querySelector("title"), kind = explanation(node.kind), word = element.dataset.verdict;
    for (const [name, value] of Object.entries({ role: "treeitem", tabindex: -1, "aria-label": title.textContent, "aria-selected": false, "data-id": node.id, "data-testid": `node-${node.id}` })) element.setAttribute(name, value);
    title.append(...[kind && `${node.kind}: ${kind}`, meaning(word)].filter(Boolean).map((said) => `\n${said}`));
    for (const part of element.querySelectorAll("[data-part]")) part.dataset.testid = `${part.dataset.part}-${node.id}`;
    element.querySelectorAll(".jammi-column").forEach((each, at) => { each.dataset.testid = `column-of-${node.id}-${node.columns[at]}`; });
    return { node, element };
  }

  /** The node in the middle of what is seen of a graph that does not fit: it stays there when more is drawn around it. */
  function central() {
    const [w, high] = extent(), far = ({ node: { box: [x, y, nw, nh] } }) => Math.abs(left + (x + nw / 2) * scale - w / 2) + Math.abs(top + (y + nh / 2) * scale - high / 2);
    return [...spots.values()].sort((a, b) => far(a) - far(b))[0]?.node.id;
  }
  /** Draws; `held`: the node that stays where it is on the page, as far as that leaves no void beside the graph. */
  function draw(next, held = null) {
    const before = held !== null && drawnFor !== null && spots.get(held)?.node.box, [was, wasLeft, wasTop, zoomed] = [scale, left, top, moved];
    redrawn(panel.root, () => drawn(next), () => columns);
    const there = before && spots.get(held);
    if (!there) return;
    if (zoomed) [scale, moved] = [was, true];
    const [x, y] = there.node.box, [w, high] = extent();
    left = placed(w, size[0] * scale, wasLeft + before[0] * was - x * scale);
    top = placed(high, size[1] * scale, wasTop + before[1] * was - y * scale);
    apply();
  }
  function drawn(next) {
    const svg = parsed(next.svg, own);
    graph = next;
    size = ["width", "height"].map((name) => Number(svg.getAttribute(name)));
    const first = drawnFor === null, extentKey = key(next.focus, next.hops, size);
    split.hidden = !next.total;
    heighten();
    const room = extent();                                             // asked for before there is much to lay out
    const focused = drawing.getRootNode().activeElement, inside = drawing.contains(focused), at = (inside ? focused : drawing.querySelector("[tabindex='0']"))?.dataset.id;
    spots = new Map([...svg.querySelectorAll(".jammi-node")].map((element, n) => [next.nodes[n].id, adopt(element, next.nodes[n])]));
    paths = [...svg.querySelectorAll(".jammi-edges path")];
    drawing.setAttribute("width", size[0]);
    drawing.setAttribute("height", size[1]);
    drawing.replaceChildren(...svg.childNodes);
    const here = (spots.get(at) ?? [...spots.values()][0])?.element;   // Tab, and the focus, come back to where one was
    here?.setAttribute("tabindex", "0");
    if (inside) here?.focus({ preventScroll: true });
    mark();
    light();
    legends.replaceChildren(...legend(next.legend, own, next.filter.trim().toLowerCase(), (word) => { filter.input.value = word; filter.input.dispatchEvent(new Event("input")); }));
    const note = next.tooMany ? " · too many tables to show their columns: use the filter, or show only the neighbourhood of one" : next.nodes.length < next.shown ? ` · ${grouped(next.nodes.length)} are drawn, nearest to what is not fresh; the filter brings the others` : "";
    summary.textContent = next.total ? `${next.shown < next.total ? `${grouped(next.shown)} of ` : ""}${grouped(next.total)} nodes${note}` : "No tables yet: %%jammi -m NAME creates one.";
    hopButtons();
    columns.setAttribute("aria-pressed", String(next.columns));
    [whole, sought] = [whole && sought === next.filter, next.filter];   // what was searched for is to be read
    if (first || extentKey !== drawnFor) fit(room);
    else if (!moved) fit(room, true);
    drawnFor = extentKey;
    reveal(chosenSpot());
  }

  const send = (kind, fields, held) => line.ask(kind, fields).then((body) => { panel.say(""); draw(body, held); }).catch(panel.fail);

  // -- choosing, and what there is to say -----------------------------------------------------------------------------------------
  function pick(node) {
    choose(model, [node.id]);
  }

  function mark() {
    const [name] = model.get("selection");
    for (const [id, { element }] of spots) {
      element.classList.toggle("jammi-chosen", id === name);
      element.setAttribute("aria-selected", String(id === name));
    }
  }

  /** The edges from a root cause to what is chosen, and the way of a column: its edges are lit, the columns on it stand in their nodes, all else steps back. */
  function light() {
    const lit = new Set(graph.lit.map((pair) => key(...pair)));
    const steps = new Map();
    for (const [from, x, to, y, direct] of traced?.lines ?? []) {
      steps.set(key(from, x, to, y), true);
      steps.set(key(from, to), direct || Boolean(steps.get(key(from, to))));
    }
    drawing.classList.toggle("jammi-tracing", traced !== null && [...spots.keys()].some((id) => traced.on.has(id)));   // else nothing is left to look at
    paths.forEach((path, at) => {
      const [a, b, x, y] = graph.edges[at], [from, to] = [graph.nodes[a].id, graph.nodes[b].id], ends = x ? [from, x, to, y] : [from, to];
      const on = steps.has(key(...ends)) && (x || !graph.columns || graph.tooMany), red = lit.has(key(from, to));
      path.classList.toggle("jammi-traced", Boolean(on));
      path.classList.toggle("jammi-by", on && !steps.get(key(...ends)));
      path.classList.toggle("jammi-lit", red);
      path.dataset.testid = on ? `trace-${x ? `${from}.${x}-${to}.${y}` : `${from}-${to}`}` : red ? `lit-${from}-${to}` : "";
      if (on || red) path.parentNode.append(path);                     // above the others
    });
    for (const { node, element } of spots.values()) {
      const names = traced?.on.get(node.id), kind = element.querySelector(".jammi-kind");
      element.classList.toggle("jammi-on", names !== undefined);
      element.querySelectorAll(".jammi-column").forEach((each, at) => each.classList.toggle("jammi-lit", names?.includes(node.columns[at]) ?? false));
      kind.dataset.said ??= kind.textContent;
      kind.textContent = names && !node.columns.length ? cut(seen(names.join(", ")), Math.max(12, Math.floor(node.box[2] / 6.2))) : kind.dataset.said;
    }
    for (const each of side.querySelectorAll("[data-column]")) each.setAttribute("aria-pressed", String(traced !== null && traced.node === side.dataset.node && traced.column === each.dataset.column));
    const said = side.querySelector(".jammi-way");
    if (said) said.replaceChildren(...(traced ? [h("b", {}, `${traced.column}: `), traced.on.size > 1 ? [...traced.on].map(([node, names]) => `${node} (${names.join(", ")})`).join(" · ") : "no known column depends on it, and it depends on no known column"] : []));
  }
  const trace = (node, column) => {
    if (traced?.node === node && traced.column === column) { traced = null; light(); return; }
    line.ask("column", { node, column }).then((way) => {
      const on = new Map([[node, [column]]]);
      for (const [from, x, to, y] of way.lines) for (const [id, name] of [[from, x], [to, y]]) on.set(id, [...new Set([...(on.get(id) ?? []), name])]);
      traced = { ...way, on };
      light();
    }).catch(panel.fail);
  };
  const columnTable = (known) => table(["column", "type"], known.columns.map(([name, kind]) => [
    button(name, () => trace(known.id, name), { class: "jammi-link", "aria-pressed": "false", "data-column": name, "data-testid": `column-${name}`, title: "Highlight its upstream and downstream columns" }), kind]));

  const stand = (element) => {
    drawing.querySelectorAll("[tabindex='0']").forEach((e) => e.setAttribute("tabindex", "-1"));
    element?.setAttribute("tabindex", "0");
    element?.focus({ preventScroll: true });
  };
  const putAway = () => {
    const back = spots.get(side.dataset.node)?.element ?? drawing.querySelector("[tabindex='0']");
    unfoldSide(false);
    choose(model, []);
    stand(back);
  };
  const close = () => button("×", putAway, { class: "jammi-close", "aria-label": "Close the details", "data-testid": "close-details" });
  side.addEventListener("keydown", (event) => { if (event.key === "Escape") putAway(); });

  let unfolded = "";                                                   // the node whose checks are opened
  function openChecks(node) {
    unfolded = node.id;
    if (model.get("selection")[0] === node.id) chosen(); else choose(model, [node.id]);
  }

  /** Of a node that stood there already what is open, what was said and what is scrolled to stay. */
  function details(known) {
    if (model.get("selection")[0] !== known.id) return;
    const same = side.dataset.node === known.id, scrolled = same ? side.scrollTop : 0, said = same ? [...side.querySelector(".jammi-out").childNodes] : [];
    const opened = (part) => same && side.querySelector(`[data-part=${part}]`)?.open;
    const out = h("div", { class: "jammi-out", role: "status", "data-testid": "outcome" });
    const act = (action) => line.ask("act", { action, names: [known.id] }).then(({ begun }) => { panel.say(begun ? "" : "Another action is running; stop it or wait."); }).catch(panel.fail);
    const words = { "recompute": "Recompute", "verify": "Verify", "what-if": "What if it changed?", "preview": "Preview" };
    const list = (facts) => h("dl", {}, facts.flatMap(([k, v]) => [h("dt", {}, term(k)), h("dd", {}, v)]));
    const named = (names) => {
      const links = (some, first) => some.flatMap((n, at) => [at || first ? ", " : "", button(n, () => choose(model, [n]), { class: "jammi-link" })]);
      const rest = names.length > MOST_NAMED + 1 ? names.slice(MOST_NAMED) : [];
      const more = rest.length ? button(`… ${grouped(rest.length)} more`, () => more.replaceWith(...links(rest, true)), { class: "jammi-link", "data-testid": "more-names" }) : "";
      return [...links(names.slice(0, names.length - rest.length)), more];
    };
    out.append(...said);
    const parts = [close(), h("h4", { tabindex: -1 }, known.name), h("div", { class: "jammi-dim" }, term(known.said.split(",")[0], known.said), " ", pill(known.verdict))];
    if (known.reasons.length) parts.push(h("ul", { class: "jammi-reasons", "data-testid": "reasons" }, known.reasons.map((r) => h("li", { title: r }, r))));
    if (known.changes.length) parts.push(h("ul", { class: "jammi-reasons jammi-changes", "data-testid": "changes" }, known.changes.map((text) => h("li", {}, text))));
    parts.push(h("div", { class: "jammi-actions" },
      known.actions.map((a) => button(words[a], () => act(a), { "data-testid": `${a}-${known.id}` })),
      button("Neighbourhood", () => send("show", { node: known.id, hops: graph.focus ? graph.hops : 2, direction: graph.direction }), { "data-testid": `focus-${known.id}` }),
      button("Copy name", () => copy(known.name, panel.say)),
      known.difference ? button("What changed", () => inner.show(`What changed in ${known.name}`, known.difference, () => line.ask("difference", { node: known.id })), { "data-testid": `difference-${known.id}` }) : "",
      known.search ? button("Open in search", () => inner.show(`Search in ${known.name}`, known.search, () => line.ask("explore", { node: known.id })), { "data-testid": `search-${known.id}` }) : ""), out);
    if (known.checks.length) parts.push(fold("checks", counted(known.checks.length, "check"), opened("checks") || unfolded === known.id || known.checks.some((check) => check.outcome !== "pass"), known.checks.map(checkRow)));
    const facts = known.facts.filter(([, v]) => v);
    if (facts.length) parts.push(list(facts));
    if (known.reads.length) parts.push(h("p", {}, "Computed from ", ...named(known.reads)));
    if (known.readBy.length) parts.push(h("p", {}, "Used by ", ...named(known.readBy)));
    if (known.columns.length) parts.push(fold("columns", counted(known.columns.length, "column"), opened("columns") || traced?.node === known.id, columnTable(known), h("div", { class: "jammi-dim jammi-way", role: "status", "data-testid": "way" })));
    if (known.anchors.length) parts.push(fold("anchors", term("anchors", counted(known.anchors.length, "anchor")), opened("anchors"), table(["input", "kind", ...["method", "state", "columns read"].map((word) => term(word))], known.anchors.map(([input, kind, ...rest]) => [input, term(kind), ...rest]))));
    if (known.definition) parts.push(fold("definition", "Definition", opened("definition"), h("pre", {}, known.definition)));
    if (known.identifiers.length) parts.push(fold("identifiers", term("identifiers", "Identifiers"), opened("identifiers"), list(known.identifiers)));
    redrawn(side, () => side.replaceChildren(...parts), () => side.querySelector("h4"));
    side.dataset.node = known.id;
    unfoldSide(true);
    side.scrollTop = scrolled;
    light();
  }

  function chosen() {
    const [name] = model.get("selection");
    if (traced && traced.node !== name && !graph.columns) { traced = null; light(); }
    mark();
    if (!name) { unfoldSide(false); delete side.dataset.node; return; }
    line.ask("details", { node: name }).then(details).catch((lines) => { unfoldSide(false); panel.fail(lines); });
  }

  /** What was asked of a node stands below its name, and under no other: when another is open by now, it is said with the name. */
  const outcome = ({ body, action }) => {
    progress.hide();
    const out = !side.hidden && side.dataset.node === body.node && model.get("selection")[0] === body.node ? side.querySelector(".jammi-out") : null;
    if (!out) {
      panel.say((body.lines || [`${action}: done`]).map((text) => `${body.node}: ${text}`));
      if (action === "recompute" && !side.hidden) chosenAgain();
      return;
    }
    out.replaceChildren(...(body.lines || []).map((text) => h("div", {}, text)));
    if (body.columns) out.append(h("div", { class: "jammi-scroll" }, peek(body.columns, body.rows)));
    if (body.names) for (const { node, element } of spots.values()) element.classList.toggle("jammi-touched", body.names.includes(node.name));
    if (action === "recompute") chosenAgain();
  };

  /** After a recompute the verdict and the facts are others. */
  function chosenAgain() {
    const [name] = model.get("selection");
    if (name) line.ask("details", { node: name }).then(details).catch(panel.fail);
  }

  line.on("changed", ({ body, looked }) => { draw(body, looked ? model.get("selection")[0] ?? central() : null); if (looked && !side.hidden) chosen(); });
  line.on("lit", ({ body }) => { graph.lit = body.lit; light(); reveal(chosenSpot()); });
  line.on("progress", ({ body }) => progress.show(body));
  line.on("done", outcome);
  line.on("failed", ({ lines }) => { progress.hide(); panel.fail(lines); });
  line.on("stopped", () => { progress.hide(); panel.say("Stopped. Finished steps are kept; the rest is unchanged."); });
  model.on("change:selection", chosen);

  // -- tools, mouse and keys ------------------------------------------------------------------------------------------------------
  const hops = h("span", { class: "jammi-hops" });
  function hopButtons() {
    const some = graph.focus !== null && graph.focus !== undefined;
    const near = (by) => send("show", { node: graph.focus, hops: Math.max(1, (graph.hops || 3) + by), direction: graph.direction });
    const way = (direction, word, said) => button(word, () => send("show", { node: graph.focus, hops: graph.hops, direction }), { "aria-pressed": String(graph.direction === direction), "aria-label": said, title: said, "data-testid": `way-${direction}` });
    hops.replaceChildren(...(some ? [h("span", { class: "jammi-dim" }, `around ${cut(graph.focus, 24)}, ${graph.hops === null ? "all hops" : counted(graph.hops, "hop")}`),
      h("span", { class: "jammi-together" }, button("−", () => near(-1), { "aria-label": "Fewer hops", "data-testid": "fewer-hops", disabled: graph.hops === 1 }), button("+", () => near(1), { "aria-label": "More hops", "data-testid": "more-hops", disabled: graph.hops === null })),
      h("span", { class: "jammi-together", role: "group", "aria-label": "Direction" }, way("up", "Up", "Upstream: what it is computed from"), way("both", "Both", "Upstream and downstream"), way("down", "Down", "Downstream: what is computed from it")),
      button("All", () => send("show", { node: null, hops: null }), { "aria-label": "Show the whole lineage", title: "Show the whole lineage", "data-testid": "show-all" })] : []));
  }
  const columns = button("Columns", () => { if (traced?.node !== model.get("selection")[0]) traced = null; send("columns", { on: !graph.columns }, central()); }, { "aria-pressed": "false", title: "Show columns in the nodes, and which columns each was computed from", "data-testid": "columns" });
  const save = (form, name, type) => line.ask("export", { form }).then(({ text }) => { download(name, text, type); panel.say(`Saved ${name}`); }).catch(panel.fail);
  const full = () => { if (panel.root.getRootNode().fullscreenElement) document.exitFullscreen(); else panel.root.requestFullscreen().catch(() => panel.fail("This page does not allow full screen.")); };
  const rare = more(button("Refresh", () => send("refresh"), { "data-testid": "refresh" }), button("Full screen", full, { "data-testid": "full-screen" }), button("Save as SVG", () => save("svg", "lineage.svg", "image/svg+xml"), { title: "Save the drawing as an SVG picture", "data-testid": "export-svg" }),
    button("Save as Mermaid", () => save("mermaid", "lineage.mmd", "text/plain"), { title: "Save the drawing as a Mermaid flowchart", "data-testid": "export-mermaid" }));
  panel.tools.append(filter.input, h("span", { class: "jammi-together" }, button("Fit", fitAll, { "data-testid": "fit" }), button("−", () => zoom(0.8), { "aria-label": "Zoom out" }), button("+", () => zoom(1.25), { "aria-label": "Zoom in" })),
    columns, rare, hops, h("span", {}, summary, further));
  panel.body.append(progress.box, legends, split, inner.box);

  picture.addEventListener("click", (event) => {
    const spot = spotOf(event.target), entry = event.target.closest?.(".jammi-column");
    if (!spot) return;
    const column = entry && spot.node.columns[[...spot.element.querySelectorAll(".jammi-column")].indexOf(entry)];
    if (event.target.closest("[data-part=checks]")) openChecks(spot.node);
    else if (column && !column.startsWith("… ")) trace(spot.node.id, column);
    else pick(spot.node);
  });
  picture.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.metaKey) return;                      // the page scrolls, unless zooming is meant
    event.preventDefault();
    const at = picture.getBoundingClientRect();
    zoom(event.deltaY < 0 ? 1.12 : 0.89, event.clientX - at.left, event.clientY - at.top);
  }, { passive: false });
  picture.addEventListener("scroll", () => {                           // Tab, and a search in the page, bring a node into view by scrolling what hides it
    if (!picture.scrollLeft && !picture.scrollTop) return;
    [left, top, moved] = [left - picture.scrollLeft, top - picture.scrollTop, true];
    picture.scrollTo(0, 0);
    apply();
  });
  let held = null;
  picture.addEventListener("pointerdown", (event) => { if (event.button === 0) held = { x: event.clientX - left, y: event.clientY - top, id: event.pointerId, far: false }; });
  picture.addEventListener("pointermove", (event) => {
    if (!held) return;
    if (!held.far && Math.abs(event.clientX - left - held.x) + Math.abs(event.clientY - top - held.y) < 4) return;
    if (!held.far) { held.far = true; picture.setPointerCapture(held.id); }
    [left, top, moved, whole] = [event.clientX - held.x, event.clientY - held.y, true, false];
    apply();
  });
  for (const end of ["pointerup", "pointercancel"]) picture.addEventListener(end, () => { held = null; });

  /** Arrows go along the edges, up and down within a column. */
  function beside(node, arrow) {
    const at = graph.nodes.indexOf(node), middle = (n) => n.box[1] + n.box[3] / 2, [from, to] = arrow === "ArrowRight" ? [0, 1] : [1, 0], down = arrow === "ArrowDown";
    const near = arrow === "ArrowLeft" || arrow === "ArrowRight" ? graph.edges.filter((ends) => ends[from] === at).map((ends) => graph.nodes[ends[to]])
      : graph.nodes.filter((n) => n !== node && n.box[0] === node.box[0] && (down ? middle(n) > middle(node) : middle(n) < middle(node)));
    return near.sort((a, b) => Math.abs(middle(a) - middle(node)) - Math.abs(middle(b) - middle(node)))[0];
  }
  picture.addEventListener("keydown", (event) => {
    const here = spotOf(picture.getRootNode().activeElement);
    if (!here) return;
    if (event.key === "Enter" || event.key === " ") { event.preventDefault(); pick(here.node); return; }
    if (event.key === "Escape") { if (traced) { traced = null; light(); } unfoldSide(false); choose(model, []); return; }
    if (event.key === "+" || event.key === "-") { zoom(event.key === "+" ? 1.25 : 0.8); return; }
    if (!event.key.startsWith("Arrow")) return;
    event.preventDefault();
    const next = beside(here.node, event.key);
    if (!next) return;
    stand(spots.get(next.id).element);
    reveal(spots.get(next.id));
  });

  const resized = new ResizeObserver(() => {
    if (moved) return;
    if (laid && laid !== picture.clientWidth) { tall = 0; heighten(); }
    fit(extent(), laid > 0);
    reveal(chosenSpot());
  });
  resized.observe(picture);
  send("open").then(() => { if (model.get("selection").length) chosen(); });
  el._pan = (by) => { left += by; apply(); };                          // the bench moves the picture by it
  return () => { inner.close(); resized.disconnect(); model.off("change:selection", chosen); filter.close(); line.close(); panel.close(); };
}

export default { render };
