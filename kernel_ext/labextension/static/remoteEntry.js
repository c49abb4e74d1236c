// The container of a prebuilt extension of JupyterLab, written by hand, and SQL colours in cells that begin with %%jammi or %%sql; the marks of cells are in marks.js.
// CodeMirror and lab's own packages are taken from what lab shares. Nothing is built and nothing is loaded from elsewhere.
(() => {
  const NAME = "jammi-lab-sql";
  const MARKS = new URL("marks.js", document.currentScript.src);
  const WORDS = `all and anti any as asc asof between by case cast cross delete desc distinct else end except exists false filter from full group
    having ilike in inner insert intersect interval into is join lateral left like limit natural not null offset on or order outer over partition
    pivot positional qualify recursive returning right sample select semi set table then true union unpivot update using values when where window
    with`.split(/\s+/);
  const KEYWORDS = new Set(WORDS);
  const KINDS = ["comment", "string", "name", "parameter", "number", "word"];
  const TOKEN = new RegExp([
    /(--[^\n]*|\/\*[\s\S]*?(?:\*\/|$))/, /([eE]?'(?:[^']|'')*(?:'|$)|\$\$[\s\S]*?(?:\$\$|$))/, /("(?:[^"]|"")*(?:"|$))/, /(\$[A-Za-z_]\w*)/, /(\b\d[\d_]*(?:\.\d+)?(?:[eE][+-]?\d+)?\b)/,
    /([A-Za-z_]\w*)/,
  ].map((part) => part.source).join("|"), "g");
  const COLOURS = {
    keyword: "color: var(--jp-mirror-editor-keyword-color); font-weight: bold",
    string: "color: var(--jp-mirror-editor-string-color)",
    number: "color: var(--jp-mirror-editor-number-color)",
    comment: "color: var(--jp-mirror-editor-comment-color); font-style: italic",
    function: "color: var(--jp-mirror-editor-def-color)",
    parameter: "color: var(--jp-mirror-editor-variable-2-color, var(--jp-mirror-editor-def-color))",
    name: "color: var(--jp-mirror-editor-variable-color)",
  };
  let scope;

  /** The newest copy of a package among those that lab shares. */
  async function shared(name) {
    const offered = scope[name];
    const newest = Object.keys(offered).sort((a, b) => a.localeCompare(b, undefined, { numeric: true })).at(-1);
    return (await offered[newest].get())();
  }

  /** Where which colour begins and ends in the text of a cell; nothing in a cell that is not ours. */
  function* coloured(text) {
    const head = /^\s*%%(?:jammi(?!_)|sql)\b[^\n]*\n/.exec(text);
    if (!head) return;
    TOKEN.lastIndex = head[0].length;
    for (let found; (found = TOKEN.exec(text)); ) {
      const kind = KINDS[found.slice(1).findIndex((part) => part !== undefined)];
      const told = kind !== "word" ? kind : KEYWORDS.has(found[0].toLowerCase()) ? "keyword" : text[TOKEN.lastIndex] === "(" ? "function" : null;
      if (told) yield [found.index, TOKEN.lastIndex, told];
    }
  }

  async function coloursPlugin() {
    const { ViewPlugin, Decoration } = await shared("@codemirror/view");
    const { RangeSetBuilder } = await shared("@codemirror/state");
    const { IEditorExtensionRegistry, EditorExtensionRegistry } = await shared("@jupyterlab/codemirror");
    const marks = Object.fromEntries(Object.keys(COLOURS).map((kind) => [kind, Decoration.mark({ class: `jammi-sql-${kind}` })]));
    const drawn = (view) => {
      const ranges = new RangeSetBuilder();
      for (const [from, to, kind] of coloured(view.state.doc.toString())) ranges.add(from, to, marks[kind]);
      return ranges.finish();
    };
    const colours = ViewPlugin.fromClass(class {
      constructor(view) { this.decorations = drawn(view); }
      update(change) { if (change.docChanged) this.decorations = drawn(change.view); }
    }, { decorations: (plugin) => plugin.decorations });
    const style = document.createElement("style");
    // Python's own colours lie inside ours, on spans of their own
    style.textContent = Object.entries(COLOURS).map(([kind, rules]) => `.jammi-sql-${kind}, .jammi-sql-${kind} * { ${rules.replaceAll(";", " !important;")} !important }`).join("\n");
    document.head.append(style);
    return {
      id: `${NAME}:plugin`,
      autoStart: true,
      requires: [IEditorExtensionRegistry],
      activate: (_, registry) => registry.addExtension({ name: "jammi-sql", default: true, factory: () => EditorExtensionRegistry.createImmutableExtension(colours) }),
    };
  }

  (window._JUPYTERLAB ??= {})[NAME] = {
    init: (offered) => { scope = offered; },
    get: async (module) => {
      if (module !== "./extension") throw new Error(`${NAME} has no module ${module}`);
      if (!["@codemirror/view", "@codemirror/state", "@jupyterlab/codemirror"].every((name) => scope[name])) return () => ({ __esModule: true, default: [] });       // voila has no editors
      const { marksPlugin } = await import(MARKS);
      const plugins = await Promise.all([coloursPlugin(), marksPlugin(shared)]);
      return () => ({ __esModule: true, default: plugins });       // without __esModule lab itself does not start
    },
  };
})();
