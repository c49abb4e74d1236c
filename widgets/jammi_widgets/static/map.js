import { Line, button, choose, copy, cut, frame, grouped, h, more, peek, pill, progressLine, unmarked } from "./kit.js";
import { explanations } from "./terms.js";

const VERTEX = `#version 300 es
in vec2 at; in float code; in float on; uniform vec3 view; uniform vec2 aspect; uniform vec3 palette[12]; uniform float size; uniform float some; out vec4 colour;
void main() { gl_Position = vec4((at * view.z + view.xy) * aspect, 0.0, 1.0); gl_PointSize = size * (on > 1.5 ? 0.7 : on > 0.5 ? 1.6 : 1.0);
  int i = code > 250.0 ? 11 : min(int(code), 10); colour = vec4(palette[i], on > 1.5 ? 0.14 : some > 0.5 && on < 0.5 ? 0.12 : 0.75); }`;
const FRAGMENT = `#version 300 es
precision mediump float; in vec4 colour; out vec4 drawn;
void main() { vec2 c = gl_PointCoord - 0.5; if (dot(c, c) > 0.25) discard; drawn = vec4(colour.rgb * colour.a, colour.a); }`;
const WAYS = [["at once", "principal components"], ["tsne", "t-SNE, stored"], ["pca", "principal components, stored"]];
const PLAIN = "#3b7dd8", NONE = "#c3c9cf", LONG = 120, DENSE = 150_000;

const rgb = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16) / 255);
const bytes = (view, of) => new of(view.buffer.slice(view.byteOffset, view.byteOffset + view.byteLength));

/** Points on a canvas; a page without WebGL gets them drawn one by one. */
function painter(canvas) {
  const gl = canvas.getContext("webgl2", { antialias: false, premultipliedAlpha: true, preserveDrawingBuffer: true });
  let points = new Float32Array(0), codes = new Uint8Array(0), flags = new Uint8Array(0), colours = Array(12).fill(PLAIN);
  if (!gl) {
    const flat = canvas.getContext("2d");
    return {
      set(p, c, f, all) { points = p; codes = c; flags = f; colours = all; },
      draw([x, y, z], [ax, ay], some) {
        flat.clearRect(0, 0, canvas.width, canvas.height);
        for (let i = 0; i < points.length / 2; i++) {
          flat.globalAlpha = flags[i] > 1 ? 0.14 : some && !flags[i] ? 0.12 : 0.75;
          flat.fillStyle = colours[codes[i] > 250 ? 11 : Math.min(codes[i], 10)];
          flat.fillRect(((points[2 * i] * z + x) * ax + 1) * canvas.width / 2, (1 - (points[2 * i + 1] * z + y) * ay) * canvas.height / 2, 3, 3);
        }
      },
    };
  }
  const program = gl.createProgram();
  for (const [kind, text] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
    const shader = gl.createShader(kind);
    gl.shaderSource(shader, text);
    gl.compileShader(shader);
    gl.attachShader(program, shader);
  }
  gl.linkProgram(program);
  gl.useProgram(program);
  const fill = (name, data, parts, kind) => {
    const where = gl.getAttribLocation(program, name);
    gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
    gl.bufferData(gl.ARRAY_BUFFER, data, gl.STATIC_DRAW);
    gl.enableVertexAttribArray(where);
    gl.vertexAttribPointer(where, parts, kind, false, 0, 0);
  };
  const uniform = (name) => gl.getUniformLocation(program, name);
  return {
    set(p, c, f, all) {
      points = p;
      fill("at", p, 2, gl.FLOAT);
      fill("code", c, 1, gl.UNSIGNED_BYTE);
      fill("on", f, 1, gl.UNSIGNED_BYTE);
      gl.uniform3fv(uniform("palette"), all.flatMap(rgb));
    },
    draw(view, aspect, some) {
      gl.viewport(0, 0, canvas.width, canvas.height);
      gl.clearColor(0, 0, 0, 0);
      gl.clear(gl.COLOR_BUFFER_BIT);
      gl.enable(gl.BLEND);
      gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
      gl.uniform3fv(uniform("view"), view);
      gl.uniform2fv(uniform("aspect"), aspect);
      gl.uniform1f(uniform("size"), (points.length > 40_000 ? 3 : points.length > 4_000 ? 5 : 8) * Math.min(3, Math.max(1, Math.sqrt(view[2]))) * devicePixelRatio);
      gl.uniform1f(uniform("some"), some ? 1 : 0);
      gl.drawArrays(gl.POINTS, 0, points.length / 2);
    },
  };
}

/** Very many points as one picture: each cell of two pixels has the mean colour of its points, and the more of them the stronger. */
function shade(canvas, points, codes, flags, colours, [x, y, z], [ax, ay], some) {
  const wide = Math.ceil(canvas.width / 2), high = Math.ceil(canvas.height / 2), sums = new Float32Array(wide * high * 4), inks = colours.map(rgb);
  let most = 0;
  for (let i = 0; i < points.length / 2; i++) {
    const cx = Math.floor(((points[2 * i] * z + x) * ax + 1) / 2 * wide), cy = Math.floor((1 - (points[2 * i + 1] * z + y) * ay) / 2 * high);
    if (cx < 0 || cy < 0 || cx >= wide || cy >= high) continue;
    const at = 4 * (cy * wide + cx), weight = flags[i] > 1 || (some && !flags[i]) ? 0.1 : 1, ink = inks[codes[i] > 250 ? 11 : Math.min(codes[i], 10)];
    for (let k = 0; k < 3; k++) sums[at + k] += weight * ink[k];
    sums[at + 3] += weight;
    if (sums[at + 3] > most) most = sums[at + 3];
  }
  const image = new ImageData(wide, high), top = Math.log1p(most);
  for (let at = 0; at < sums.length; at += 4) {
    const n = sums[at + 3];
    if (!n) continue;
    for (let k = 0; k < 3; k++) image.data[at + k] = 255 * sums[at + k] / n;
    image.data[at + 3] = 255 * (0.15 * Math.min(1, n) + 0.85 * Math.log1p(n) / top);
  }
  const small = new OffscreenCanvas(wide, high), pen = canvas.getContext("2d");
  small.getContext("2d").putImageData(image, 0, 0);
  pen.clearRect(0, 0, canvas.width, canvas.height);
  pen.imageSmoothingEnabled = false;
  pen.drawImage(small, 0, 0, 2 * wide, 2 * high);
}

/** Which point is nearest to a place: the points of each cell of a grid are a chain. */
function grid(points) {
  const SIDE = 128, first = new Int32Array(SIDE * SIDE).fill(-1), after = new Int32Array(points.length / 2);
  const cell = (v) => Math.max(0, Math.min(SIDE - 1, Math.floor((v + 1) / 2 * SIDE)));
  for (let i = 0; i < after.length; i++) {
    const at = cell(points[2 * i + 1]) * SIDE + cell(points[2 * i]);
    after[i] = first[at];
    first[at] = i;
  }
  return (x, y, within) => {
    let best = -1, least = within * within;
    for (let cy = cell(y - within); cy <= cell(y + within); cy++) for (let cx = cell(x - within); cx <= cell(x + within); cx++) {
      for (let i = first[cy * SIDE + cx]; i >= 0; i = after[i]) {
        const d = (points[2 * i] - x) ** 2 + (points[2 * i + 1] - y) ** 2;
        if (d < least || (d === least && i < best)) { least = d; best = i; }
      }
    }
    return best;
  };
}

function render({ model, el }) {
  const line = new Line(model);
  const panel = frame(el, "map", "Map of vectors", line);
  const canvas = h("canvas", { class: "jammi-plot", tabindex: 0, role: "application", "aria-roledescription": "map", "aria-label": "Points of the map: arrow keys move it, plus and minus zoom, Enter selects the point in the middle, A selects all points in view, L selects the lasso, Escape clears the selection", "data-testid": "map-canvas" });
  const where = h("input", { type: "search", class: "jammi-filter", placeholder: "SQL condition: year > 2020", "aria-label": "Filter by a condition in SQL", "data-testid": "filter-input", value: model.get("filter") });
  const over = h("canvas", { class: "jammi-over", "aria-hidden": "true" }), dense = h("canvas", { class: "jammi-over", "aria-hidden": "true" });
  const tip = h("div", { class: "jammi-tip", hidden: true, role: "status", "data-testid": "tip" });
  const about = h("span", { class: "jammi-dim", "data-testid": "summary" });
  const chosen = h("span", { class: "jammi-dim", "data-testid": "chosen" });
  const colour = h("select", { class: "jammi-button", "aria-label": "Colour by", "data-testid": "color-input" });
  const way = h("select", { class: "jammi-button", "aria-label": "Method", "data-testid": "method-input" }, WAYS.map(([value, word]) => h("option", { value }, word)));
  const notes = h("div", { class: "jammi-notes", "data-testid": "notes" });
  const legend = h("div", { class: "jammi-legend", "data-testid": "legend" });
  const picked = h("div", { class: "jammi-scroll jammi-chosen-rows", role: "region", "aria-label": "Selected rows", "data-testid": "selected-rows" });
  const progress = progressLine(line);
  const mend = button("Recompute", () => act("recompute", [known.source]), { "data-testid": "recompute", hidden: true });
  const paint = painter(canvas);
  let points = new Float32Array(0), codes = new Uint8Array(0), flags = new Uint8Array(0), all = Array(12).fill(PLAIN), view = [0, 0, 0.92], nearest = () => -1;
  let known = { method: "at once", source: "" };
  let outline = null, held = null, lasso = false, asked = -1, wanted = null, telling = false, marked = false, painted = "", aimed = false;

  const aspect = () => { const w = canvas.clientWidth || 1, high = canvas.clientHeight || 1; return w > high ? [high / w, 1] : [1, w / high]; };
  let due = 0;
  const draw = () => {
    if (points.length / 2 <= DENSE) { dense.hidden = true; paint.draw(view, aspect(), marked); return; }
    dense.hidden = false;                                              // one picture a frame at most
    due ||= requestAnimationFrame(() => { due = 0; shade(dense, points, codes, flags, all, view, aspect(), marked); });
  };
  const place = (event) => {
    const box = canvas.getBoundingClientRect(), [ax, ay] = aspect();
    const x = ((event.clientX - box.left) / box.width * 2 - 1) / ax, y = (1 - (event.clientY - box.top) / box.height * 2) / ay;
    return [(x - view[0]) / view[2], (y - view[1]) / view[2]];
  };
  const size = () => {
    for (const each of [canvas, over, dense]) { each.width = canvas.clientWidth * devicePixelRatio; each.height = canvas.clientHeight * devicePixelRatio; }
    draw();
  };
  const set = () => { if (points.length / 2 <= DENSE) paint.set(points, codes, flags, all); draw(); };
  const zoom = (by, [x, y] = [-view[0] / view[2], -view[1] / view[2]]) => {
    const to = Math.min(200, Math.max(0.5, view[2] * by));
    view = [view[0] + x * (view[2] - to), view[1] + y * (view[2] - to), to];
    draw();
  };
  const count = (n, found) => { chosen.textContent = [typeof found === "number" ? `· ${grouped(found)} found` : "", n ? `· ${grouped(n)} chosen` : ""].filter(Boolean).join(" "); };

  function head(next) {
    known = next;
    about.replaceChildren(h("b", {}, known.table), " ", pill(known.verdict, { "data-testid": "verdict-table" }), ` · ${known.count ? `${grouped(known.count)} rows` : "no points: the table has no rows"} `, known.placed ? h("span", { class: "jammi-term", title: explanations(known.placed) }, known.placed) : "");
    notes.replaceChildren(...known.notes.map((n) => h("div", { "data-testid": "note", title: n }, n)));
    way.value = known.method;
    const whole = !known.verdict || unmarked(known.verdict) === "fresh";
    if (whole && mend.getRootNode().activeElement === mend) canvas.focus({ preventScroll: true });
    mend.hidden = whole;
  }

  async function load() {
    head(await line.ask("open"));
    panel.say("");
    colour.replaceChildren(h("option", { value: "" }, "one colour"), ...known.columns.map((c) => h("option", { value: c, selected: c === model.get("color") }, `by ${c}`)));
    const { buffers, chosen: chosenNow, found } = await line.ask("points");
    points = buffers?.length ? bytes(buffers[0], Float32Array) : new Float32Array(0);
    codes = new Uint8Array(points.length / 2);
    flags = buffers?.length > 1 ? bytes(buffers[1], Uint8Array) : new Uint8Array(points.length / 2);
    marked = chosenNow > 0;
    count(chosenNow, found);
    nearest = grid(points);
    size();
    set();
    root.dataset.points = points.length / 2;
    if (model.get("color")) await paintBy(model.get("color"));
  }

  async function paintBy(column) {
    painted = column;
    if (!column) { codes.fill(0); all = Array(12).fill(PLAIN); legend.replaceChildren(); set(); return; }
    const { buffers, legend: parts } = await line.ask("colour", { column });
    codes = bytes(buffers[0], Uint8Array);
    all = [...parts.map(([, hex]) => hex), ...Array(12).fill(NONE)].slice(0, 11).concat([NONE]);
    legend.replaceChildren(...parts.map(([name, hex, n]) => h("span", { class: "jammi-key" }, h("i", { style: `background:${hex}` }), `${name} `, h("span", { class: "jammi-dim" }, grouped(n)))));
    set();
  }

  function sketch() {
    const pen = over.getContext("2d"), [ax, ay] = aspect();
    pen.clearRect(0, 0, over.width, over.height);
    if (aimed) {
      const x = over.width / 2, y = over.height / 2, arm = 9 * devicePixelRatio;
      pen.strokeStyle = getComputedStyle(panel.root).getPropertyValue("--j-text");
      pen.lineWidth = devicePixelRatio;
      pen.strokeRect(x - arm, y - arm, 2 * arm, 2 * arm);
    }
    if (!outline?.length) return;
    pen.beginPath();
    for (const [x, y] of outline) pen.lineTo(((x * view[2] + view[0]) * ax + 1) * over.width / 2, (1 - (y * view[2] + view[1]) * ay) * over.height / 2);
    pen.closePath();
    pen.strokeStyle = getComputedStyle(panel.root).getPropertyValue("--j-accent");
    pen.lineWidth = 2 * devicePixelRatio;
    pen.stroke();
  }

  async function caught(drawn) {
    const step = Math.ceil(drawn.length / 500);
    const { buffers, chosen: n, found } = await line.ask("lasso", { outline: drawn.filter((_, i) => i % step === 0) });
    mark(n, found, buffers);
  }
  function mark(n, found, buffers) {
    flags = bytes(buffers[0], Uint8Array);
    if (flags.length !== points.length / 2) return;                    // of points that are on their way
    marked = n > 0;
    count(n, found);
    set();
    failing(list)(n);
  }
  async function list(n) {
    picked.classList.toggle("jammi-empty", !n);                        // its place stays, so that the points do not move under the mouse
    if (!n) { picked.replaceChildren(h("div", { class: "jammi-dim" }, "Lasso, or Shift and drag, selects rows: they are listed here.")); return; }
    const { columns, rows, chosen: total, sql } = await line.ask("selected-rows");
    const name = h("input", { class: "jammi-filter", placeholder: "Name of a new table", "aria-label": "Name of a new table", "data-testid": "keep-name", onkeydown: (event) => { if (event.key === "Enter") save(); } });
    const save = () => (name.value.trim() ? act("keep", [name.value.trim()]) : name.focus());
    const keep = sql ? h("div", { class: "jammi-turns" }, h("b", {}, `${grouped(total)} selected`), button("Copy SQL", () => copy(sql, panel.say), { "data-testid": "copy-sql" }), name, button("Keep as table", save, { "data-testid": "keep" })) : h("b", {}, `${grouped(total)} selected`);
    picked.replaceChildren(keep, peek(columns, rows), total > rows.length ? h("div", { class: "jammi-dim" }, `the first ${rows.length} of ${grouped(total)} rows`) : "");
  }
  const act = (action, names) => {
    line.ask("act", { action, names }).then(({ begun }) => { if (!begun) { panel.say("Another action is running; stop it or wait."); way.value = known.method; } }).catch(panel.fail);
  };
  const ended = (say) => { progress.hide(); way.value = known.method; say(); };
  const clear = () => { outline = null; sketch(); choose(model, []); };

  /** For the keyboard: the point nearest to the middle is read out, and chosen by Enter. */
  const middle = () => nearest(-view[0] / view[2], -view[1] / view[2], 0.15 / view[2]);
  const aim = (on) => { aimed = on; sketch(); if (!on) { tip.hidden = true; asked = -1; } };

  async function hover(event) {
    const box = canvas.getBoundingClientRect();
    await tell(nearest(...place(event), 10 / (canvas.clientHeight / 2) / view[2]), event.clientX - box.left, event.clientY - box.top);
  }
  async function tell(point, x, y) {
    if (point === asked) return;
    asked = point;
    wanted = point < 0 ? null : { point, x, y };
    if (point < 0) { tip.hidden = true; return; }
    if (telling) return;                                               // one question at a time: a mouse passes more points than a kernel reads
    telling = true;
    try {
      while (wanted) {
        const now = wanted;
        wanted = null;
        const row = await line.ask("hover", { point: now.point });
        if (asked === now.point) tellOf(row, now.x, now.y);
      }
    } finally { telling = false; }
  }
  function tellOf(row, x, y) {
    tip.replaceChildren(h("b", {}, cut(row.key, LONG)), ...row.values.map(([name, v]) => h("div", {}, h("span", { class: "jammi-dim" }, `${name} `), v)));
    tip.style.left = 0;
    tip.hidden = false;
    const wide = tip.offsetWidth, high = tip.offsetHeight;             // all of it stays within the panel, which a notebook may cut off at its edges
    tip.style.left = `${Math.max(0, Math.min(x + 14, stage.clientWidth - wide))}px`;
    tip.style.top = `${y + 14 + high > stage.clientHeight ? Math.max(0, y - 14 - high) : y + 14}px`;
  }

  const mode = button("Lasso", () => { lasso = !lasso; mode.setAttribute("aria-pressed", String(lasso)); canvas.classList.toggle("jammi-lasso", lasso); }, { "aria-pressed": "false", "data-testid": "lasso" });
  const failing = (f) => (...a) => Promise.resolve(f(...a)).catch(panel.fail);
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    canvas.setPointerCapture(event.pointerId);
    held = { x: event.clientX, y: event.clientY, view: [...view], far: false };
    if (lasso || event.shiftKey) outline = [place(event)];
    tip.hidden = true;
  });
  canvas.addEventListener("pointermove", failing((event) => {
    if (!held) return hover(event);
    held.far ||= Math.abs(event.clientX - held.x) + Math.abs(event.clientY - held.y) > 4;
    if (outline) { outline.push(place(event)); sketch(); return null; }
    const [ax, ay] = aspect();
    view = [held.view[0] + (event.clientX - held.x) / canvas.clientWidth * 2 / ax, held.view[1] - (event.clientY - held.y) / canvas.clientHeight * 2 / ay, view[2]];
    draw();
    return null;
  }));
  canvas.addEventListener("pointerup", failing(async (event) => {
    const drawn = outline, far = held?.far;
    held = null;
    outline = null;
    sketch();
    if (drawn && drawn.length >= 3 && far) return caught(drawn);
    if (far) return null;
    const point = nearest(...place(event), 10 / (canvas.clientHeight / 2) / view[2]);
    if (point < 0) return null;
    const { key } = await line.ask("hover", { point });
    return choose(model, [key]);
  }));
  canvas.addEventListener("pointerleave", () => { tip.hidden = true; asked = -1; });
  canvas.addEventListener("wheel", (event) => { if (event.ctrlKey || event.metaKey) { event.preventDefault(); zoom(event.deltaY < 0 ? 1.15 : 0.87, place(event)); } }, { passive: false });
  canvas.addEventListener("keydown", failing(async (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const by = { ArrowLeft: [0.1, 0], ArrowRight: [-0.1, 0], ArrowUp: [0, -0.1], ArrowDown: [0, 0.1] }[event.key], [ax, ay] = aspect();
    if (by) { view = [view[0] + by[0], view[1] + by[1], view[2]]; draw(); }
    else if (event.key === "+") zoom(1.25);
    else if (event.key === "-") zoom(0.8);
    else if (event.key.toLowerCase() === "l") mode.click();
    else if (!["Escape", "Enter", "a", "A"].includes(event.key)) return;
    event.preventDefault();
    aim(true);
    if (event.key === "Escape") clear();
    else if (event.key.toLowerCase() === "a") await caught([[-1, -1], [1, -1], [1, 1], [-1, 1]].map(([x, y]) => [(x / ax - view[0]) / view[2], (y / ay - view[1]) / view[2]]));
    else {
      const point = middle();
      await tell(point, canvas.clientWidth / 2, canvas.clientHeight / 2);
      if (event.key === "Enter" && point >= 0) choose(model, [(await line.ask("hover", { point })).key]);
    }
  }));
  canvas.addEventListener("blur", () => aim(false));
  canvas.addEventListener("pointerdown", () => aim(false), true);
  colour.addEventListener("change", () => { model.set("color", colour.value); model.save_changes(); });
  const repaint = failing(() => { colour.value = model.get("color"); return painted === model.get("color") ? null : paintBy(model.get("color")); });
  const filtered = () => { where.value = model.get("filter"); };
  const narrow = () => { if (where.value !== model.get("filter")) { model.set("filter", where.value); model.save_changes(); } };
  where.addEventListener("keydown", (event) => { if (event.key === "Enter") narrow(); });
  where.addEventListener("search", narrow);                            // the cross in the field
  model.on("change:color", repaint);
  model.on("change:filter", filtered);

  const root = panel.root;
  way.addEventListener("change", () => act("project", [way.value]));
  panel.tools.append(where, colour, way, mode, button("Clear", clear, { "data-testid": "clear" }), h("span", { class: "jammi-together" }, button("Fit", () => { view = [0, 0, 0.92]; draw(); }, { "data-testid": "fit" }), button("−", () => zoom(0.8), { "aria-label": "Zoom out" }),
    button("+", () => zoom(1.25), { "aria-label": "Zoom in" })), mend, more(button("Refresh", failing(() => line.ask("refresh").then(load)), { "data-testid": "refresh" })), about, chosen);
  panel.root.insertBefore(notes, panel.body);
  panel.root.insertBefore(progress.box, panel.body);
  const stage = h("div", { class: "jammi-stage" }, dense, canvas, over, tip);
  panel.body.append(h("div", { class: "jammi-beside" }, stage, picked), legend);
  const resized = new ResizeObserver(size);
  resized.observe(canvas);
  line.on("changed", failing(load));
  line.on("marked", ({ body }, buffers) => mark(body.chosen, body.found, buffers));
  line.on("about", ({ body }) => head(body));
  line.on("progress", ({ body }) => progress.show(body));
  line.on("done", ({ body }) => ended(() => panel.say(body.lines)));
  line.on("failed", ({ lines }) => ended(() => panel.fail(lines)));
  line.on("stopped", () => ended(() => panel.say("Stopped. The map is unchanged.")));
  failing(list)(0);
  failing(load)();
  return () => { resized.disconnect(); model.off("change:color", repaint); model.off("change:filter", filtered); line.close(); panel.close(); };
}

export default { render };
