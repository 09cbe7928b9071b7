// Entropy and disagreement plane: legend, counts, and the token pointed at

function keySymbol(kind) {
  const root = svg("svg", { class: "key", width: 14, height: 14, viewBox: "0 0 14 14", "aria-hidden": "true" });
  if (kind === "kept") root.append(svg("path", { d: "M7 1 L13 7 L7 13 L1 7 Z", fill: "var(--kept)" }));
  if (kind === "other") root.append(svg("circle", { cx: 7, cy: 7, r: 3, fill: "var(--other)" }));
  if (kind === "median")
    root.append(svg("path", { d: "M0 7 H14", stroke: "var(--ink)", "stroke-width": 1.5, "stroke-dasharray": "4 2" }));
  return root;
}

function drawPlaneSide() {
  const { x, y, context, position, medianX, medianY, absent } = plane.points;
  const cells = [
    ["high", "high"],
    ["high", "low"],
    ["low", "high"],
    ["low", "low"],
  ].map(([sideX, sideY]) => ({ sideX, sideY, total: 0, kept: 0 }));
  let kept = 0;
  for (let index = 0; index < x.length; index += 1) {
    const cell = cells[(x[index] >= medianX ? 0 : 2) + (y[index] >= medianY ? 0 : 1)];
    cell.total += 1;
    if (isKept(context[index], state.selector, position[index])) {
      cell.kept += 1;
      kept += 1;
    }
  }
  const entry = (kind, text) => el("li", {}, keySymbol(kind), el("span", {}, text));
  byId("plane-legend").replaceChildren(
    entry("kept", `kept by ${state.selector} (n = ${count(kept)})`),
    entry("other", `not kept (n = ${count(x.length - kept)})`),
    ...(x.length
      ? [
          entry(
            "median",
            `medians of the ${count(x.length)} tokens shown: ${format(medianX, 3)} and ${format(medianY, 3)}`,
          ),
        ]
      : []),
    ...(absent ? [entry("none", `not plotted, value missing (n = ${count(absent)})`)] : []),
  );
  const [labelX, labelY] = planeNames().map((name) => infoOf(name).label);
  byId("plane-regions").replaceChildren(
    el(
      "thead",
      {},
      el(
        "tr",
        {},
        el("th", { scope: "col" }, `${labelX} / ${labelY}, against the median`),
        ...["Tokens", "Kept", "Share"].map((text) => el("th", { scope: "col", class: "num" }, text)),
      ),
    ),
    el(
      "tbody",
      {},
      cells.map((cell) =>
        el(
          "tr",
          {},
          el("th", { scope: "row" }, `${cell.sideX} / ${cell.sideY}`),
          ...[count(cell.total), count(cell.kept), percent(cell.kept, cell.total)].map((text) =>
            el("td", { class: "num" }, text),
          ),
        ),
      ),
    ),
  );
  byId("plane-readout").replaceChildren(el("p", { class: "help" }, "No token chosen yet."));
}

function nearestPoint(event) {
  if (!plane.view) return -1;
  const area = byId("plane-marks").getBoundingClientRect();
  const [x, y] = [event.clientX - area.left, event.clientY - area.top];
  const { px, py } = plane.view;
  let [best, distance] = [-1, event.pointerType === "touch" ? 900 : 200];
  for (let index = 0; index < px.length; index += 1) {
    const away = (px[index] - x) ** 2 + (py[index] - y) ** 2 - (plane.kept[index] ? 6 : 0);
    if (away < distance) [best, distance] = [index, away];
  }
  return best;
}

function showPoint(index) {
  if (index === plane.hover || index < 0) return;
  plane.hover = index;
  const { px, py, width, height } = plane.view;
  const pen = prepare(byId("plane-marks"), width, height);
  for (const [color, wide] of [
    ["--surface", 5],
    ["--ink", 2],
  ]) {
    pen.strokeStyle = cssColor(color);
    pen.lineWidth = wide;
    pen.beginPath();
    pen.arc(px[index], py[index], 7.5, 0, 2 * Math.PI);
    pen.stroke();
  }
  const { context, position } = { context: plane.points.context[index], position: plane.points.position[index] };
  const tokens = tokenTexts(context);
  const around = (from, to) => tokens.slice(Math.max(0, from), to).flatMap(visibleNodes);
  const [nameX, nameY] = planeNames();
  const value = (name) => `${infoOf(name).label} ${format(colorValues(context, `score:${name}`)[position], 3)}`;
  byId("plane-readout").replaceChildren(
    el(
      "p",
      { class: "context" },
      around(position - 5, position),
      el("mark", {}, visibleNodes(tokens[position])),
      around(position + 1, position + 6),
    ),
    el("p", {}, `${value(nameX)}, ${value(nameY)}. ${plane.kept[index] ? "Kept" : "Not kept"} by ${state.selector}.`),
    el("p", {}, `Context ${context.id}, token ${position + 1} of ${context.length}.`),
    el("button", { type: "button", onclick: () => openPoint(index) }, "Open in the token view"),
  );
}

function openPoint(index) {
  if (index < 0) return;
  const context = plane.points.context[index];
  const split = state.split === "all" || state.split === context.split ? state.split : "all";
  update({ split, context: context.id, quadrant: "all", token: String(plane.points.position[index]) });
  focusToken();
}

function listenPlane() {
  const canvas = byId("plane-marks");
  canvas.addEventListener("pointermove", (event) => showPoint(nearestPoint(event)));
  canvas.addEventListener("click", (event) => {
    const index = nearestPoint(event);
    showPoint(index);
    if (event.pointerType !== "touch") openPoint(index);
  });
  canvas.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (step && plane.order.length) {
      event.preventDefault();
      const at = plane.order.indexOf(plane.hover);
      const next = at < 0 ? (step > 0 ? 0 : plane.order.length - 1) : at + step;
      showPoint(plane.order[Math.min(plane.order.length - 1, Math.max(0, next))]);
    } else if (event.key === "Enter") openPoint(plane.hover);
  });
}
