// Token heat map

function tokenNode(context, position, values, scale) {
  const text = tokenTexts(context)[position];
  const value = values[position];
  const kept = isKept(context, state.selector, position);
  const shown = state.quadrant === "all" || context.quadrant[position] === state.quadrant;
  const name = `token ${position + 1}: ${visible(text)}, ${colorLabel(state.color)} ${format(value)}${kept ? ", kept" : ""}`;
  const node = el(
    "button",
    {
      type: "button",
      class: "tok",
      "data-position": position,
      "aria-label": name,
      "aria-pressed": "false",
      tabindex: -1,
    },
    visibleNodes(text),
  );
  paint(node, value, scale);
  if (kept) node.classList.add("kept-mark");
  if (!shown) node.classList.add("filtered");
  return node;
}

function paint(node, value, scale) {
  if (Number.isNaN(value)) {
    node.classList.add("missing-fill");
    return;
  }
  const rgb = rampColor(scale.kind, scaleShare(scale, value));
  node.style.backgroundColor = cssRgb(rgb);
  node.style.color = inkOn(rgb);
}

function drawTokens() {
  const context = currentContext();
  if (!context) {
    byId("heat-tokens").replaceChildren("There are no contexts in the data.");
    byId("card").hidden = true;
    return;
  }
  const scale = colorScale(state.color);
  const values = colorValues(context, state.color);
  drawScale(context, scale);
  byId("heat-help").textContent = (isGain(state.color) ? infoOf("gain") : infoOf(nameOf(state.color))).help ?? "";
  byId("heat-prompt").replaceChildren(
    context.prompt === "" ? "∅" : context.prompt.replace(INVISIBLE, (sign) => visible(sign)),
  );
  const keptText = context.kept[state.selector] ?? "";
  byId("heat-count").textContent =
    `(n = ${context.length} tokens, ${keptText.split("1").length - 1} kept by ${state.selector})`;
  const nodes = [];
  tokenTexts(context).forEach((text, position) => {
    nodes.push(tokenNode(context, position, values, scale));
    for (let line = text.split("\n").length; line > 1; line -= 1) nodes.push(el("br"));
  });
  byId("heat-tokens").replaceChildren(...nodes);
  markToken();
}

function drawScale(context, scale) {
  const { low, high, sorted, kind } = scale;
  const unit = isGain(state.color) ? infoOf("gain").unit : infoOf(nameOf(state.color)).unit;
  const title = colorLabel(state.color) + (unit ? ` (${unit})` : "");
  const bar = el("div", { class: "scale-bar" }, el("div", { class: "scale-name" }, title));
  if (sorted.length) {
    const ramp = el("div", { class: "ramp" });
    const stops = Array.from({ length: 9 }, (_, index) => cssRgb(rampColor(kind, index / 8)));
    ramp.style.background = `linear-gradient(90deg, ${stops.join(", ")})`;
    const [below, above] = [sorted[0] < low ? "≤ " : "", sorted[sorted.length - 1] > high ? "≥ " : ""];
    const middle = kind === "diverging" ? "0" : format((low + high) / 2, 3);
    bar.append(
      ramp,
      el(
        "div",
        { class: "ticks" },
        ...[below + format(low, 3), middle, above + format(high, 3)].map((text) => el("span", {}, text)),
      ),
    );
  }
  const keys = [
    ["kept-mark", `kept by ${state.selector}`],
    ["missing-fill", "value missing"],
  ];
  byId("heat-scale").replaceChildren(
    bar,
    el(
      "div",
      { class: "scale-keys" },
      ...keys.map(([name, text]) => el("span", {}, el("i", { class: `swatch ${name}` }), text)),
      el("span", {}, `scale: ${count(sorted.length)} tokens of all contexts`),
    ),
  );
}

function markToken() {
  const box = byId("heat-tokens");
  for (const node of box.querySelectorAll('[aria-pressed="true"]')) {
    node.setAttribute("aria-pressed", "false");
    node.tabIndex = -1;
  }
  const node = box.querySelector(`[data-position="${currentToken()}"]`);
  if (node) {
    node.setAttribute("aria-pressed", "true");
    node.tabIndex = 0;
  }
  drawChosenCard();
}

function focusToken() {
  const node = byId("heat-tokens").querySelector(`[data-position="${currentToken()}"]`);
  node.focus({ preventScroll: true });
  node.scrollIntoView({ block: "center" });
}

function listenTokens() {
  const box = byId("heat-tokens");
  const positionOf = (event) => event.target.closest(".tok")?.dataset.position;
  box.addEventListener("pointerover", (event) => {
    const position = positionOf(event);
    if (position !== undefined) drawCard(Number(position));
  });
  box.addEventListener("pointerleave", drawChosenCard);
  for (const kind of ["click", "focusin"])
    box.addEventListener(kind, (event) => {
      const position = positionOf(event);
      if (position !== undefined) update({ token: position });
    });
  box.addEventListener("keydown", (event) => {
    const last = currentContext().length - 1;
    const from = currentToken();
    const target = {
      ArrowRight: from + 1,
      ArrowLeft: from - 1,
      ArrowDown: from + 10,
      ArrowUp: from - 10,
      Home: 0,
      End: last,
    }[event.key];
    if (target === undefined) return;
    event.preventDefault();
    update({ token: String(Math.min(last, Math.max(0, target))) });
    box.querySelector(`[data-position="${currentToken()}"]`).focus();
  });
}
