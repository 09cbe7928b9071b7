// Comparison

const MEASURES = {
  gain: {
    caption: "Gain on the frozen contexts",
    zero: "not distinguishable from 0",
    above: "above 0",
    below: "below 0",
  },
  vs_random: {
    caption: "Difference from random at the same budget",
    zero: "not distinguishable from random",
    above: "above random",
    below: "below random",
  },
};
function reading(row, measure) {
  const { zero, above, below } = MEASURES[measure];
  const [mean, low, high] = ["mean", "low", "high"].map((part) => row[`${measure}_${part}`]);
  if (!known(mean)) return "—";
  if (!known(low) || !known(high)) return "interval missing";
  if (low <= 0 && high >= 0) return zero;
  return low > 0 ? above : below;
}
const ordered = (rows) => [...rows].sort((first, second) => first.seed - second.seed);
function resultGroups(measure) {
  const groups = new Map();
  const masks = new Map();
  for (const row of DATA.results) masks.set(row.label, (masks.get(row.label) ?? new Set()).add(row.mask));
  for (const row of DATA.results) {
    if (!known(row[`${measure}_mean`])) continue;
    const name = masks.get(row.label).size > 1 ? `${row.label} (${row.mask})` : row.label;
    groups.set(name, [...(groups.get(name) ?? []), row]);
  }
  const mean = (rows) => rows.reduce((sum, row) => sum + row[`${measure}_mean`], 0) / rows.length;
  return [...groups]
    .map(([name, rows]) => ({ name, rows: ordered(rows) }))
    .sort((first, second) => mean(second.rows) - mean(first.rows));
}
const sampleNote = () => `n = ${count(DATA.contexts_n)} contexts from ${count(DATA.prompts_n)} prompts`;

function intervalFigure(measure, width) {
  const groups = resultGroups(measure);
  const caption = el(
    "figcaption",
    {},
    MEASURES[measure].caption,
    el(
      "span",
      { class: "sub" },
      groups.length ? `${sampleNote()}; dot: mean, bar: 95% interval, one line per seed` : "not in the data",
    ),
  );
  if (!groups.length) return el("figure", {}, caption);
  const narrow = width < 430;
  const longest = Math.max(...groups.map(({ name }) => name.length));
  const left = narrow ? 26 : Math.min(0.45 * width, longest * 6.9 + 34);
  const [right, seedHeight, gap, head] = [14, 13, 9, narrow ? 17 : 0];
  const edges = groups.flatMap(({ rows }) =>
    rows.flatMap((row) => ["mean", "low", "high"].map((part) => row[`${measure}_${part}`]).filter(known)),
  );
  const [low, high] = [Math.min(0, ...edges), Math.max(0, ...edges)];
  const margin = 0.04 * (high - low || 1);
  const x = (value) => left + ((value - low + margin) / (high - low + 2 * margin)) * (width - left - right);
  const body = groups.reduce((sum, { rows }) => sum + head + rows.length * seedHeight + gap, 0) + 6;
  const height = body + 24;
  const root = svg("svg", {
    width,
    height,
    viewBox: `0 0 ${width} ${height}`,
    role: "img",
    "aria-label": `${MEASURES[measure].caption}; the same numbers are in the table below`,
  });
  for (const { value, text } of ticks(low, high, narrow ? 5 : 6))
    root.append(
      svg("line", { class: value === 0 ? "zero" : "grid", x1: x(value), x2: x(value), y1: 0, y2: body }),
      svg("text", { class: "muted", x: x(value), y: body + 16, "text-anchor": "middle" }, text),
    );
  let y = 4;
  for (const { name, rows } of groups) {
    const middle = y + (rows.length * seedHeight) / 2;
    root.append(narrow ? svg("text", { x: 0, y: y + 12 }, name) : svg("text", { x: 0, y: middle + 4 }, name));
    rows.forEach((row, index) =>
      root.append(intervalMark(row, measure, x, y + head + (index + 0.5) * seedHeight, left, rows.length > 1)),
    );
    y += head + rows.length * seedHeight + gap;
    root.append(
      svg("line", { class: "rule", x1: 0, x2: width, y1: y - gap / 2, y2: y - gap / 2, "stroke-dasharray": "1 3" }),
    );
  }
  return el("figure", {}, caption, root);
}
function intervalMark(row, measure, x, y, left, showSeed) {
  const [mean, low, high] = ["mean", "low", "high"].map((part) => row[`${measure}_${part}`]);
  const verdict = reading(row, measure);
  const group = svg("g", { class: verdict === MEASURES[measure].zero ? "crosses" : "" });
  group.append(
    svg("title", {}, `${row.label}, seed ${row.seed}: ${signed(mean)} [${signed(low)}, ${signed(high)}], ${verdict}`),
  );
  if (known(low) && known(high))
    group.append(svg("line", { class: "interval", x1: x(low), x2: x(high), y1: y, y2: y }));
  group.append(svg("circle", { class: "dot", cx: x(mean), cy: y, r: 3.4 }));
  if (showSeed)
    group.append(svg("text", { class: "muted", x: left - 8, y: y + 4, "text-anchor": "end" }, `s${row.seed}`));
  return group;
}
function drawIntervals() {
  const box = byId("intervals");
  const columns = box.clientWidth >= 2 * 460 + 36 ? 2 : 1;
  const width = Math.floor((box.clientWidth - (columns - 1) * 36) / columns);
  box.replaceChildren(intervalFigure("gain", width), intervalFigure("vs_random", width));
}
