// Token heat map

function tokenNode(context, position, values, scale) {
  const place = context.start + position;
  const [text, value] = [textAt(place), values[place]];
  const kept = isKept(state.selector, state.ratio, place);
  const shown = state.quadrant === "all" || DATA.quadrants[place] === state.quadrant;
  const name = `token ${position + 1}: ${visible(text)}, ${format(value)}${kept ? ", kept" : ""}`;
  const node = el(
    "button",
    { type: "button", class: "tok", "data-position": position, "aria-label": name, "aria-pressed": "false", tabindex: -1 },
    visibleNodes(text),
  );
  if (Number.isNaN(value)) node.classList.add("missing-fill");
  else {
    const rgb = rampColor(scale.kind, shareOf(scale, value));
    node.style.backgroundColor = cssRgb(rgb);
    node.style.color = inkOn(rgb);
  }
  if (kept) node.classList.add("kept-mark");
  if (!shown) node.classList.add("filtered");
  return node;
}

function drawTokens() {
  const context = currentContext();
  if (!context) {
    byId("heat-tokens").replaceChildren("There are no contexts in the data.");
    byId("card").hidden = true;
    return;
  }
  const name = currentColumn();
  const [scale, values] = [scaleOf(name), column(name)];
  drawScale(name, scale);
  byId("heat-help").textContent = scoreOf(state.score).help;
  byId("heat-prompt").replaceChildren(
    known(context.prompt)
      ? context.prompt.replace(INVISIBLE, spellOut)
      : el("span", { class: "missing" }, "not known: --context-bank FILE has the prompts, where it was exported with a tokenizer"),
  );
  let kept = 0;
  const nodes = [];
  for (let position = 0; position < context.length; position += 1) {
    if (isKept(state.selector, state.ratio, context.start + position)) kept += 1;
    nodes.push(tokenNode(context, position, values, scale));
    const lines = textAt(context.start + position).split("\n").length;
    for (let line = lines; line > 1; line -= 1) nodes.push(el("br"));
  }
  byId("heat-tokens").replaceChildren(...nodes);
  const gain = known(context.gain) ? `, mean gain ${signed(context.gain)} nats` : "";
  byId("heat-count").textContent = `(n = ${count(context.length)} tokens, ${kept} kept by ${state.selector}${gain})`;
  markToken();
}

function drawScale(name, { low, high, kind }) {
  const { label, unit } = scoreOf(state.score);
  const when = state.when === "" ? "" : `, ${WHEN[state.when]}`;
  const bar = el("div", { class: "scale-bar" }, el("div", { class: "scale-name" }, `${label}${when}${unit ? ` (${unit})` : ""}`));
  if (known(low)) {
    const ramp = el("div", { class: "ramp" });
    const stops = Array.from({ length: 9 }, (_, index) => cssRgb(rampColor(kind, index / 8)));
    ramp.style.background = `linear-gradient(90deg, ${stops.join(", ")})`;
    const middle = kind === "diverging" ? "0" : format((low + high) / 2, 3);
    const ticks = [`≤ ${format(low, 3)}`, middle, `≥ ${format(high, 3)}`];
    bar.append(ramp, el("div", { class: "ticks" }, ticks.map((text) => el("span", {}, text))));
  }
  const entry = keptEntry(state.selector, state.ratio);
  const size = entry ? `${count(entry.kept)} tokens of the file${entry.note ? `: ${entry.note}` : ""}` : "none";
  const keys = [
    ["kept-mark", `kept by ${state.selector} at ${state.ratio}, ${size}`],
    ["missing-fill", "value missing"],
  ];
  byId("heat-scale").replaceChildren(
    bar,
    el(
      "div",
      { class: "scale-keys" },
      keys.map(([kindOf, text]) => el("span", {}, el("i", { class: `swatch ${kindOf}` }), text)),
      el("span", {}, `scale: n = ${count(tokenNumbers().length)} tokens of all contexts`),
    ),
  );
}

function markToken() {
  const box = byId("heat-tokens");
  for (const node of box.querySelectorAll('[aria-pressed="true"], [tabindex="0"]')) {
    node.setAttribute("aria-pressed", "false");
    node.tabIndex = -1;
  }
  const node = box.querySelector(`[data-position="${shownToken()}"]`);
  if (node) {
    node.setAttribute("aria-pressed", String(state.token !== ""));
    node.tabIndex = 0;
  }
  drawChosenCard();
}

// The chosen token, or the first kept one, or the first.
function shownToken() {
  if (state.token !== "") return Number(state.token);
  const context = currentContext();
  for (let position = 0; position < context.length; position += 1)
    if (isKept(state.selector, state.ratio, context.start + position)) return position;
  return 0;
}

function listenTokens() {
  const box = byId("heat-tokens");
  const positionOf = (event) => event.target.closest(".tok")?.dataset.position;
  box.addEventListener("pointerover", (event) => {
    const position = positionOf(event);
    if (position !== undefined && !overPage.matches) drawCard(Number(position));
  });
  box.addEventListener("pointerleave", drawChosenCard);
  box.addEventListener("click", (event) => {
    const position = positionOf(event);
    if (position !== undefined) update({ token: position });
  });
  box.addEventListener("keydown", (event) => {
    const last = currentContext().length - 1;
    const from = shownToken();
    const steps = { ArrowRight: from + 1, ArrowLeft: from - 1, ArrowDown: from + 10, ArrowUp: from - 10, Home: 0, End: last };
    const target = steps[event.key];
    if (target === undefined) return;
    event.preventDefault();
    update({ token: String(Math.min(last, Math.max(0, target))) });
    box.querySelector(`[data-position="${shownToken()}"]`).focus();
  });
}
