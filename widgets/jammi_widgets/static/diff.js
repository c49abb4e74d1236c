import { Line, button, choose, filterInput, frame, grouped, h, more, redrawn } from "./kit.js";

const PAGE = 50;
const KEPT = 12; // characters of an equal beginning that stay before a difference
const PARTS = ["changed", "added", "removed"];
const PART_MARKS = { changed: "≠", added: "+", removed: "−" };

function render({ model, el }) {
  const line = new Line(model);
  const panel = frame(el, "diff", "Differences between versions", line);
  const filter = filterInput(model, "Find a text in the listed rows");
  const versions = h("span", { class: "jammi-turns" });
  const parts = h("span", { class: "jammi-turns", role: "group", "aria-label": "Rows shown" });
  const causes = h("div", { class: "jammi-badge", "data-testid": "causes" });
  const columns = h("div", { class: "jammi-meters", role: "group", "aria-label": "Columns that differ", "data-testid": "columns" });
  const notes = h("div", { class: "jammi-dim", "data-testid": "notes" });
  const grid = h("table", { class: "jammi-table jammi-grid", "data-testid": "grid" });
  const foot = h("div", { class: "jammi-foot jammi-turns" });
  const bounds = h("div", { class: "jammi-dim", role: "status", "data-testid": "bounds" });
  let summary = null, part = "changed", column = null, offset = 0;

  const load = (change = {}) => {
    if ("part" in change) part = change.part;
    if ("column" in change) column = change.column;
    offset = change.offset || 0;
    mark();
    if (!summary.parts[part]) { grid.replaceChildren(); foot.replaceChildren(); bounds.textContent = "No row differs."; return Promise.resolve(); }
    return line.ask("diff-rows", { part, column, offset, limit: PAGE }).then(rows).catch(panel.fail);
  };
  const compare = (old, next) => line.ask("versions", { old, new: next }).then(draw).catch((lines) => { panel.fail(lines); draw(summary); });

  function chooser(which, label) {
    const picked = summary[which];
    const entries = summary.versions.map(([v, time, rejected]) => h("option", { value: v, selected: v === picked }, [v, time, rejected ? "rejected" : ""].filter(Boolean).join(" · ")));
    return h("select", { class: "jammi-button", "aria-label": label, "data-testid": `version-${which}`, onchange: (event) => {
      const value = Number(event.target.value);
      if (which === "old") compare(value, summary.new); else compare(summary.old, value);
    } }, entries);
  }

  function draw(next) {
    summary = next;
    panel.say("");
    if (!summary.parts[part]) part = PARTS.find((each) => summary.parts[each]) || "changed";
    column = null;
    redrawn(versions, () => versions.replaceChildren(h("b", {}, summary.name), " version ", chooser("old", "Former version"), " → ", chooser("new", "Later version")), () => filter.input);
    parts.replaceChildren(...PARTS.map((each) => button(`${PART_MARKS[each]} ${grouped(summary.parts[each])} ${each}`, () => load({ part: each, column: null }), { "data-testid": `part-${each}`, disabled: !summary.parts[each] })));
    causes.replaceChildren(...summary.causes.map((text) => h("div", {}, text)));
    notes.replaceChildren(...summary.lines.map((text) => h("div", {}, text)));
    columns.replaceChildren(...summary.columns.map((each, at) => {
      const share = Math.max(0.01, each.rows / Math.max(1, summary.total));
      return h("button", { type: "button", class: "jammi-meter", "data-testid": `column-${each.name}`, title: `${each.type}. Show only the rows in which ${each.name} differs.`, onclick: () => load({ part: "changed", column: column === at ? null : at }) },
        h("span", { class: "jammi-cut" }, each.name), h("i", { "aria-hidden": "true" }, h("i", { style: `width: ${(100 * share).toFixed(1)}%` })), h("span", { class: "jammi-number" }, `${grouped(each.rows)} of ${grouped(summary.total)} ${summary.total === 1 ? "row" : "rows"}`));
    }));
    return load();
  }

  function mark() {
    PARTS.forEach((each, at) => parts.children[at].setAttribute("aria-pressed", String(each === part && summary.parts[each] > 0)));
    [...columns.children].forEach((each, at) => each.setAttribute("aria-pressed", String(at === column)));
  }

  function value(cell) {
    if (cell === null) return h("span", { class: "jammi-null" }, "NULL");
    if (typeof cell === "string") return cell;
    return h("span", { class: cell.quiet ? "jammi-quiet" : "", title: cell.whole }, cell.text);
  }

  /** A long value that begins as another one does, from shortly before their difference. */
  function fromDifference(cell, other) {
    const [one, two] = [cell, other].map((each) => (typeof each === "string" ? each : each?.text ?? ""));
    let same = 0;
    while (same < one.length && one[same] === two[same]) same += 1;
    if (same < 2 * KEPT || same === one.length) return cell;
    const space = one.indexOf(" ", same - KEPT);
    let start = space >= 0 && space < same ? space + 1 : same - KEPT;
    if (one.charCodeAt(start) >= 0xdc00 && one.charCodeAt(start) <= 0xdfff) start -= 1; // not within a pair
    return { quiet: cell.quiet, whole: cell.whole ?? one, text: "…" + one.slice(start) };
  }

  function entry(row, page) {
    const cells = row.values.map((cell, at) => {
      if (!row.old || !row.changed[at]) return h("td", {}, value(cell));
      return h("td", { class: "jammi-changed", "data-testid": `cell-${row.key}-${page.columns[at]}` }, h("del", {}, value(fromDifference(row.old[at], cell))), h("span", { class: "jammi-dim" }, " → "), h("ins", {}, value(fromDifference(cell, row.old[at]))));
    });
    const pick = (event) => {
      const kept = model.get("selection");
      if (event.ctrlKey || event.metaKey || event.shiftKey) choose(model, kept.includes(row.key) ? kept.filter((key) => key !== row.key) : [...kept, row.key]);
      else choose(model, kept.length === 1 && kept[0] === row.key ? [] : [row.key]);
    };
    const keys = (event) => {
      if (event.key === "Enter" || event.key === " ") pick(event);
      else if (event.key === "ArrowDown") event.currentTarget.nextElementSibling?.focus();
      else if (event.key === "ArrowUp") event.currentTarget.previousElementSibling?.focus();
      else return;
      event.preventDefault();
    };
    return h("tr", { class: `jammi-is-${page.part}`, tabindex: -1, "data-key": row.key, "data-testid": `row-${row.key}`, onclick: pick, onkeydown: keys }, row.labels.map((cell, at) => (at < page.keys ? h("th", { scope: "row" }, value(cell)) : h("td", {}, value(cell)))), cells);
  }

  function rows(page) {
    const head = h("tr", {}, [...page.labels, ...page.columns].map((name) => h("th", { scope: "col" }, h("span", { class: "jammi-cut", title: name }, name))));
    redrawn(grid, () => grid.replaceChildren(h("caption", { class: "jammi-dim" }, `Rows ${page.part}${column === null ? "" : ` in ${page.columns[column]}`}`), h("thead", {}, head), h("tbody", {}, page.rows.map((row) => entry(row, page)))), () => filter.input);
    grid.tBodies[0].rows[0]?.setAttribute("tabindex", "0");
    const last = page.offset + page.rows.length;
    foot.replaceChildren(...(page.offset || page.further ? [button("Previous", () => load({ offset: Math.max(0, offset - PAGE) }), { "data-testid": "back", disabled: !page.offset }), button("Next", () => load({ offset: offset + PAGE }), { "data-testid": "further", disabled: !page.further })] : []),
      h("span", { class: "jammi-dim", role: "status", "data-testid": "counted" }, page.rows.length ? `${grouped(page.offset + 1)} to ${grouped(last)} of ${grouped(page.matches)}` : "No matches."));
    bounds.textContent = page.limit_note;
    ticked();
  }

  function ticked() {
    const kept = new Set(model.get("selection"));
    for (const row of grid.tBodies[0]?.rows || []) {
      row.setAttribute("aria-selected", String(kept.has(row.dataset.key)));
      row.classList.toggle("jammi-picked", kept.has(row.dataset.key));
    }
  }

  grid.addEventListener("focusin", (event) => {                        // one row is a stop of Tab, where one was last; arrows go to the others
    const row = event.target.closest("tbody tr");
    for (const each of grid.tBodies[0].rows) each.setAttribute("tabindex", each === row ? "0" : "-1");
  });
  panel.tools.append(versions, filter.input, more(button("Refresh", () => line.ask("refresh").then(draw).catch(panel.fail), { "data-testid": "refresh", title: "Compare the newest version with the one before it" })));
  panel.body.append(parts, causes, columns, h("div", { class: "jammi-scroll jammi-tall" }, grid), foot, bounds, notes);
  line.on("changed", ({ body }) => draw(body));
  line.on("filtered", () => { if (summary) load({}); });
  model.on("change:selection", ticked);
  line.ask("open").then(draw).catch(panel.fail);
  return () => { model.off("change:selection", ticked); filter.close(); line.close(); panel.close(); };
}

export default { render };
