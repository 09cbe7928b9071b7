// Training curves

const FIELDS = unique(DATA.history.flatMap((run) => Object.keys(run.fields)));

function curvePath(points, x, y) {
  let path = "";
  let open = false;
  for (const [step, value] of points) {
    if (Number.isFinite(value)) path += `${open ? "L" : "M"}${x(step).toFixed(1)} ${y(value).toFixed(1)}`;
    open = Number.isFinite(value);
  }
  return path;
}

function curveFigure(label, runs, others, ranges, width) {
  const [height, left, right, top, bottom] = [132, 40, 8, 8, 20];
  const [[stepLow, stepHigh], [low, high]] = ranges;
  const x = (step) => left + ((step - stepLow) / (stepHigh - stepLow)) * (width - left - right);
  const y = (value) => height - bottom - ((value - low) / (high - low)) * (height - top - bottom);
  const root = svg("svg", {
    width,
    height,
    viewBox: `0 0 ${width} ${height}`,
    role: "img",
    "aria-label": `${label}, ${runs.length} runs, last values ${runs.map((run) => format(run.points.at(-1)?.[1], 3)).join(", ")}`,
  });
  for (const { value, text } of ticks(low, high, 4))
    root.append(
      svg("line", { class: "grid", x1: left, x2: width - right, y1: y(value), y2: y(value) }),
      svg("text", { class: "muted", x: left - 5, y: y(value) + 4, "text-anchor": "end" }, text),
    );
  for (const { value, text } of ticks(stepLow, stepHigh, width < 200 ? 3 : 5, 1))
    root.append(svg("text", { class: "muted", x: x(value), y: height - 4, "text-anchor": "middle" }, text));
  for (const points of others) root.append(svg("path", { class: "line-back", d: curvePath(points, x, y) }));
  for (const run of runs) {
    root.append(svg("path", { class: "line", d: curvePath(run.points, x, y) }));
    if (run.points.length === 1)
      root.append(svg("circle", { cx: x(run.points[0][0]), cy: y(run.points[0][1]), r: 2.5, class: "dot" }));
  }
  const seeds = `n = ${runs.length} ${runs.length === 1 ? "seed" : "seeds"}`;
  return el("figure", {}, el("figcaption", {}, label, el("span", { class: "sub" }, seeds)), root);
}

function meanPoints(runs) {
  const sums = new Map();
  for (const run of runs)
    for (const [step, value] of run.points) {
      if (!Number.isFinite(value)) continue;
      const entry = sums.get(step) ?? [0, 0];
      sums.set(step, [entry[0] + value, entry[1] + 1]);
    }
  return [...sums].map(([step, [sum, total]]) => [step, sum / total]).sort((first, second) => first[0] - second[0]);
}

function drawCurves() {
  const box = byId("curve-panels");
  const field = byId("curve-field").value;
  const groups = new Map();
  for (const run of DATA.history) {
    if (!(field in run.fields)) continue;
    const values = once(`h|${run.label}|${run.seed}|${field}`, () => floats(run.fields[field]));
    const entry = { seed: run.seed, points: run.steps.map((step, index) => [step, values[index]]) };
    groups.set(run.label, [...(groups.get(run.label) ?? []), entry]);
  }
  const all = [...groups.values()]
    .flat()
    .flatMap((run) => run.points)
    .filter(([, value]) => Number.isFinite(value));
  byId("curves-note").textContent = all.length
    ? "One line per seed; the thin grey lines are the mean over seeds of every other method. All panels share their axes: across, the training step; up, the value."
    : "There is no training history in the data.";
  if (!all.length) {
    box.replaceChildren();
    return;
  }
  const ranges = [bounds(all.map(([step]) => step)), bounds(all.map(([, value]) => value))];
  const columns = getComputedStyle(box).gridTemplateColumns.split(" ");
  const width = Math.floor(Number.parseFloat(columns[0]));
  const means = new Map([...groups].map(([label, runs]) => [label, meanPoints(runs)]));
  box.replaceChildren(
    ...[...groups].map(([label, runs]) =>
      curveFigure(
        label,
        ordered(runs),
        [...means].filter(([other]) => other !== label).map(([, points]) => points),
        ranges,
        width,
      ),
    ),
  );
}

function fillCurveFields() {
  const shown = FIELDS.includes("reverse_kl")
    ? ["reverse_kl", ...FIELDS.filter((name) => name !== "reverse_kl")]
    : FIELDS;
  fillSelect(
    "curve-field",
    shown.map((name) => [name, infoOf(name).label]),
    shown[0] ?? "",
  );
}
