// The browser's side of runs/widget.py. Everything that comes from a model is set as text, never as
// markup.

function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function number(value) {
  return Math.abs(value) >= 1000 || value === 0 ? String(value) : value.toPrecision(4);
}

function head(model, view) {
  const line = element("div", "head");
  const choose = element("label", "", "colour by ");
  const list = element("select");
  for (const name of view.columns) {
    const option = element("option", "", name);
    option.value = name;
    option.selected = name === view.column;
    list.append(option);
  }
  list.addEventListener("change", () => model.send({ what: "column", column: list.value }));
  choose.append(list);
  const legend = element("span", "legend");
  const [low, high] = view.ends;
  legend.append(`${view.title} `);
  for (let i = 0; i < 10; i += 1) legend.append(element("i", `q${i}`));
  legend.append(` ${low} .. ${high} ${view.unit}`);
  line.append(choose, legend);
  return line;
}

function branches(model, view) {
  const list = element("div", "branches");
  list.setAttribute("role", "group");
  list.setAttribute("aria-label", "Branches");
  for (const b of view.branches) {
    const button = element("button", b.name === view.shown ? "shown" : "");
    button.type = "button";
    button.style.marginLeft = `${b.depth * 12}px`;
    button.setAttribute("aria-pressed", String(b.name === view.shown));
    const change = b.depth ? ` at ${b.at}: ${JSON.stringify(b.own)} for ${JSON.stringify(b.instead)}` : "";
    const mean = b.mean === null ? "" : ` · ${b.mean.toFixed(2)} nats each`;
    button.textContent = `${b.name}${change} · ${b.tokens} tokens${mean}`;
    button.addEventListener("click", () => model.send({ what: "show", branch: b.name }));
    list.append(button);
  }
  return list;
}

function panel(model, view, t) {
  const box = element("div", "panel");
  const token = view.tokens[t];
  box.append(element("b", "", `token ${t}: ${JSON.stringify(token.text)}`));
  for (const [name, value] of Object.entries(token.numbers)) {
    box.append(element("div", "quiet", `${name} ${number(value)}`));
  }
  for (const a of token.alternatives) {
    const row = element("button", a.chosen ? "alternative chosen" : "alternative");
    row.type = "button";
    const bar = element("span", "bar");
    bar.style.width = `${Math.round(60 * a.p)}px`;
    row.append(bar, element("span", "p", a.p.toFixed(3)), element("span", "t", JSON.stringify(a.text)));
    row.disabled = a.chosen;
    row.title = a.chosen ? "what stands there" : "grow a branch with this token";
    row.addEventListener("click", () => {
      box.classList.add("busy");
      model.send({ what: "fork", at: t, id: a.id });
    });
    box.append(row);
  }
  return box;
}

const STYLE = `
.tks.live .both{display:grid;grid-template-columns:minmax(0,1fr) 260px;gap:14px}
.tks.live .code{max-height:420px;overflow:auto}
.tks.live .code span{cursor:pointer}
.tks.live .code span:hover,.tks.live .code span:focus{outline:1px solid var(--accent)}
.tks.live .panel{border-left:1px solid var(--line);padding-left:10px;max-height:420px;overflow:auto}
.tks.live .panel.busy{opacity:.5}
.tks.live button,.tks.live select{font:12px system-ui,sans-serif;color:var(--ink);background:var(--paper);
border:1px solid var(--line);border-radius:4px;text-align:left;cursor:pointer}
.tks.live .alternative{display:flex;gap:6px;align-items:center;width:100%;border:0;padding:1px 0}
.tks.live .alternative .bar{height:8px;background:var(--accent);flex:none;min-width:1px}
.tks.live .alternative .p{color:var(--quiet);width:3.2em}
.tks.live .alternative .t{font-family:ui-monospace,monospace;white-space:pre;overflow:hidden;text-overflow:ellipsis}
.tks.live .alternative:not(:disabled):hover .t{text-decoration:underline}
.tks.live .alternative:disabled{cursor:default;font-weight:600}
.tks.live .branches{display:flex;flex-direction:column;gap:2px;margin-top:8px;max-height:160px;overflow:auto}
.tks.live .branches .shown{border-color:var(--accent);font-weight:600}
.tks.live .problem{color:var(--ink);border-left:3px solid #b35806;padding-left:8px}
@media (max-width:720px){.tks.live .both{grid-template-columns:1fr}}
`;

function render({ model, el }) {
  const root = element("div", "tks live");
  const style = element("style", "", STYLE);
  let selected = -1;
  let shown = "";

  function draw() {
    const view = model.get("view");
    const both = element("div", "both");
    const code = element("div", "code");
    code.setAttribute("role", "group");
    code.setAttribute("aria-label", "Tokens");
    let side = element("div", "panel", "Point at a token; click it to keep it; click an alternative to branch.");
    const look = (t) => {
      const next = panel(model, view, t);
      side.replaceWith(next);
      side = next;
    };
    view.tokens.forEach((token, t) => {
      const span = element("span", `${token.class}${token.special ? " mark" : ""}`, token.text);
      span.tabIndex = -1;
      span.addEventListener("mouseenter", () => selected < 0 && look(t));
      span.addEventListener("click", () => {
        selected = selected === t ? -1 : t;
        code.querySelectorAll(".here").forEach((s) => s.classList.remove("here"));
        if (selected >= 0) span.classList.add("here");
        look(t);
      });
      code.append(span);
    });
    if (view.more > 0) code.append(element("i", "", ` ... ${view.more} more tokens`));
    code.tabIndex = 0;
    code.addEventListener("keydown", (event) => {
      const move = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (move === undefined) return;
      event.preventDefault();
      const t = Math.min(Math.max(selected + move, 0), view.tokens.length - 1);
      selected = -1;
      code.children[t].click();
    });
    both.append(code, side);
    const problem = view.problem ? [element("p", "problem", view.problem)] : [];
    root.replaceChildren(style, head(model, view), ...problem, both, branches(model, view));
    const own = view.branches.find((b) => b.name === view.shown);
    const kept = view.shown === shown ? selected : own.depth ? own.at : -1;
    shown = view.shown;
    selected = -1;
    if (kept >= 0) code.children[kept]?.click();
  }

  model.on("change:view", draw);
  draw();
  el.append(root);
  return () => model.off("change:view", draw);
}

export default { render };
