import { Line, button, choose, copy, filterInput, fold, frame, grouped, h, redrawn, s, seen } from "./kit.js";

const PAGE = 50, WIDE = 30;

function render({ model, el }) {
  const line = new Line(model);
  const panel = frame(el, "result", "Result", line);
  const filter = filterInput(model, "Find a text in the rows");
  const asked = { column: null, descending: false, offset: 0, limit: PAGE, left: 0 };
  const badge = h("div", { class: "jammi-badge", "data-testid": "badge" });
  const head = h("thead", {});
  const body = h("tbody", {});
  const grid = h("table", { class: "jammi-table jammi-grid", role: "grid", "aria-label": "Rows of the result", "aria-multiselectable": "true", "data-testid": "grid" }, head, body);
  const scroll = h("div", { class: "jammi-scroll jammi-tall" }, grid);
  const foot = h("div", { class: "jammi-foot jammi-turns" });
  const bounds = h("div", { class: "jammi-dim", role: "status", "data-testid": "bounds" });
  const whole = h("div", { class: "jammi-whole", hidden: true, role: "region", "aria-label": "Full value", "data-testid": "whole" });
  const profiles = h("div", { class: "jammi-profiles", hidden: true, role: "region", "aria-label": "Profiles of the columns", "data-testid": "profiles" });
  const profiled = button("Profile", () => { profiles.hidden = !profiles.hidden; profiled.setAttribute("aria-pressed", String(!profiles.hidden)); profile(); }, { "aria-pressed": "false", "data-testid": "profile", title: "Distribution, NULLs and distinct values of each column, over all rows" });
  const chips = h("div", { class: "jammi-turns jammi-filters", hidden: true, role: "group", "aria-label": "Filters", "data-testid": "filters" });
  const statement = h("pre", { "data-testid": "sql" });
  const query = fold("sql", "SQL of these rows", false, h("div", { class: "jammi-turns" }, button("Copy SQL", () => copy(page.sql, panel.say), { "data-testid": "copy-sql" }), button("Copy as Python", () => copy(page.code, panel.say), { "data-testid": "copy-code" })), statement);
  const sides = h("span", { class: "jammi-turns" });
  let page = { columns: [], rows: [], numbers: [], left: 0, wide: 0, offset: 0, further: false };
  let known = "";                                                       // the filters that the profiles show
  let at = [0, 0], back = null;                                        // the cell that Tab comes to, and the one whose value is open

  const load = (change = {}, focus = null) => {
    Object.assign(asked, change);
    return line.ask("page", asked).then((next) => { draw(next); if (focus) go(...focus); }).catch(panel.fail);
  };
  const cellAt = (r, c) => body.rows[r]?.cells[c];
  const go = (r, c) => {
    const row = Math.max(0, Math.min(r, page.rows.length - 1)), column = Math.max(0, Math.min(c, page.columns.length));
    cellAt(...at)?.setAttribute("tabindex", "-1");
    at = [row, column];
    cellAt(row, column)?.setAttribute("tabindex", "0");
    cellAt(row, column)?.focus();
  };
  const pick = (r, more) => {
    const number = String(page.numbers[r]), kept = model.get("selection");
    choose(model, more ? (kept.includes(number) ? kept.filter((n) => n !== number) : [...kept, number]) : kept.length === 1 && kept[0] === number ? [] : [number]);
  };
  const open = (r, c) => line.ask("value", { row: page.numbers[r] - 1, column: page.columns[c - 1].at }).then((value) => {
    back = [r, c];
    whole.replaceChildren(h("div", { class: "jammi-dim" }, h("b", {}, value.name), ` of row ${grouped(value.number)} `, value.cut ? `, ${value.cut} ` : "", value.tie ? button("Copy value with tie", () => copy(value.tie, panel.say), { class: "jammi-link", "data-testid": "copy-tie", title: "For Markdown: jammi-lab check-text compares it with the table, and --update writes its newest value" }) : "", value.tie ? " · " : "", button("Close", shut, { class: "jammi-link", "data-testid": "close-whole" })),
      h("pre", { tabindex: 0 }, value.lines.join("\n")));
    whole.hidden = false;
    whole.querySelector("pre").focus({ preventScroll: false });
  }).catch(panel.fail);
  const shut = () => { whole.hidden = true; if (back) go(...back); back = null; };

  function keys(event) {
    if (event.key === "Escape" && !whole.hidden) { shut(); return; }
    if (event.target.closest("tbody") !== body) return;
    const [r, c] = at;
    const last = page.rows.length - 1;
    if (event.key === "ArrowRight") go(r, c + 1);
    else if (event.key === "ArrowLeft") go(r, c - 1);
    else if (event.key === "ArrowDown" && r < last) go(r + 1, c);
    else if (event.key === "ArrowUp" && r > 0) go(r - 1, c);
    else if ((event.key === "ArrowDown" || event.key === "PageDown") && page.further) load({ offset: asked.offset + PAGE }, [0, c]);
    else if ((event.key === "ArrowUp" || event.key === "PageUp") && asked.offset) load({ offset: Math.max(0, asked.offset - PAGE) }, [event.key === "ArrowUp" ? PAGE - 1 : 0, c]);
    else if (event.key === "Home") go(event.ctrlKey ? 0 : r, 0);
    else if (event.key === "End") go(event.ctrlKey ? last : r, page.columns.length);
    else if (event.key === " ") pick(r, true);
    else if (event.key === "Enter") { if (c) open(r, c); else pick(r, false); }
    else return;
    event.preventDefault();
  }

  function heads() {
    const on = page.sorted;
    head.replaceChildren(h("tr", { "aria-rowindex": 1 }, h("th", { scope: "col", "aria-label": "row" }), page.columns.map((column) => {
      const is = on === column.at, way = is ? (page.descending ? "descending" : "ascending") : "none";
      const next = !is ? { column: column.at, descending: false } : page.descending ? { column: null, descending: false } : { column: column.at, descending: true };
      const name = h("span", { class: "jammi-cut", title: column.name }, column.name);
      const word = h("button", { type: "button", class: "jammi-sort", "data-testid": `sort-${column.at}`, title: column.name }, name, h("span", { "aria-hidden": "true" }, is ? (page.descending ? " ▾" : " ▴") : ""));
      return h("th", { scope: "col", class: column.number ? "jammi-number" : "", "aria-sort": way, "aria-colindex": column.at + 2, onclick: () => load({ ...next, offset: 0 }) }, word, h("div", { class: "jammi-dim jammi-cut", title: column.type }, column.type));
    })));
  }

  function value(cell) {
    if (cell === null) return h("span", { class: "jammi-null" }, "NULL");
    if (typeof cell === "string") return cell;
    return h("span", { class: cell.quiet ? "jammi-quiet" : "", title: cell.whole }, cell.text);
  }

  function entry(row, r) {
    const number = page.numbers[r];
    const cells = row.map((cell, i) => h("td", { role: "gridcell", tabindex: -1, class: page.columns[i].number ? "jammi-number" : "", "aria-colindex": page.columns[i].at + 2, "data-testid": `cell-${r}-${page.columns[i].at}`,
      onclick: () => go(r, i + 1), ondblclick: () => { getSelection().removeAllRanges(); open(r, i + 1); } }, value(cell)));
    return h("tr", { "data-number": number, "aria-rowindex": page.offset + r + 2 },
      h("th", { scope: "row", tabindex: -1, class: "jammi-number", "data-testid": `row-${number}`, title: "Select this row", onclick: (event) => { go(r, 0); pick(r, event.ctrlKey || event.metaKey || event.shiftKey); } }, grouped(number)), cells);
  }

  function draw(next) {
    const other = page.left !== next.left || !page.wide;
    page = next;
    if (other) profile();
    Object.assign(asked, { column: next.sorted, descending: next.descending, offset: next.offset, left: next.left });
    const held = grid.contains(grid.getRootNode().activeElement);
    panel.say("");
    told(next.badge);
    filters(next);
    heads();
    body.replaceChildren(...next.rows.map(entry));
    grid.setAttribute("aria-colcount", next.wide + 1);
    at = [0, 0];
    if (!whole.hidden) { whole.hidden = true; back = null; }
    cellAt(0, 0)?.setAttribute("tabindex", "0");
    if (held && !grid.contains(grid.getRootNode().activeElement)) (head.querySelector("[aria-sort=ascending] button, [aria-sort=descending] button") || cellAt(0, 0) || grid).focus?.();
    bounds.textContent = next.said;
    foot.replaceChildren(...(next.offset || next.further ? [button("First", () => load({ offset: 0 }), { "data-testid": "first", disabled: !next.offset }), button("Previous", () => load({ offset: Math.max(0, next.offset - PAGE) }), { "data-testid": "back", disabled: !next.offset }),
      button("Next", () => load({ offset: next.offset + PAGE }), { "data-testid": "further", disabled: !next.further })] : []), h("span", { class: "jammi-dim", role: "status", "data-testid": "counted" }, next.counted));
    const shown = next.columns.length, to = next.left + shown;
    sides.replaceChildren(...(next.wide > shown ? [button("◂", () => load({ left: Math.max(0, next.left - WIDE) }), { "aria-label": "Previous columns", "data-testid": "columns-before", disabled: !next.left }),
      h("span", { class: "jammi-dim", "data-testid": "columns" }, `columns ${grouped(next.left + 1)} to ${grouped(to)} of ${grouped(next.wide)}`), button("▸", () => load({ left: to }), { "aria-label": "Next columns", "data-testid": "columns-further", disabled: to >= next.wide })] : []));
    ticked();
  }

  function profile() {                                                  // computed when it is looked at, all shown columns in one pass
    if (profiles.hidden) return;
    const card = (name, ...parts) => h("figure", { class: "jammi-profile", "data-testid": `profile-${name}` }, ...parts);
    if (profiles.dataset.left !== String(page.left)) profiles.replaceChildren(...page.columns.map(({ name }) => card(name, h("b", {}, name), " …")));
    profiles.dataset.left = page.left;
    line.ask("profile", { left: page.left }).then(({ profiles: found }) => redrawn(profiles, () => {
      const [first] = found, part = first && first.sampled < first.rows;
      profiles.replaceChildren(part ? h("div", { class: "jammi-dim jammi-row", "data-testid": "sample" }, `Distributions and distinct values are estimates from a random sample of ${grouped(first.sampled)} of ${grouped(first.rows)} rows. NULLs, lowest and highest values are exact.`) : "",
        ...found.map((each) => card(each.name, drawn(each))));
    }, () => profiled)).catch((lines) => profiles.replaceChildren(h("div", { class: "jammi-dim" }, [lines].flat().join(" "))));
  }

  function filtered(found, change) {
    line.ask("filter", { column: found.at, ...change }).catch(panel.fail);
  }

  function drawn(found) {
    const about = found.sampled < found.rows ? "about " : "";
    const share = (n) => `${(100 * n / Math.max(1, found.rows)).toFixed(n && n < found.rows / 100 ? 1 : 0)} %`;
    const most = Math.max(1, ...found.bins, ...found.values.map(([, n]) => n));
    const rows = (n, i) => `${found.matching ? `${grouped(found.matching[i])} of ` : ""}${about}${grouped(n)} rows`;
    const chosen = found.chosen.flatMap((is, i) => (is ? [i] : []));
    const toggled = (i) => filtered(found, { values: chosen.includes(i) ? chosen.filter((c) => c !== i) : [...chosen, i], null: found.null });
    const chart = found.bins.length ? histogram(found, most, rows) : found.values.map(([cell, n], i) => h("button", { type: "button", class: "jammi-share", title: `Show rows with ${cell.whole ?? cell.text ?? cell}: ${rows(n, i)}`, "aria-pressed": String(chosen.includes(i)), "data-testid": `value-${found.name}-${i}`, onclick: () => toggled(i) },
      h("span", { class: "jammi-cut" }, value(cell)), h("i", { "aria-hidden": "true" }, found.matching ? h("i", { class: "jammi-all", style: `width: ${(100 * n / most).toFixed(1)}%` }) : "", h("i", { style: `width: ${(100 * (found.matching ? found.matching[i] : n) / most).toFixed(1)}%` })), h("span", { class: "jammi-dim jammi-number" }, share(n))));
    const nulls = found.nulls ? h("button", { type: "button", class: "jammi-link", "aria-pressed": String(found.null), title: "Show rows with NULL", "data-testid": `null-${found.name}`, onclick: () => filtered(found, { values: chosen, null: !found.null }) }, `${grouped(found.nulls)} NULL (${share(found.nulls)})`) : "no NULL";
    return [h("figcaption", {}, h("b", { class: "jammi-cut", title: found.name }, found.name)), ...[chart].flat(), h("div", { class: "jammi-dim" }, `${about}${grouped(found.distinct)} distinct · `, nulls)];
  }

  function histogram(found, most, rows) {                               // a click chooses a bar, dragging or Shift several
    let from = null;
    const chosen = (i) => found.range && i >= found.range[0] && i <= found.range[1];
    const choose = (first, last) => filtered(found, found.range && first === last && found.range[0] === first && found.range[1] === first ? {} : { bins: [first, last] });
    const height = (n) => (n ? Math.max(1, 40 * n / most) : 0);
    const bar = (n, i, kind) => s("rect", { class: kind, x: i * 8, y: 40 - height(n), width: 7, height: height(n) });
    const bars = found.bins.map((n, i) => s("g", { role: "button", tabindex: i ? -1 : 0, "aria-pressed": String(Boolean(chosen(i))), "aria-label": `${found.edges[i]} to ${found.edges[i + 1]}: ${rows(n, i)}`, "data-testid": `bar-${found.name}-${i}`,
      onpointerdown: (event) => { from = i; event.preventDefault(); }, onpointerup: (event) => { if (from !== null) choose(event.shiftKey && found.range ? found.range[0] : from, i); from = null; },
      onkeydown: (event) => {
        const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
        if (step) { bars[i + step]?.focus(); event.stopPropagation(); event.preventDefault(); }
        else if (event.key === "Enter" || event.key === " ") { choose(event.shiftKey && found.range ? found.range[0] : i, i); event.preventDefault(); }
      } }, s("title", {}, `${found.edges[i]} – ${found.edges[i + 1]}: ${rows(n, i)}`), s("rect", { class: "jammi-reach", x: i * 8, y: 0, width: 8, height: 40 }), bar(n, i, found.matching ? "jammi-bar jammi-all" : "jammi-bar"), found.matching ? bar(found.matching[i], i, "jammi-bar") : ""));
    return [s("svg", { class: "jammi-histogram", viewBox: `0 0 ${found.bins.length * 8} 40`, preserveAspectRatio: "none", role: "group", "aria-label": `Histogram of ${found.name}, from ${found.lowest} to ${found.highest}` }, bars),
      h("div", { class: "jammi-ends jammi-dim" }, h("span", {}, found.lowest), h("span", {}, found.highest))];
  }

  function filters(next) {
    chips.hidden = !next.filters.length;
    redrawn(chips, () => chips.replaceChildren(h("span", { class: "jammi-dim" }, "Only rows with "), ...next.filters.map(([at, name, text]) => h("button", { type: "button", class: "jammi-button jammi-chip", title: "Remove this filter", "data-testid": `filter-${name}`, onclick: () => filtered({ at }, {}) }, h("b", {}, name), ` ${text} `, h("span", { "aria-hidden": "true" }, "×")))), () => filter.input);
    query.hidden = !next.sql;
    statement.textContent = seen(next.sql);
  }

  function told(lines) {
    badge.replaceChildren(...lines.map((text) => h("div", {}, text)));
  }

  function ticked() {
    const kept = new Set(model.get("selection"));
    for (const row of body.rows) {
      row.setAttribute("aria-selected", String(kept.has(row.dataset.number)));
      row.classList.toggle("jammi-picked", kept.has(row.dataset.number));
    }
  }

  panel.root.addEventListener("keydown", keys);
  panel.tools.append(filter.input, profiled, sides);
  panel.body.append(badge, profiles, chips, scroll, foot, bounds, whole, query);
  line.on("changed", ({ body: next }) => { draw(next); if (String(next.filters) !== known) { known = String(next.filters); profile(); } });
  line.on("badge", ({ body: next }) => told(next.badge));
  model.on("change:selection", ticked);
  line.ask("open").then(draw).catch(panel.fail);
  return () => { model.off("change:selection", ticked); filter.close(); line.close(); panel.close(); };
}

export default { render };
