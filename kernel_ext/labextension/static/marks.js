// Marks of cells whose shown tables, or numbers in prose, no longer hold, the command that runs those cells, and the status item. What is shown is known from the stamps in the
// metadata of the outputs; the server compares them with the workspace, so no kernel is needed. Nothing runs unless a person runs it.
const NAME = "jammi-lab-sql";
const COMMAND = "jammi:run-stale-cells";
const WORKBENCH = "jammi:open-workbench";
const COLLECT_MS = 100;
const RECONNECT_MS = [1000, 2000, 5000, 15000, 60000];
const STYLE = `
.jammi-cell-mark { position: absolute; z-index: 3; left: 0; top: 0; bottom: 0; width: 14px; border-left: 4px solid var(--jammi-mark); cursor: help; --jammi-mark: #bf4310; --jammi-on-mark: #fff; }
.jammi-cell-mark::before { content: "≠"; position: absolute; left: -4px; top: 5px; width: 14px; height: 16px; border-radius: 0 3px 3px 0; background: var(--jammi-mark); color: var(--jammi-on-mark);
  font: bold 12px/16px var(--jp-ui-font-family); text-align: center; }
[data-jp-theme-light="false"] .jammi-cell-mark { --jammi-mark: #ff9340; --jammi-on-mark: #1f2933; }
.jammi-status { cursor: pointer; } .jammi-status:focus-visible { outline: 1px solid var(--jp-brand-color1); }
.jammi-workbench-area { overflow: auto; padding: 8px; }`;

/** What an output itself says of its tables that are not fresh, in the badge above its rows: `t is stale`; "*" when it is a panel of verdicts. */
function reported(stamp, data) {
  const text = (kind) => [data[kind] ?? ""].flat().join("");
  if (text("text/html").includes("jammi-verdicts")) return ["*"];
  const plain = text("text/plain"), words = Object.keys(MEANINGS);
  return (Array.isArray(stamp.tables) ? stamp.tables : []).flatMap((table) => words.map((word) => `${table?.name} is ${word}`)).filter((clause) => plain.includes(clause));
}

/** The stamps of a notebook's outputs by cell; of cells that Jupyter trusts, as others may come from anywhere. */
function stampsOf(panel) {
  const found = [];
  for (const cell of panel.content.model?.cells ?? []) {
    if (cell.type !== "code" || !cell.trusted) continue;
    for (let at = 0; at < cell.outputs.length; at++) {
      const output = cell.outputs.get(at), stamp = output.metadata?.jammi;
      if (stamp) found.push([cell.id, stamp, reported(stamp, output.data)]);
    }
  }
  return found;
}

/** The Markdown cells of a notebook whose code cells Jupyter trusts, by cell: their numbers are compared with the tables. */
function textsOf(panel) {
  const cells = [...(panel.content.model?.cells ?? [])], code = cells.filter((cell) => cell.type === "code");
  if (!code.every((cell) => cell.trusted)) return [];
  return cells.filter((cell) => cell.type === "markdown").map((cell) => [cell.id, cell.sharedModel.getSource()]).filter(([, text]) => /\d/.test(text));
}

/** One open notebook: sends its stamps, draws the marks. */
class Marks {
  constructor(panel, path, settings, changed) {
    Object.assign(this, { panel, path, settings, changed, reasons: new Map(), answer: {}, sent: "", attempts: 0, stamps: new Map() });
    this.later = () => { clearTimeout(this.timer); this.timer = setTimeout(() => this.collect(), COLLECT_MS); };
    this.connectLater = () => {};
    const { content, context } = panel;
    content.modelContentChanged.connect(this.later);
    content.modelChanged.connect(this.later);
    context.pathChanged.connect(() => { this.sent = ""; this.later(); });
    document.addEventListener("visibilitychange", this.later);
    panel.disposed.connect(() => this.dispose());
    context.ready.then(this.later);
  }

  get stale() { return this.panel.content.widgets.filter((cell) => cell.model?.type === "code" && this.reasons.has(cell.model.id)); }

  /** Send the stamps when they changed. A page that is out of sight has nothing watched. */
  collect() {
    if (this.panel.isDisposed) return;
    const hidden = document.hidden || !this.panel.isVisible;
    const stamps = hidden ? [] : stampsOf(this.panel), texts = hidden ? [] : textsOf(this.panel), all = [...stamps, ...texts];
    if (all.length) this.drop(all);
    const text = JSON.stringify({ path: this.path(this.panel.context.path), stamps, texts });
    if (!this.socket) { if (all.length) this.connect(); return; }
    if (this.socket.readyState === WebSocket.OPEN && text !== this.sent) this.socket.send(this.sent = text);
  }

  /** A mark goes at once when its cell is run: the outputs it was about are gone. */
  drop(stamps) {
    const now = new Map();
    for (const [id, stamp] of stamps) now.set(id, (now.get(id) ?? "") + JSON.stringify(stamp));
    const kept = [...this.reasons].filter(([id]) => now.get(id) === this.stamps.get(id));
    this.stamps = now;
    if (kept.length !== this.reasons.size) this.draw(kept);
  }

  connect() {
    const { wsUrl, WebSocket: Socket, token, appendToken } = this.settings;
    const socket = this.socket = new Socket(`${wsUrl}jammi/marks${appendToken && token ? `?token=${encodeURIComponent(token)}` : ""}`);
    let opened = false;
    socket.onopen = () => { opened = true; this.attempts = 0; this.sent = ""; this.collect(); };
    socket.onmessage = ({ data }) => {
      this.answer = JSON.parse(data);
      document.dispatchEvent(new Event("jammi-changed"));              // panels of all kernels ask for a refresh
      // an answer to earlier stamps says nothing of a cell that was run meanwhile
      this.draw(Object.entries(this.answer.marks).filter(([id]) => this.stamps.has(id)));
    };
    socket.onclose = () => {
      this.socket = null;
      const pause = RECONNECT_MS[opened ? 0 : this.attempts++];       // a server without the extension is not asked for ever
      if (pause && !this.panel.isDisposed) setTimeout(this.later, pause);
      else this.connect = () => {};
    };
  }

  /** `reasons`: pairs of a cell's id and why it is marked. An id may be any word, also `constructor`. */
  draw(reasons) {
    this.reasons = new Map(reasons);
    for (const cell of this.panel.content.widgets) {
      const reason = cell.model && this.reasons.get(cell.model.id);
      let mark = cell.node.querySelector(":scope > .jammi-cell-mark");
      if (!reason) { mark?.remove(); continue; }
      if (!mark) {
        mark = document.createElement("div");
        mark.className = "jammi-cell-mark";
        mark.setAttribute("role", "img");
        cell.node.append(mark);
      }
      mark.title = reason;
      mark.setAttribute("aria-label", `Out of date: ${reason}`);
    }
    this.changed();
  }

  dispose() {
    document.removeEventListener("visibilitychange", this.later);
    clearTimeout(this.timer);
    this.socket?.close();
  }
}

/** What verdicts mean, for somebody who has read nothing. */
const MEANINGS = {
  "fresh": "up to date", "fresh*": "up to date as far as the listed grounds go", "stale": "an input or its definition changed since it was computed", "possibly stale": "a table that it is computed from is out of date",
  "undecidable": "the state of an input is unknown", "missing manifest": "the record of its inputs is missing", "damaged": "its file is missing or was changed",
};

/** The text of the status item, and what its tooltip says. */
function summary(counts) {
  const entries = Object.entries(counts), said = ([word, number]) => `${number} ${word}`;
  const open = entries.filter(([word]) => !word.startsWith("fresh"));
  const words = entries.map((entry) => `\n${said(entry)}: ${MEANINGS[entry[0]]}`).join("");
  return [open.length ? `≠ ${open.map(said).join(", ")}` : "✓ fresh", `Tables of the workspace:${words}\nClick to open the Workbench.`];
}

export async function marksPlugin(shared) {
  const { INotebookTracker, NotebookActions } = await shared("@jupyterlab/notebook");
  const { ICommandPalette, MainAreaWidget } = await shared("@jupyterlab/apputils");
  const { IStatusBar } = await shared("@jupyterlab/statusbar");
  const { SimplifiedOutputArea, OutputAreaModel } = await shared("@jupyterlab/outputarea");
  const { Signal } = await shared("@lumino/signaling");
  const { Widget } = await shared("@lumino/widgets");

  /** The Workbench in a panel of its own, beside the notebook; its kernel is the notebook's. */
  async function openWorkbench(app, marks) {
    const { panel, answer } = marks;
    const { kernel } = panel.sessionContext.session ?? {};
    const area = new SimplifiedOutputArea({ model: new OutputAreaModel({ trusted: true }), rendermime: panel.content.rendermime, contentFactory: panel.content.contentFactory });
    area.addClass("jammi-workbench-area");
    if (kernel) {
      const code = `__import__("jammi_kernel_ext.workbench").workbench.show_workbench(${JSON.stringify(answer.workspace)})`;
      area.future = kernel.requestExecute({ code, store_history: false });
    } else area.model.add({ output_type: "stream", name: "stdout", text: "The Workbench needs a kernel. Start one for the notebook." });
    const main = new MainAreaWidget({ content: area });
    main.title.label = "Workbench";
    main.id = `jammi-workbench-${Date.now()}`;
    panel.disposed.connect(() => main.dispose());
    app.shell.add(main, "main", { ref: panel.id, mode: "split-right" });
  }

  function activate(app, tracker, palette, statusBar) {
    const style = document.createElement("style");
    style.textContent = STYLE;
    document.head.append(style);
    const all = new Map(), item = new Widget(), activeStateChanged = new Signal(item);
    const counted = () => Object.keys(current()?.answer.counts ?? {}).length > 0;
    const current = () => all.get(tracker.currentWidget);
    const changed = () => {
      app.commands.notifyCommandChanged(COMMAND);
      app.commands.notifyCommandChanged(WORKBENCH);
      if (counted()) [item.node.textContent, item.node.title] = summary(current().answer.counts);
      activeStateChanged.emit();
    };
    const watch = (panel) => {
      const { contents, serverSettings } = app.serviceManager;
      all.set(panel, new Marks(panel, (path) => contents.localPath(path), serverSettings, changed));
      panel.disposed.connect(() => all.delete(panel));
    };
    tracker.forEach(watch);
    tracker.widgetAdded.connect((_, panel) => watch(panel));
    tracker.currentChanged.connect(() => { changed(); all.forEach((marks) => marks.later()); });
    app.commands.addCommand(COMMAND, {
      label: "Run Stale Cells",
      caption: "Run the marked cells, whose tables are out of date",
      isEnabled: () => Boolean(current()?.stale.length),
      execute: () => {
        const { panel, stale } = current();
        return NotebookActions.runCells(panel.content, stale, panel.sessionContext);
      },
    });
    app.commands.addCommand(WORKBENCH, {
      label: "Open the Workbench",
      caption: "Show the tables of the notebook's workspace",
      isEnabled: () => Boolean(current()?.answer.workspace),
      execute: () => openWorkbench(app, current()),
    });
    for (const command of [COMMAND, WORKBENCH]) palette?.addItem({ command, category: "jammi_lab" });
    for (const name of ["jammi-status", "jp-StatusBar-TextItem", "jp-StatusBar-GroupItem"]) item.addClass(name);
    item.node.tabIndex = 0;
    item.node.setAttribute("role", "button");
    item.node.dataset.testid = "jammi-status";
    const open = () => app.commands.isEnabled(WORKBENCH) && app.commands.execute(WORKBENCH);
    item.node.addEventListener("click", open);
    item.node.addEventListener("keydown", ({ key }) => key === "Enter" && open());
    statusBar?.registerStatusItem(`${NAME}:stale`, { item, align: "left", rank: 100, priority: 1, isActive: counted, activeStateChanged });
  }

  return { id: `${NAME}:marks`, autoStart: true, requires: [INotebookTracker], optional: [ICommandPalette, IStatusBar], activate };
}
