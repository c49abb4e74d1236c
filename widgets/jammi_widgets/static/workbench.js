import { grouped, h, pill } from "./kit.js";

/** The line above the panels; it also names the box that holds them all, which is no panel of its own. */
function render({ model, el }) {
  const line = h("div", { class: "jammi jammi-heading", role: "heading", "aria-level": "3" });
  const write = () => {
    const counts = Object.entries(model.get("counts"));
    line.replaceChildren(`${model.get("summary").split(":")[0]}${counts.length ? ": " : ""}`, ...counts.flatMap(([word, n], at) => [at ? ", " : "", `${grouped(n)} `, pill(word)]));
  };
  let frame = 0;
  const name = () => {
    const box = el.isConnected ? (el.getRootNode().host || el).closest(".jammi-workbench") : null;
    if (box) Object.assign(box.dataset, { testid: "jammi-workbench" });
    else frame = requestAnimationFrame(name);
  };
  model.on("change:summary", write);
  write();
  name();
  el.append(line);
  return () => { cancelAnimationFrame(frame); model.off("change:summary", write); };
}

export default { render };
