import { knob, legend, outlined, patterns, strands, writing } from "./nodes.js";
import { Line, button, checkRow, choose, copy, cut, download, filterInput, fold, frame, grouped, h, innerPlace, peek, pill, progressLine, redrawn, s, seen, table, term, unmarked } from "./kit.js";

const LEAST = 0.05, MOST = 3;
const FAR = 0.45;                                                      // below this scale letters cannot be read
const MOST_NAMED = 12;                                                 // of more inputs or readers the others are named on request
const AT_ONCE = 4, PAUSE = 20;                                         // ms of writing into nodes that nobody sees yet, and between
function counted(n, word) {
  return `${grouped(n)} ${word}${n === 1 ? "" : "s"}`;
}

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
  const summary = h("span", { class: "jammi-dim", "data-testid": "summary" });
  const key = h("div", { class: "jammi-counts jammi-legend-of", role: "group", "aria-label": "Legend: click to filter", "data-testid": "legend" });
  const inner = innerPlace(host, panel);
  let graph = { nodes: [], edges: [], lines: [], size: [0, 0], counts: {} };
  let scale = 1, left = 0, top = 0, spots = new Map(), bare = new Set(), furnishing = 0, moved = false, whole = false, laid = 0, drawnFor = null, traced = null, tall = 0, family = "", sought = "";

  const page = line.view;
  const apply = () => { drawing.classList.toggle("jammi-far", scale < FAR); drawing.style.transform = `translate(${left}px, ${top}px) scale(${scale})`; furnishSeen(); };     // no node is drawn again by it
  const readable = () => (panel.root.clientWidth > 640 ? 0.7 : 0.85);  // as in the sheet: what is narrow shows little at once, which may as well be read
  const extent = () => [picture.clientWidth || 800, picture.clientHeight || 420];
  /** As high as the graph needs at this width: a small one leaves no void, a filter moves nothing below. */
  const heighten = () => {
    const [gw, gh] = graph.size, scale = Math.min(1.1, Math.max(readable(), picture.clientWidth / Math.max(gw, 1) || 1));
    tall = Math.max(tall, Math.min(420, Math.max(160, Math.round(gh * scale) + 32)));
    picture.style.height = `${tall}px`;
  };
  /** All of the graph, unless it could not be read then: of a large one the part around the node that was chosen or named, else around the first that changed, else its beginning. `whole`: all of it in any case; `stay`: of a large one what is seen now. */
  const fit = (room = extent(), stay = false) => {
    moved = false;
    const [w, high] = room, [gw, gh] = graph.size;
    scale = Math.min(1.1, Math.max(whole ? LEAST : readable(), Math.min(w / Math.max(gw, 1), high / Math.max(gh, 1))));
    const all = [...spots.values()], middle = spots.get(model.get("selection")[0]) ?? spots.get(graph.focus) ?? all.find((v) => v.node.id.startsWith(`${graph.focus}.`)) ?? all.find((v) => v.node.changed) ?? all.find((v) => v.node.verdict && unmarked(v.node.verdict) !== "fresh");
    const [x, y, nw, nh] = whole || !middle ? [0, 0, 0, 0] : middle.node.box;
    const placed = (space, size, at, now) => (size <= space ? (space - size) / 2 : Math.min(0, Math.max(space - size, stay ? now : space / 2 - at)));
    left = placed(w, gw * scale, (x + nw / 2) * scale, left);
    top = placed(high, gh * scale, (y + nh / 2) * scale, top);
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
  const reveal = (node) => {
    const [w, high] = extent(), [x, y, nw, nh] = node.box, [gw, gh] = graph.size;
    const sx = left + x * scale, sy = top + y * scale;
    const middle = (space, size, at) => (size * scale <= space ? space / 2 - at * scale : Math.min(0, Math.max(space - size * scale, space / 2 - at * scale)));   // beside a large graph no void
    if (sx < 0 || sx + nw * scale > w) left = middle(w, gw, x + nw / 2);
    if (sy < 0 || sy + nh * scale > high) top = middle(high, gh, y + nh / 2);
    apply();
  };

  const unfold = (node, side, open) => send("unfold", { node: node.id, side, open }, node.id);
  /** Writes into a node what stands in it. Text takes most of the time of a drawing, and of a large graph little is seen at first. */
  function furnish(spot) {
    if (!bare.delete(spot)) return;
    spot.element.append(...writing(spot.node, family, unfold, trace, openChecks));
    if (traced) lightOne(spot);
  }
  const furnishSeen = () => {
    const [w, high] = bare.size ? extent() : [0, 0];
    for (const spot of bare) {
      const [x, y, nw, nh] = spot.node.box;
      if (left + (x + nw) * scale > 0 && left + x * scale < w && top + (y + nh) * scale > 0 && top + y * scale < high) furnish(spot);
    }
  };
  /** The rest, a little at a time, so that mouse and keys come between. */
  const furnishRest = () => {
    clearTimeout(furnishing);
    const some = () => {
      const until = performance.now() + AT_ONCE;
      for (const spot of bare) { if (performance.now() > until) break; furnish(spot); }
      if (bare.size) furnishing = setTimeout(some, PAUSE);
    };
    furnishing = setTimeout(some, PAUSE);
  };

  /** What folds is shown on the node that the mouse or the keyboard is on; what unfolds always. */
  function knobs(node, element) {
    furnish(spots.get(node.id));
    if (node.members) return;
    for (const way of ["up", "down"]) if (!element.querySelector(`.jammi-${way}`)) element.append(knob(node, way, unfold) ?? "");
  }

  /** The node in the middle of what is seen of a graph that does not fit: it stays there when more is drawn around it. */
  function central() {
    const [w, high] = extent(), far = ({ node: { box: [x, y, nw, nh] } }) => Math.abs(left + (x + nw / 2) * scale - w / 2) + Math.abs(top + (y + nh / 2) * scale - high / 2);
    return [...spots.values()].sort((a, b) => far(a) - far(b))[0]?.node.id;
  }
  /** Puts a node where it was on the page, as far as that leaves no void beside the graph. */
  function hold(id, [x, y], zoomed, [was, l, t]) {
    const there = spots.get(id);
    if (!there) return;
    if (zoomed) { scale = was; moved = true; }
    const [nx, ny] = there.node.box, [gw, gh] = graph.size, [w, high] = extent();
    const at = (space, size, to) => (size * scale <= space ? (space - size * scale) / 2 : Math.min(0, Math.max(space - size * scale, to)));
    left = at(w, gw, l + x * was - nx * scale);
    top = at(high, gh, t + y * was - ny * scale);
    apply();
  }
  /** `held`: the node that stays where it is on the page. */
  function draw(next, held = null) {
    const before = held !== null && drawnFor !== null && spots.get(held) ? [held, spots.get(held).node.box, moved, [scale, left, top]] : null;
    redrawn(panel.root, () => drawn(next), () => columns);
    if (!before) return;
    hold(...before);
  }
  function drawn(next) {
    const first = drawnFor === null, extentKey = JSON.stringify([next.focus, next.hops, next.size]);
    graph = next;
    split.hidden = !next.total;
    heighten();
    const room = extent();                                             // asked for before there is much to lay out
    family = getComputedStyle(panel.root).fontFamily;
    const names = new Set(model.get("selection"));
    spots = new Map(next.nodes.map((node) => [node.id, { node, element: outlined(node, names.has(node.id), pick, page) }]));
    bare = new Set(spots.values());
    drawing.setAttribute("width", next.size[0]);
    drawing.setAttribute("height", next.size[1]);
    const focused = drawing.getRootNode().activeElement, inside = drawing.contains(focused), at = (inside ? focused : drawing.querySelector("[tabindex='0']"))?.dataset.id;
    drawing.replaceChildren(patterns(page), ...lines(), ...[...spots.values()].map((v) => v.element));
    const here = (spots.get(at) ?? [...spots.values()][0])?.element;   // Tab, and the focus, come back to where one was
    here?.setAttribute("tabindex", "0");
    if (inside) here?.focus({ preventScroll: true });
    if (traced || drawing.classList.contains("jammi-tracing")) light();
    key.replaceChildren(...legend(next, page, next.filter.trim().toLowerCase(), (word) => { filter.input.value = word; filter.input.dispatchEvent(new Event("input")); }),
      next.open ? button("Fold the groups", () => send("open-group", { group: null }), { "data-testid": "fold-groups" }) : "");
    const note = next.tooMany ? " · too many tables to show their columns: use the filter, or show only the neighbourhood of one" : next.grouped ? " · too many to draw: similar ones are grouped; use the filter, or click a group" : "";
    summary.textContent = next.total ? `${next.shown < next.total ? `${grouped(next.shown)} of ` : ""}${grouped(next.total)} nodes${note}` : "No tables yet: %%jammi -m NAME creates one.";
    hopButtons();
    columns.setAttribute("aria-pressed", String(next.columns));
    [whole, sought] = [whole && sought === next.filter, next.filter];   // what was searched for is to be read
    if (first || extentKey !== drawnFor) fit(room);
    else if (!moved) fit(room, true);
    drawnFor = extentKey;
    const chosen = spots.get(model.get("selection")[0]);
    if (chosen) reveal(chosen.node);
    furnishRest();
  }

  /** The edges, and those from a root cause to what is chosen by themselves. Where columns stand in the nodes, lines lead from one to the other in place of the edge. */
  const lines = (fine = new Set(graph.lines.map((e) => `${e.from} ${e.to}`))) => [...strands(graph.nodes, graph.edges.filter((e) => !e.lit && !fine.has(`${e.from} ${e.to}`))),
    ...[false, true].flatMap((direct) => strands(graph.nodes, graph.lines.filter((e) => e.direct === direct), ` jammi-fine${direct ? "" : " jammi-by"}`)),
    ...graph.edges.filter((e) => e.lit).map((e) => s("path", { class: "jammi-edge jammi-lit", d: e.path, "data-testid": `lit-${graph.nodes[e.from].id}-${graph.nodes[e.to].id}` }))];
  function lit({ body }) {
    const on = new Set(body.lit);
    graph.edges.forEach((edge, at) => { edge.lit = on.has(at); });
    drawing.querySelectorAll(".jammi-edge:not(.jammi-traced)").forEach((e) => e.remove());
    drawing.firstElementChild.after(...lines());
    const there = spots.get(model.get("selection")[0]);
    if (there) reveal(there.node);
  }

  const send = (kind, fields, held) => line.ask(kind, fields).then((body) => { panel.say(""); draw(body, held); }).catch(panel.fail);

  // -- choosing, and what there is to say -----------------------------------------------------------------------------------------
  function pick(node) {
    if (node.members) return members(node);
    choose(model, [node.id]);
  }

  function members(node) {
    unfoldSide(true);
    const list = node.members.map(([name, marks]) => h("li", {}, button(name, () => send("show", { node: name, hops: 1 }), { class: "jammi-link" }), marks ? h("span", { class: "jammi-dim" }, ` ${marks}`) : ""));
    delete side.dataset.node;
    side.replaceChildren(close(), h("h4", {}, node.name), h("p", { class: "jammi-dim" }, "Select one to show its neighbourhood."), button("Draw each of them", () => send("open-group", { group: node.id }), { "data-testid": "open-group" }), h("ul", { class: "jammi-list" }, list));
  }

  function lightOne({ node, element }) {
    const names = traced?.on.get(node.id), kind = element.querySelector(".jammi-kind");
    element.classList.toggle("jammi-on", names !== undefined);
    for (const each of element.querySelectorAll(".jammi-column")) each.classList.toggle("jammi-lit", names?.includes(each.dataset.name) ?? false);
    if (kind) kind.textContent = names && !node.columns.length ? cut(seen(names.join(", ")), Math.max(12, Math.floor(node.box[2] / 6.2))) : node.said;
  }

  /** The way of a column: its edges are lit, the columns on it stand in their nodes, all else steps back. */
  function light() {
    drawing.classList.toggle("jammi-tracing", traced !== null && [...spots.keys()].some((id) => traced.on.has(id)));   // else nothing is left to look at
    drawing.querySelectorAll(".jammi-traced").forEach((e) => e.remove());
    for (const spot of spots.values()) lightOne(spot);
    const first = [...spots.values()][0]?.element;
    const steps = new Set(traced ? traced.lines.map((step) => JSON.stringify(step)) : []);
    for (const { from, to, path, columns: [x, y], direct } of graph.lines) {
      const step = JSON.stringify([graph.nodes[from].id, x, graph.nodes[to].id, y]);
      if (steps.has(step)) drawing.insertBefore(s("path", { class: `jammi-edge jammi-traced${direct ? "" : " jammi-by"}`, d: path, "data-testid": `trace-${graph.nodes[from].id}.${x}-${graph.nodes[to].id}.${y}` }), first);
    }
    for (const [from, to, direct] of traced && !graph.lines.length ? traced.edges : []) {
      const edge = graph.edges.find((e) => graph.nodes[e.from].id === from && graph.nodes[e.to].id === to);
      if (edge) drawing.insertBefore(s("path", { class: `jammi-edge jammi-traced${direct ? "" : " jammi-by"}`, d: edge.path, "data-testid": `trace-${from}-${to}` }), first);
    }
    for (const each of side.querySelectorAll("[data-column]")) each.setAttribute("aria-pressed", String(traced !== null && traced.node === side.dataset.node && traced.column === each.dataset.column));
    const said = side.querySelector(".jammi-way");
    if (said) said.replaceChildren(...(traced ? [h("b", {}, `${traced.column}: `), traced.columns.length > 1 ? traced.columns.map(([node, names]) => `${node} (${names.join(", ")})`).join(" · ") : "no known column depends on it, and it depends on no known column"] : []));
  }
  const trace = (node, column) => {
    if (traced?.node === node && traced.column === column) { traced = null; light(); return; }
    line.ask("column", { node, column }).then((way) => { traced = { ...way, on: new Map(way.columns) }; light(); }).catch(panel.fail);
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
    if (node.members) return members(node);
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
    for (const { node, element } of spots.values()) {
      const on = node.id === name;
      element.classList.toggle("jammi-chosen", on);
      element.setAttribute("aria-selected", String(on));
    }
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
  line.on("lit", lit);
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
  const exports = h("span", { class: "jammi-together" }, button("SVG", () => save("svg", "lineage.svg", "image/svg+xml"), { title: "Save the drawing as an SVG picture", "data-testid": "export-svg" }),
    button("Mermaid", () => save("mermaid", "lineage.mmd", "text/plain"), { title: "Save the drawing as a Mermaid flowchart", "data-testid": "export-mermaid" }), button("Full screen", full, { "data-testid": "full-screen" }));
  panel.tools.append(filter.input, h("span", { class: "jammi-together" }, button("Fit", fitAll, { "data-testid": "fit" }), button("−", () => zoom(0.8), { "aria-label": "Zoom out" }), button("+", () => zoom(1.25), { "aria-label": "Zoom in" })),
    columns, exports, button("Refresh", () => send("refresh"), { "data-testid": "refresh" }), hops, summary);
  panel.body.append(progress.box, key, split, inner.box);

  for (const kind of ["pointerover", "focusin"]) {
    picture.addEventListener(kind, (event) => {                        // on the drawing itself a listener for the focus makes it a stop of Tab
      const known = spots.get(event.target.closest(".jammi-node")?.dataset.id);
      if (known) knobs(known.node, known.element);
    });
  }
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
  function beside(node, key) {
    const at = graph.nodes.indexOf(node), middle = (n) => n.box[1] + n.box[3] / 2;
    if (key === "ArrowLeft" || key === "ArrowRight") {
      const ends = graph.edges.filter((e) => (key === "ArrowRight" ? e.from : e.to) === at).map((e) => graph.nodes[key === "ArrowRight" ? e.to : e.from]);
      return ends.sort((a, b) => Math.abs(middle(a) - middle(node)) - Math.abs(middle(b) - middle(node)))[0];
    }
    const down = key === "ArrowDown", same = graph.nodes.filter((n) => n !== node && n.box[0] === node.box[0] && (down ? middle(n) > middle(node) : middle(n) < middle(node)));
    return same.sort((a, b) => Math.abs(middle(a) - middle(node)) - Math.abs(middle(b) - middle(node)))[0];
  }
  picture.addEventListener("keydown", (event) => {
    const focused = picture.getRootNode().activeElement, here = [...spots.values()].find((v) => v.element === focused);
    if (!here) return;
    if (event.key === "Enter" || event.key === " ") { event.preventDefault(); pick(here.node); return; }
    if (event.key === "Escape") { if (traced) { traced = null; light(); } unfoldSide(false); choose(model, []); return; }
    if (event.key === "+" || event.key === "-") { zoom(event.key === "+" ? 1.25 : 0.8); return; }
    if (!event.key.startsWith("Arrow")) return;
    event.preventDefault();
    if (event.shiftKey) {
      here.element.querySelector(event.key === "ArrowLeft" ? ".jammi-up" : ".jammi-down")?.dispatchEvent(new MouseEvent("click"));
      return;
    }
    const next = beside(here.node, event.key);
    if (!next) return;
    stand(spots.get(next.id).element);
    reveal(next);
  });

  const resized = new ResizeObserver(() => {
    if (moved) { furnishSeen(); return; }
    fit(extent(), laid > 0);
    const there = spots.get(model.get("selection")[0]);
    if (there) reveal(there.node);
  });
  resized.observe(picture);
  send("open").then(() => { if (model.get("selection").length) chosen(); });
  el._pan = (by) => { left += by; apply(); };                          // the bench moves the picture by it
  return () => { clearTimeout(furnishing); inner.close(); resized.disconnect(); model.off("change:selection", chosen); filter.close(); line.close(); panel.close(); };
}

export default { render };
