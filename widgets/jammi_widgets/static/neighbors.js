import { Line, button, choose, cut, frame, grouped, h, more, pill, redrawn } from "./kit.js";
import { explanations } from "./terms.js";

const SHORT = 42, LONG = 120, TEXT = 400;
const MOST_STEPS = 8, LAST_STEPS = 5;                                  // of a longer way the first step and so many of the last ones stand there

function render({ model, el }) {
  const line = new Line(model);
  const panel = frame(el, "neighbors", "Neighbour explorer", line);
  const query = h("input", { type: "search", class: "jammi-filter jammi-query", placeholder: "Search by meaning", "aria-label": "Search by meaning", "data-testid": "query-input", value: model.get("query") });
  const where = h("input", { type: "search", class: "jammi-filter", placeholder: "SQL condition: year > 2020", "aria-label": "Filter by a condition in SQL", "data-testid": "filter-input", value: model.get("filter") });
  const about = h("div", { class: "jammi-about" });
  const trail = h("nav", { class: "jammi-trail", "aria-label": "Search history" });
  const own = h("div", { class: "jammi-own", "data-testid": "own" });
  const list = h("ol", { class: "jammi-hits", role: "grid", "aria-label": "Neighbours" });
  const steps = [];
  let last = null, wholeWay = false;

  const ask = (what, step = true) => line.ask("near", { k: model.get("k"), ...what }).then((body) => {
    panel.say("");
    if (step) went(what);
    draw(body);
    if (what.row) choose(model, [what.row]);
  }).catch(panel.fail);
  const went = (what) => {
    const at = steps.findIndex((known) => known.text === what.text && known.row === what.row);
    if (at >= 0) steps.length = at + 1; else steps.push(what);
  };
  const told = (body) => {
    if (body.query) went({ text: body.query });
    else if (body.row) went({ row: body.row });
    draw(body);
  };
  const again = () => { const at = steps.at(-1); if (at) ask(at, false); else if (query.value) ask({ text: query.value }); };

  query.addEventListener("keydown", (event) => { if (event.key === "Enter" && query.value.trim()) ask({ text: query.value }); });
  where.addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    panel.say("");
    if (model.get("filter") === where.value) { again(); return; }
    model.set("filter", where.value);                                  // the kernel searches when it is another
    Promise.resolve(model.save_changes()).then(() => { if (!steps.length && query.value.trim()) ask({ text: query.value }); });
  });

  function values(names, of, texts) {
    const parts = names.map((name, i) => [name, of[i]]).filter(([, v]) => v !== null && v !== "");
    const long = parts.filter(([name, v]) => texts.includes(name) || v.length > SHORT), short = parts.filter((p) => !long.includes(p));
    return [...long.map(([name, v], i) => h("div", { class: i ? "jammi-text" : "jammi-text jammi-strong", title: `${name}: ${v}` }, cut(v, TEXT))),
      short.length ? h("div", { class: "jammi-facets" }, short.map(([name, v]) => button(`${name}: ${v}`, (event) => { event.stopPropagation(); narrow(name, v); }, { class: "jammi-cause", title: "Only rows with this value" }))) : ""];
  }

  /** A facet becomes a condition that the person sees and may change. */
  function narrow(name, value) {
    const quoted = `"${name.replaceAll('"', '""')}"::VARCHAR = '${value.replaceAll("'", "''")}'`;
    where.value = where.value.trim() ? `(${where.value}) AND ${quoted}` : quoted;
    where.focus();
    panel.say("Press Enter to apply the condition.");
  }

  function hit(item, rank) {
    const on = model.get("selection").includes(item.key), names = last.about.columns;
    const go = () => ask({ row: item.key });
    const bar = h("span", { class: "jammi-near", title: `similarity ${item.similarity}` }, h("span", { style: `width:${Math.max(0, item.similarity) * 100}%` }));
    const keys = (event) => {
      if (event.target !== event.currentTarget) return;
      if (event.key === "Enter") { event.preventDefault(); choose(model, [item.key]); }
      const next = event.key === "ArrowDown" ? event.currentTarget.nextElementSibling : event.key === "ArrowUp" ? event.currentTarget.previousElementSibling : null;
      if (next) { event.preventDefault(); next.focus(); }
    };
    return h("li", { class: "jammi-hit", role: "row", tabindex: 0, "aria-selected": on, "data-testid": `neighbor-${item.key}`, "data-key": item.key, onclick: () => choose(model, [item.key]), onkeydown: keys },
      h("div", { class: "jammi-rank", role: "gridcell" }, h("b", {}, rank), bar, h("span", { class: "jammi-dim" }, item.similarity.toFixed(3))),
      h("div", { class: "jammi-what", role: "gridcell" }, h("div", { class: "jammi-dim", title: item.key }, cut(item.key, LONG), item.missing ? " · the row no longer exists in its source" : ""), ...values(names, item.values, last.about.text)),
      h("div", { class: "jammi-do", role: "gridcell" }, button("Neighbours", (event) => { event.stopPropagation(); go(); }, { "data-testid": `step-${item.key}`, "aria-label": `Neighbours of ${item.key}` })));
  }

  const head = (known) => about.replaceChildren(h("b", {}, `${known.table} `), pill(known.verdict, { "data-testid": "verdict-table" }), ...known.notes.map((n) => h("div", { class: "jammi-dim", "data-testid": "note", title: explanations(n) }, n)));

  const first = () => list.querySelector("[tabindex]") ?? query;
  const draw = (body) => redrawn(panel.body, () => drawn(body), first);
  function drawn(body) {
    last = body;
    head(body.about);
    way();
    own.replaceChildren(...(body.own ? [h("div", { class: "jammi-dim", title: body.row }, `Neighbours of ${cut(body.row, LONG)}`), ...values(body.about.columns, body.own, body.about.text)] : []));
    list.replaceChildren(...body.hits.map((item, i) => hit(item, i + 1)));
    if (!body.hits.length) list.append(h("li", { class: "jammi-dim" }, steps.length ? "No row satisfies the condition." : "Type a text and press Enter."));
  }

  /** The way here. The middle of a long one is folded behind a button that says how many steps stand there. */
  function way() {
    const folded = steps.length > MOST_STEPS ? steps.length - 1 - LAST_STEPS : 0;
    wholeWay &&= folded > 0;
    const entry = (step, i) => h("span", {}, i ? " › " : "", button(step.text ? `“${cut(step.text, SHORT)}”` : cut(step.row, SHORT), () => ask(step), { class: "jammi-link", title: step.text || step.row, "data-testid": `trail-${i}`, "aria-current": i === steps.length - 1 ? "step" : null }));
    const turn = () => { wholeWay = !wholeWay; redrawn(trail, way, first); };
    const word = `${wholeWay ? "Hide" : "Show"} the ${folded} steps between`;
    const knob = folded ? h("span", {}, " › ", button(wholeWay ? "hide" : `… ${grouped(folded)} steps …`, turn, { class: "jammi-link", title: word, "aria-label": word, "aria-expanded": wholeWay, "data-testid": "trail-between" })) : "";
    const parts = steps.map(entry);
    trail.replaceChildren(...parts.slice(0, 1), knob, ...parts.slice(folded && !wholeWay ? 1 + folded : 1));
  }

  function ticked() {
    const kept = model.get("selection");
    for (const item of list.children) item.setAttribute("aria-selected", String(kept.includes(item.dataset.key)));
  }

  panel.tools.append(query, where, more(button("Refresh", () => line.ask("refresh").then((body) => { panel.say(""); told(body); }).catch(panel.fail), { "data-testid": "refresh" })));
  panel.body.append(about, trail, own, list);
  line.on("changed", ({ body }) => { panel.say(""); told(body); });
  line.on("about", ({ body }) => head(body));
  const typed = () => { query.value = model.get("query"); };
  const filtered = () => { where.value = model.get("filter"); };
  model.on("change:selection", ticked);
  model.on("change:query", typed);
  model.on("change:filter", filtered);
  line.ask("open").then(told).catch(panel.fail);
  return () => {
    for (const [name, f] of [["selection", ticked], ["query", typed], ["filter", filtered]]) model.off(`change:${name}`, f);
    line.close();
    panel.close();
  };
}

export default { render };
