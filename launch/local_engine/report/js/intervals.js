// Comparison: intervals, side by side with shared rows where there is room, else one below the other

const INTERVALS = { right: 12, seedHeight: 13, rowGap: 9, panelGap: 22, narrow: 430, narrowestPlot: 190 };

const hasMeasure = ({ rows }, measure) => rows.some((row) => known(row[`${measure}_mean`]));

function intervalScale(groups, measure, from, to) {
  const edges = groups.flatMap(({ rows }) => rows.flatMap((row) => partsOf(row, measure))).filter(known);
  const [low, high] = [Math.min(0, ...edges), Math.max(0, ...edges)];
  const margin = 0.04 * (high - low || 1);
  const x = (value) => from + ((value - low + margin) / (high - low + 2 * margin)) * (to - from);
  return { low, high, x };
}

function fittingTicks(low, high, room) {
  const taken = (marks) => marks.reduce((sum, { text }) => sum + 6.5 * text.length + 12, 0);
  const choices = [6, 5, 4, 3].map((wanted) => ticks(low, high, wanted));
  return choices.find((marks) => taken(marks) <= room) ?? choices.at(-1);
}

// left: where the plot begins; label: "beside" it, "above" each row, or "none"
function intervalFigure(measure, groups, { width, left, label }) {
  const there = groups.some((group) => hasMeasure(group, measure));
  const unit = there ? "nats per token" : "not in the data";
  const { caption } = MEASURES[measure];
  const title = el("figcaption", {}, caption, el("span", { class: "sub" }, unit));
  if (label === "beside") title.style.paddingLeft = `${left}px`;
  if (!there) return el("figure", {}, title);
  const { right, seedHeight, rowGap } = INTERVALS;
  const head = label === "above" ? 17 : 0;
  const { low, high, x } = intervalScale(groups, measure, left, width - right);
  const body = groups.reduce((sum, { rows }) => sum + head + rows.length * seedHeight + rowGap, 0) + 6;
  const height = body + 24;
  const spoken = `${caption}; the same numbers are in the table below`;
  const root = svg("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": spoken });
  for (const { value, text } of fittingTicks(low, high, width - right - left))
    root.append(
      svg("line", { class: value === 0 ? "zero" : "grid", x1: x(value), x2: x(value), y1: 0, y2: body }),
      svg("text", { class: "muted", x: x(value), y: body + 16, "text-anchor": "middle" }, text),
    );
  let y = 4;
  for (const { label: name, rows } of groups) {
    const middle = y + head + (rows.length * seedHeight) / 2 + 4;
    if (label !== "none") root.append(svg("text", { x: 0, y: label === "above" ? y + 12 : middle }, name));
    rows.forEach((row, index) => {
      const at = y + head + (index + 0.5) * seedHeight;
      root.append(intervalMark(row, measure, x, at));
      if (label !== "none" && rows.length > 1)
        root.append(svg("text", { class: "muted", x: left - 8, y: at + 4, "text-anchor": "end" }, `s${row.seed}`));
    });
    if (label === "none" && !hasMeasure({ rows }, measure))
      root.append(svg("text", { class: "muted", x: left, y: middle, "text-anchor": "end" }, "—"));
    y += head + rows.length * seedHeight + rowGap;
    const line = y - rowGap / 2;
    root.append(svg("line", { class: "rule", x1: 0, x2: width, y1: line, y2: line, "stroke-dasharray": "1 3" }));
  }
  const note = el("p", { class: "sub" }, MEASURES[measure].note);
  note.style.maxWidth = `${width}px`;
  if (label !== "above") note.style.paddingLeft = `${left}px`;
  return el("figure", {}, title, root, note);
}

function intervalMark(row, measure, x, y) {
  const [mean, low, high] = partsOf(row, measure);
  if (!known(mean)) return "";
  const { kind, spoken } = reading(row, measure);
  const there = known(low) && known(high);
  const value = there ? `${signed(mean)} [${signed(low)}, ${signed(high)}]` : signed(mean);
  const group = svg("g", { class: kind });
  group.append(svg("title", {}, `${row.label}, seed ${row.seed}: ${[value, spoken].filter(Boolean).join(", ")}`));
  if (there)
    group.append(svg("line", { class: "interval", x1: x(low), x2: x(high), y1: y, y2: y }));
  group.append(svg("circle", { class: "dot", cx: x(mean), cy: y, r: 3.4 }));
  return group;
}

function drawIntervals() {
  const box = byId("intervals");
  const groups = resultGroups();
  const measures = Object.keys(MEASURES);
  const whole = box.clientWidth;
  const names = 34 + 6.9 * Math.max(0, ...groups.map(({ label }) => label.length));
  const plot = Math.floor((whole - names - (measures.length - 1) * INTERVALS.panelGap) / measures.length);
  const beside = plot >= INTERVALS.narrowestPlot;
  box.classList.toggle("stacked", !beside);
  const place = (index) => {
    if (beside)
      return index ? { width: plot, left: 12, label: "none" } : { width: names + plot, left: names, label: "beside" };
    if (whole < INTERVALS.narrow) return { width: whole, left: 26, label: "above" };
    return { width: whole, left: Math.min(0.45 * whole, names), label: "beside" };
  };
  const shown = (measure) => (beside ? groups : groups.filter((group) => hasMeasure(group, measure)));
  box.replaceChildren(...measures.map((measure, index) => intervalFigure(measure, shown(measure), place(index))));
}
