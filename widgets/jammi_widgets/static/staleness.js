import { Line, button, checkRow, checked, choose, filterInput, frame, grouped, h, innerPlace, more, pill, progressLine, redrawn, table, term, unmarked } from "./kit.js";
import { explanation } from "./terms.js";

const COLUMNS = [["verdict", "verdict"], ["checks", "checks"], ["name", "table"], ["", "why"], ["age", "made"], ["rows", "rows"], ["size", "size"], ["cost", "took"], ["", ""]];
const RUN_COLUMNS = ["table", "outcome", "rows", "took", "error"];
const PAGE = 200, TICK = 1000;
const TITLES = { verdict: "Whether the table is up to date; the worst first", checks: "Results of the checks on its rows", age: "How long ago its newest version was computed", rows: "Rows of its newest version", size: "Bytes of its newest version", cost: "How long the rows of its newest version took to compute" };

/** An age in the largest unit that fits. */
function ago(seconds) {
  const [unit, length] = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]].find(([, length]) => seconds >= length) ?? ["s", 1];
  return `${Math.floor(seconds / length)} ${unit} ago`;
}

function render({ model, el, host }) {
  const line = new Line(model);
  const panel = frame(el, "staleness", "Staleness board", line);
  const filter = filterInput(model, "Filter by name, reason or verdict");
  const progress = progressLine(line);
  const inner = innerPlace(host, panel);
  const asked = { sort: "verdict", descending: false, group: "", offset: 0, limit: PAGE };
  const counts = h("span", { class: "jammi-counts", "data-testid": "counts" });
  const causes = h("div", { class: "jammi-causes", role: "group", "aria-label": "By cause" });
  const head = h("tr", {});
  const body = h("tbody", {});
  const foot = h("div", { class: "jammi-dim jammi-foot", "data-testid": "foot" });
  const out = h("div", { class: "jammi-out", role: "status", "data-testid": "outcome" });
  let page = { rows: [], counts: {}, causes: [], found: 0, total: 0, offset: 0 };

  const again = () => line.ask("rows", asked).then(draw).catch(panel.fail);
  const load = () => { panel.say(""); return again(); };
  const chosen = () => new Set(model.get("selection"));
  const toggle = (name, on) => {
    const kept = chosen();
    if (on) kept.add(name); else kept.delete(name);
    choose(model, [...kept]);
  };
  const act = (action, names) => {
    if (!names.length) { panel.say("No table is selected: tick at least one."); return; }
    line.ask("act", { action, names }).then(({ begun }) => { if (begun) { panel.say(""); out.replaceChildren(); } else panel.say("Another action is running; stop it or wait."); }).catch(panel.fail);
  };

  const all = h("input", { type: "checkbox", "aria-label": "Select all that are not fresh, or none", "data-testid": "choose-all",
    onchange: () => { if (all.checked) line.ask("choose-all").catch(panel.fail); else choose(model, []); } });
  function heads() {
    const order = `${asked.sort} ${asked.descending} ${page.checks}`, held = head.contains(head.getRootNode().activeElement);
    if (head.dataset.order === order) return;
    head.dataset.order = order;
    head.replaceChildren(h("th", { scope: "col" }, all), ...COLUMNS.filter(([key]) => key !== "checks" || page.checks).map(([key, word]) => {
      if (!key) return h("th", { scope: "col", class: "jammi-unsorted" }, word);
      const on = asked.sort === key;
      const sort = () => { asked.descending = on && !asked.descending; asked.sort = key; asked.offset = 0; load(); };
      return h("th", { class: ["rows", "size", "cost"].includes(key) ? "jammi-wide jammi-number" : key === "age" ? "jammi-wide" : "", scope: "col", "aria-sort": on ? (asked.descending ? "descending" : "ascending") : "none", onclick: sort },
        h("button", { type: "button", class: "jammi-sort", title: TITLES[key], "data-testid": `sort-${key}` }, word, h("span", { "aria-hidden": "true" }, on ? (asked.descending ? " ▾" : " ▴") : "")));
    }));
    if (held) head.querySelector(`[data-testid="sort-${asked.sort}"]`)?.focus();
  }

  function entry(row) {
    const tick = h("input", { type: "checkbox", "aria-label": `Select ${row.name}`, "data-testid": `choose-${row.name}`, onchange: (event) => toggle(row.name, event.target.checked) });
    tick.checked = chosen().has(row.name);
    const pick = (event) => { if (!event.target.closest("button, input")) choose(model, [row.name]); };
    const made = row.seconds !== null, age = made ? ago(row.seconds) : "never", born = made ? Date.now() - 1000 * row.seconds : null;
    const brief = ["", row.rows && `${row.rows} ${row.rows === "1" ? "row" : "rows"}`, row.size, row.index, row.cost && `took ${row.cost}`].filter((said, at) => said || !at).join(" · ");   // on a card, where there are no columns
    const cells = [h("td", {}, tick), h("td", {}, pill(row.verdict, { "data-testid": `verdict-${row.name}` })),
      page.checks ? h("td", { class: "jammi-of-checks" }, row.checks ? h("button", { type: "button", class: "jammi-count", "aria-label": `Checks of ${row.name}: ${row.checks.text}`, title: `${explanation(row.checks.status)}. Click to show the rules and the failing rows`, "data-testid": `checks-${row.name}`, onclick: () => showChecks(row.name) }, checked(row.checks)) : "") : "",
      h("td", { class: "jammi-strong" }, row.name, row.version === null ? "" : row.version === 1 ? h("span", { class: "jammi-dim" }, " v1") : [" ", button(`v${row.version}`, () => inner.show(`What changed in ${row.name}`, `jl.widgets.DiffView(ws, ${JSON.stringify(row.name)})`, () => line.ask("difference", { node: row.name })), { class: "jammi-link", title: "What changed from the version before", "data-testid": `difference-${row.name}` })], row.held ? h("span", { class: "jammi-held", title: `${row.held}. A recompute of everything skips it`, "data-testid": `held-${row.name}` }, "‖ held") : ""),
      h("td", { class: "jammi-why" }, row.reasons.map((r) => h("div", { class: "jammi-one-line", title: r }, r)), h("div", { class: "jammi-brief" }, h("span", { "data-born": born }, age), brief)), h("td", { class: "jammi-wide jammi-age", "data-born": born }, age),
      h("td", { class: "jammi-number jammi-wide" }, row.rows), h("td", { class: "jammi-number jammi-wide" }, row.size, row.index ? h("div", { class: "jammi-dim", title: "Search index: how its vectors are stored, and the share of the rows in it" }, row.index) : ""), h("td", { class: "jammi-number jammi-wide" }, row.cost),
      h("td", { class: "jammi-act" }, button("Recompute", () => act("recompute", [row.name]), { "data-testid": `recompute-${row.name}`, "aria-label": `Recompute ${row.name}`, disabled: unmarked(row.verdict) === "fresh" }))];
    const move = (event) => {
      if (event.target !== event.currentTarget) return;
      if (event.key === "Enter" || event.key === " ") { event.preventDefault(); choose(model, [row.name]); }
      const next = event.key === "ArrowDown" ? event.currentTarget.nextElementSibling : event.key === "ArrowUp" ? event.currentTarget.previousElementSibling : null;
      if (next) { event.preventDefault(); next.focus(); }
    };
    return h("tr", { "data-testid": `row-${row.name}`, "data-name": row.name, tabindex: 0, "aria-selected": tick.checked, onclick: pick, onkeydown: move }, cells.filter(Boolean));
  }

  const draw = (next) => redrawn(panel.root, () => drawn(next), () => body.rows[0] ?? filter.input);
  function drawn(next) {
    page = next;
    Object.assign(asked, { sort: next.sort || "verdict", descending: next.descending, group: next.group, offset: next.offset });
    heads();
    const at = body.getRootNode().activeElement, kept = body.contains(at) ? at.closest("tr")?.dataset.name : null;
    counts.replaceChildren(...Object.entries(next.counts).map(([word, n]) => h("button", { type: "button", class: "jammi-count", "aria-pressed": filter.input.value.trim().toLowerCase() === word, "data-testid": `count-${word}`,
      onclick: () => { filter.input.value = filter.input.value === word ? "" : word; filter.input.dispatchEvent(new Event("input")); } }, `${grouped(n)} `, pill(word))));
    causes.replaceChildren(...next.causes.map(([cause, n]) => h("button", { type: "button", class: "jammi-cause", "aria-pressed": asked.group === cause, "data-testid": `cause-${cause}`,
      onclick: () => { asked.group = asked.group === cause ? "" : cause; asked.offset = 0; load(); } }, `${grouped(n)} because ${cause}`)));
    body.replaceChildren(...next.rows.map(entry));
    if (kept) [...body.rows].find((r) => r.dataset.name === kept)?.focus();
    const to = next.offset + next.rows.length;
    const turn = (by) => { asked.offset = Math.max(0, asked.offset + by); load(); };
    foot.replaceChildren(...(!next.total ? ["No recipes yet: %%jammi -m NAME creates one."] : !next.found ? ["No matches."] : [
      `${grouped(next.offset + 1)} to ${grouped(to)} of ${grouped(next.found)}${next.found < next.total ? `, of ${grouped(next.total)} in total` : ""} `,
      next.offset ? button("Previous", () => turn(-PAGE), { "data-testid": "back" }) : "", to < next.found ? button("Next", () => turn(PAGE), { "data-testid": "further" }) : ""]));
    ticked();
  }

  function ticked() {
    const kept = chosen();
    for (const row of body.rows) {
      const on = kept.has(row.dataset.name);
      row.querySelector("input").checked = on;
      row.setAttribute("aria-selected", String(on));
      row.classList.toggle("jammi-picked", on);
    }
    const n = kept.size;
    all.checked = n > 0;
    all.indeterminate = n > 0 && page.rows.some((row) => unmarked(row.verdict) !== "fresh" && !kept.has(row.name));
    planOf.textContent = n ? `Plan for ${grouped(n)}` : "Plan";
    const open = Object.entries(page.counts).reduce((sum, [word, count]) => sum + (unmarked(word) === "fresh" ? 0 : count), 0);
    recompute.textContent = n ? `Recompute ${grouped(n)}` : open ? `Recompute ${grouped(open)} not fresh` : "Recompute";
    planOf.disabled = !n;
    recompute.disabled = !n && !open;
  }

  /** Scroll the list, not the page, until a row of it is seen: once it is there and laid out. */
  function reveal(name, frames = 300) {
    if (!name || !frames) return;
    const row = [...body.rows].find((each) => each.dataset.name === name), box = row?.closest(".jammi-scroll"), at = row?.getBoundingClientRect();
    if (!at?.height) { requestAnimationFrame(() => reveal(name, frames - 1)); return; }
    const seen = box.getBoundingClientRect(), top = seen.top + head.parentElement.offsetHeight;
    if (at.top < top || at.bottom > seen.bottom) box.scrollTop += (at.top + at.bottom - top - seen.bottom) / 2;
  }

  const shut = () => button("×", () => redrawn(panel.root, () => out.replaceChildren(), () => (planOf.disabled ? filter.input : planOf)), { class: "jammi-close", "aria-label": "Close", "data-testid": "close-outcome" });
  const showChecks = (name) => line.ask("details", { node: name }).then(({ checks }) => {
    panel.say("");
    out.replaceChildren(shut(), h("h4", {}, `Checks of ${name}`), ...checks.map(checkRow));
  }).catch(panel.fail);
  function runTable(steps) {
    const used = RUN_COLUMNS.map((name, at) => name !== "error" || steps.some((step) => step[at]));
    return h("div", { class: "jammi-scroll" }, table(RUN_COLUMNS.filter((_, at) => used[at]), steps.map((step) => step.map((text, at) => (at === 1 ? term(text) : text)).filter((_, at) => used[at])), { "data-testid": "run-steps" }));
  }
  function outcome({ body: done, action }) {
    progress.hide();
    if (action === "plan") {
      const said = ([action, steps]) => `${grouped(steps.length)} ${action === "blocked" ? "" : "to "}${action}`;
      const parts = done.plan.flatMap((part) => [done.plan.length > 1 ? h("h4", {}, said(part)) : "", table(["table", "why", "estimate"], part[1])]);
      out.replaceChildren(shut(), h("div", { "data-testid": "plan" }, ...(parts.length ? [h("b", {}, done.plan.map(said).join(", ")), h("p", { class: "jammi-dim" }, `${done.bounds}. Dry run; nothing was computed.`), h("div", { class: "jammi-plan" }, ...parts)] : ["Nothing to do: no selected table is known to be stale."]),
        done.left.length ? h("p", { class: "jammi-dim" }, `Skipped because their freshness cannot be decided: ${done.left.join(", ")}`) : ""));
    } else out.replaceChildren(shut(), ...(done.summary ? [h("b", { "data-testid": "run-summary" }, done.summary), runTable(done.steps)] : done.lines.map((text) => h("div", {}, text))), ...(done.deviations || []).map((text) => h("div", { class: "jammi-dim" }, `Changed meanwhile: ${text}`)));
  }

  const planOf = button("Plan", () => act("plan", model.get("selection")), { "data-testid": "plan-chosen" });
  const chosenOrOpen = () => (model.get("selection").length ? Promise.resolve() : line.ask("choose-all"));
  const recompute = button("Recompute", () => chosenOrOpen().then(() => act("recompute", model.get("selection"))).catch(panel.fail), { "data-testid": "recompute-chosen" });
  panel.tools.append(filter.input, planOf, recompute, more(button("Refresh", () => line.ask("refresh").then((next) => { panel.say(""); draw(next); }).catch(panel.fail), { "data-testid": "refresh" })), counts);
  panel.body.append(progress.box, out, causes, h("div", { class: "jammi-scroll jammi-tall" }, h("table", { class: "jammi-table jammi-board", role: "grid", "aria-label": "Recipes", "aria-multiselectable": true }, h("thead", {}, head), body)), foot, inner.box);

  const ticking = setInterval(() => { for (const cell of body.querySelectorAll("[data-born]")) { const said = ago((Date.now() - cell.dataset.born) / 1000); if (cell.textContent !== said) cell.textContent = said; } }, TICK);
  line.on("changed", ({ body: next }) => draw(next));
  line.on("reveal", ({ name }) => reveal(name));
  line.on("progress", ({ body: how }) => progress.show(how));
  line.on("done", outcome);
  line.on("failed", ({ lines }) => { progress.hide(); panel.fail(lines); again(); });
  line.on("stopped", () => { progress.hide(); panel.say("Stopped. Finished steps are kept; the rest is unchanged."); again(); });
  model.on("change:selection", ticked);
  heads();
  line.ask("rows", { ...asked, at_selection: true }).then((next) => { draw(next); reveal(next.reveal); }).catch(panel.fail);
  return () => { clearInterval(ticking); inner.close(); model.off("change:selection", ticked); filter.close(); line.close(); panel.close(); };
}

export default { render };
