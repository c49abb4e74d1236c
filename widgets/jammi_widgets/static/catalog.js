import { Line, button, choose, copy, filterInput, frame, grouped, h, more, peek, pill } from "./kit.js";
import { explanation } from "./terms.js";

function render({ model, el }) {
  const line = new Line(model);
  const panel = frame(el, "catalog", "Catalog", line);
  const filter = filterInput(model, "Filter by name or verdict");
  const jumps = h("span", { class: "jammi-counts", role: "group", "aria-label": "Parts of the catalog" });
  const tree = h("ul", { class: "jammi-tree", role: "tree", "aria-label": "Catalog" });
  const shut = new Set(), opened = new Set(), looked = new Map();      // by the names on the way, so that a new look leaves open what is open
  let coming = [];                                                     // what is asked for below open parts

  const taken = (part) => { choose(model, [part.insert]); copy(part.insert, panel.say); };

  function item(part, level, way) {
    const path = `${way}\n${part.name}`;
    const below = h("ul", { role: "group", hidden: true });
    const [saw, shown] = looked.get(path) ?? [];
    const rows = saw === part.said ? shown : h("div", { class: "jammi-scroll", hidden: true });    // of another version the rows are others
    let open = false, loaded = false;
    const mark = h("span", { class: "jammi-mark", "aria-hidden": "true" }, part.opens ? "▸" : "");
    const turn = () => {
      if (!part.opens) return;
      open = !open;
      if (open) opened.add(path); else opened.delete(path);
      below.hidden = !open;
      mark.textContent = open ? "▾" : "▸";
      node.setAttribute("aria-expanded", String(open));
      if (open && !loaded) {
        loaded = true;
        const asked = line.ask("children", { part: part.id }).then(({ parts }) => below.replaceChildren(...parts.map((p) => item(p, level + 1, path)))).catch((lines) => { loaded = false; panel.fail(lines); });
        coming.push(asked);
      }
    };
    const preview = () => {
      if (!rows.hidden) { rows.hidden = true; looked.delete(path); return; }
      looked.set(path, [part.said, rows]);
      line.ask("act", { action: "preview", names: [part.id] }).then(({ begun }) => { if (begun) waiting.set(part.id, rows); else panel.say("Another action is running; wait a moment."); }).catch(panel.fail);
    };
    const drag = (event) => { event.dataTransfer.setData("text/plain", part.insert); event.dataTransfer.effectAllowed = "copy"; };
    const keys = (event) => {
      if (event.target !== event.currentTarget) return;
      const all = [...tree.querySelectorAll("[role=treeitem]")].filter((x) => x.offsetParent !== null), at = all.indexOf(event.currentTarget);
      if (event.key === "ArrowDown") all[at + 1]?.focus();
      else if (event.key === "ArrowUp") all[at - 1]?.focus();
      else if (event.key === "Home" || event.key === "End") all.at(event.key === "Home" ? 0 : -1).focus();
      else if (event.key === "ArrowRight" && open) below.querySelector("[role=treeitem]")?.focus();
      else if (event.key === "ArrowLeft" && !open) node.parentElement.closest("[role=treeitem]")?.focus();
      else if (event.key === "ArrowRight" || event.key === "ArrowLeft") turn();
      else if (event.key === "Enter" && part.insert) taken(part);
      else return;
      event.preventDefault();
    };
    const label = h("span", { class: "jammi-entry", draggable: part.insert ? "true" : null, ondragstart: drag, title: part.insert ? `Drag into a cell, or click to copy: ${part.insert}` : part.name }, part.name);
    const node = h("li", { role: "treeitem", tabindex: -1, "aria-level": level, "aria-expanded": part.opens ? "false" : null, "data-testid": `catalog-item-${part.name}`, onkeydown: keys },
      h("div", { class: "jammi-row" }, h("span", { class: "jammi-turn", onclick: turn }, mark), h("span", { onclick: (event) => { event.stopPropagation(); if (part.insert) taken(part); else turn(); } }, label),
        part.verdict ? pill(part.verdict, { "data-testid": `verdict-${part.name}` }) : "", h("span", { class: "jammi-dim jammi-said-of", title: explanation(part.said.split(",")[0]) }, part.said),
        part.rows ? button("Preview", preview, { class: "jammi-link", "data-testid": `preview-${part.name}`, "aria-label": `Preview ${part.name}` }) : ""), rows, below);
    node.dataset.path = path;
    if (part.insert) { node.dataset.insert = part.insert; node.setAttribute("aria-selected", String(model.get("selection").includes(part.insert))); }
    if (opened.has(path)) turn();
    return node;
  }

  const waiting = new Map();
  function draw({ groups, filtered }) {
    const at = tree.getRootNode().activeElement, inside = tree.contains(at), held = inside ? at.closest("[role=treeitem]")?.dataset.path : null;
    const scrolled = tree.scrollTop, group = inside && !held ? at.dataset.testid : null;
    coming = [];
    tree.replaceChildren(...groups.filter((g) => g.count || ["Sources", "Result tables"].includes(g.name)).map((group) => {
      const inside = h("ul", { role: "group", hidden: shut.has(group.name) }, group.parts.map((p) => item(p, 2, group.name)));
      if (!group.parts.length) inside.append(h("li", { class: "jammi-dim" }, filtered ? "no matches" : "none yet"));
      const turn = () => { inside.hidden = !inside.hidden; head.setAttribute("aria-expanded", String(!inside.hidden)); if (inside.hidden) shut.add(group.name); else shut.delete(group.name); };
      const head = h("button", { type: "button", class: "jammi-sort", onclick: turn, title: explanation(group.name), "data-testid": `group-${group.name}`, "aria-expanded": !shut.has(group.name) }, group.name);
      return h("li", { class: "jammi-group", role: "none" }, h("div", {}, head, h("span", { class: "jammi-dim" }, ` ${filtered ? `${grouped(group.found)} of ` : ""}${grouped(group.count)}`)), inside);
    }));
    const parts = groups.filter((g) => g.count);
    jumps.replaceChildren(...(parts.length < 2 ? [] : parts.map((group) => {
      const jump = () => { const head = tree.querySelector(`[data-testid="group-${group.name}"]`); tree.scrollTop += head.getBoundingClientRect().top - tree.getBoundingClientRect().top; head.focus({ preventScroll: true }); };
      return h("button", { type: "button", class: "jammi-count", onclick: jump, title: `${explanation(group.name)}. Click to go there`, "data-testid": `jump-${group.name}` }, `${grouped(group.count)} ${group.count === 1 ? group.name.toLowerCase().replace(/s$/, "") : group.name.toLowerCase()}`);
    })));
    const items = [...tree.querySelectorAll("[role=treeitem]")];
    items[0]?.setAttribute("tabindex", "0");
    const there = () => [...tree.querySelectorAll("[role=treeitem], [data-testid]")].find((e) => (held ? e.dataset.path === held : e.dataset.testid === group));
    const back = (last) => {
      if (tree.scrollTop < scrolled) tree.scrollTop = scrolled;
      if (inside && !tree.contains(tree.getRootNode().activeElement)) (there() ?? (last ? filter.input : null))?.focus({ preventScroll: true });
      ticked();
    };
    const mine = coming;
    back(!mine.length);
    if (mine.length) (async () => { for (let i = 0; i < mine.length; i++) await mine[i]; if (mine === coming) back(true); })();   // below what was open is more, and below that
  }
  function ticked() {
    const kept = model.get("selection");
    for (const item of tree.querySelectorAll("[data-insert]")) {
      const on = kept.includes(item.dataset.insert);
      item.setAttribute("aria-selected", String(on));
      item.firstChild.classList.toggle("jammi-picked", on);
    }
  }
  tree.addEventListener("focusin", (event) => {                        // Tab comes back to where one was
    const here = event.target.closest("[role=treeitem]");
    if (!here) return;
    tree.querySelectorAll("[role=treeitem][tabindex='0']").forEach((x) => x.setAttribute("tabindex", "-1"));
    here.setAttribute("tabindex", "0");
  });

  line.on("changed", ({ body }) => draw(body));
  model.on("change:selection", ticked);
  line.on("done", ({ body }) => {
    const rows = waiting.get(body.id);
    waiting.delete(body.id);
    panel.say("");
    rows?.replaceChildren(peek(body.columns, body.rows, { "data-testid": "preview" }));
    if (rows) rows.hidden = false;
  });
  line.on("failed", ({ lines }) => { waiting.clear(); panel.fail(lines); });
  panel.tools.append(filter.input, more(button("Refresh", () => line.ask("refresh").then((next) => { panel.say(""); draw(next); }).catch(panel.fail), { "data-testid": "refresh" })), jumps);
  panel.body.append(tree);
  line.ask("open").then(draw).catch(panel.fail);
  return () => { model.off("change:selection", ticked); filter.close(); line.close(); panel.close(); };
}

export default { render };
