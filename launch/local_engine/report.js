"use strict";
(() => {
  const DATA = JSON.parse(document.getElementById("data").textContent);
  const NO_TOKEN = 0xffffff;
  const MISSING = "missing";
  const byId = (id) => document.getElementById(id);
  const dark = window.matchMedia("(prefers-color-scheme: dark)");

  // Elements

  function fill(node, attributes, children) {
    for (const [name, value] of Object.entries(attributes)) {
      if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
      else if (value !== null && value !== undefined) node.setAttribute(name, value);
    }
    node.append(...children.flat().filter((child) => child !== null && child !== undefined));
    return node;
  }
  const el = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);
  const svg = (tag, attributes = {}, ...children) =>
    fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
  const cssColor = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  // Numbers and text

  function format(value, digits = 4) {
    if (value === null || value === undefined || Number.isNaN(value)) return MISSING;
    if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
    if (value === 0) return "0";
    const size = Math.abs(value);
    const text = size < 1e-4 || size >= 1e6 ? value.toExponential(digits - 1)
      : size >= 10 ** (digits - 1) ? value.toFixed(0) : value.toPrecision(digits);
    return text.replace("e+", "e").replaceAll("-", "−");
  }
  const signed = (value, digits = 3) => (value > 0 ? "+" : "") + format(value, digits);
  function fixedSigned(values) {
    const largest = Math.max(0, ...values.filter(known).map(Math.abs));
    const places = largest > 0 ? Math.min(8, Math.max(1, 4 - Math.ceil(Math.log10(largest)))) : 1;
    return (value) => (known(value) ? (value > 0 ? "+" : "") + value.toFixed(places).replace("-", "−") : MISSING);
  }
  const count = (value) => value.toLocaleString("en-US");
  const percent = (part, whole) => (whole ? `${((100 * part) / whole).toFixed(1)}%` : "—");
  const known = (value) => typeof value === "number" && Number.isFinite(value);

  const INVISIBLE = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u00a0\u00ad\u200b\u200e\u200f\u2028-\u202f\u2060-\u2069\ufeff]/g;
  function visible(text) {
    if (text === "") return "∅";
    return text
      .replace(/ /g, "␣").replace(/\t/g, "⇥").replace(/\r/g, "␍").replace(/\n/g, "⏎")
      .replace(INVISIBLE, (sign) => `‹U+${sign.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}›`);
  }
  function visibleNodes(text) {
    return visible(text).split(/([␣⇥␍⏎]+)/).filter(Boolean)
      .map((part) => (/^[␣⇥␍⏎]/.test(part) ? el("span", { class: "ws" }, part) : part));
  }

  function ticks(low, high, wanted) {
    const span = high - low || Math.abs(high) || 1;
    const power = 10 ** Math.floor(Math.log10(span / wanted));
    const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => span / size <= wanted) ?? 10 * power;
    const values = [];
    for (let index = Math.ceil(low / step - 1e-9); index * step <= high + step * 1e-9; index += 1) values.push(index * step);
    const places = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
    return values.map((value) => ({ value, text: places > 6 ? format(value, 2) : value.toFixed(places).replace(/^-(?=0(\.0*)?$)/, "").replace("-", "−") }));
  }

  // Packed arrays (see report.py): 3 bytes per number in base64

  function words(text, shift) {
    const raw = atob(text);
    const out = new Uint32Array(raw.length / 3);
    for (let index = 0, at = 0; index < out.length; index += 1, at += 3) {
      const word = raw.charCodeAt(at) | (raw.charCodeAt(at + 1) << 8) | (raw.charCodeAt(at + 2) << 16);
      out[index] = word << shift;
    }
    return out;
  }
  const integers = (text) => words(text, 0);
  const floats = (text) => new Float32Array(words(text, 8).buffer);

  const decoded = new Map();
  function once(key, make) {
    if (!decoded.has(key)) decoded.set(key, make());
    return decoded.get(key);
  }

  const contexts = DATA.contexts.map((source, index) => ({ ...source, index, length: (source.tokens.length / 4) }));
  const unique = (values) => [...new Set(values)];
  const SPLITS = unique(contexts.map((context) => context.split));
  const SCORES = unique(contexts.flatMap((context) => Object.keys(context.scores)));
  const SELECTORS = unique(contexts.flatMap((context) => Object.keys(context.kept)));
  const GAINS = unique(contexts.flatMap((context) => Object.keys(context.gain)));
  const COLORS = [...SCORES.map((name) => `score:${name}`), ...GAINS.map((name) => `gain:${name}`)];

  const tokenTexts = (context) =>
    once(`t${context.index}`, () => Array.from(integers(context.tokens), (number) => DATA.vocabulary[number]));
  const arrayOf = (context, name) => once(`a${context.index}|${name}`, () => floats(context[name]));
  const noValues = (length) => new Float32Array(length).fill(NaN);
  function colorValues(context, color) {
    const [, kind, name] = /^(score|gain):([^]*)$/.exec(color);
    const packed = (kind === "score" ? context.scores : context.gain)[name];
    return once(`c${context.index}|${color}`, () => (packed === undefined ? noValues(context.length) : floats(packed)));
  }
  function topTokens(context, side, position) {
    const source = context[side];
    const { tokens, probs } = once(`p${context.index}|${side}`, () => ({ tokens: integers(source.tokens), probs: floats(source.probs) }));
    const rows = [];
    for (let index = position * source.width; index < (position + 1) * source.width; index += 1)
      if (tokens[index] !== NO_TOKEN) rows.push({ text: DATA.vocabulary[tokens[index]], prob: probs[index] });
    return rows;
  }
  const isKept = (context, selector, position) => context.kept[selector]?.[position] === "1";

  function sortedValues(color) {
    return once(`s|${color}`, () => {
      const parts = contexts.map((context) => colorValues(context, color));
      const all = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
      let at = 0;
      for (const part of parts) for (const value of part) if (Number.isFinite(value)) all[at++] = value;
      return all.subarray(0, at).sort();
    });
  }
  const quantile = (sorted, part) => sorted[Math.round(part * (sorted.length - 1))];
  function rankShare(sorted, value) {
    let low = 0;
    let high = sorted.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (sorted[middle] <= value) low = middle + 1;
      else high = middle;
    }
    return low / sorted.length;
  }

  // Names of scores

  const DEFAULT_INFO = {
    gain: { label: "Gain", unit: "nats", help: "KL(teacher ‖ student) before training minus the same after it, on the frozen contexts. Above 0: the student moved towards the teacher." },
    student_logp: { label: "Student log-prob", unit: "nats" },
    teacher_logp: { label: "Teacher log-prob", unit: "nats" },
  };
  const infoOf = (name) => ({ label: name, unit: "", help: "", ...DEFAULT_INFO[name], ...DATA.score_info[name] });
  const withUnit = (name) => {
    const { label, unit } = infoOf(name);
    return unit ? `${label} (${unit})` : label;
  };
  const isGain = (color) => color.startsWith("gain:");
  const nameOf = (color) => color.slice(color.indexOf(":") + 1);
  const colorLabel = (color) => (isGain(color) ? `gain: ${nameOf(color)}` : infoOf(nameOf(color)).label);

  // Colour ramps: ordered in lightness, so they also read without hue

  const RAMPS = {
    light: {
      sequential: ["#fffde0", "#e4f3bd", "#b3dfbd", "#74c5c1", "#3ca6c3", "#2580b8", "#2757a0", "#253781", "#101d55"],
      diverging: ["#8c3f00", "#c9670c", "#eea553", "#fadbb0", "#f6f6f4", "#cfe2f0", "#86b8dc", "#3a83bd", "#124f8c"],
    },
    dark: {
      sequential: ["#33214f", "#40407f", "#3a5a8c", "#2f728e", "#268a8d", "#2aa37f", "#57bd67", "#a5d43f", "#fde725"],
      diverging: ["#ffc47a", "#f0983c", "#bd6a18", "#70441d", "#2b2f35", "#1e4669", "#2d73a8", "#5ba5d8", "#a6d6f7"],
    },
  };
  const channels = (hex) => [1, 3, 5].map((at) => Number.parseInt(hex.slice(at, at + 2), 16));
  function rampColor(kind, share) {
    const stops = RAMPS[dark.matches ? "dark" : "light"][kind];
    const place = Math.min(1, Math.max(0, share)) * (stops.length - 1);
    const index = Math.min(Math.floor(place), stops.length - 2);
    const [from, to] = [channels(stops[index]), channels(stops[index + 1])];
    return from.map((value, channel) => Math.round(value + (to[channel] - value) * (place - index)));
  }
  const cssRgb = (rgb) => `rgb(${rgb.join(" ")})`;
  function inkOn(rgb) {
    const [red, green, blue] = rgb.map((value) => (value <= 10 ? value / 3294.6 : ((value / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.179 ? "#000" : "#fff";
  }
  function colorScale(color) {
    const sorted = sortedValues(color);
    if (!sorted.length) return { low: NaN, high: NaN, sorted, kind: "sequential" };
    const [low, high] = [quantile(sorted, 0.02), quantile(sorted, 0.98)];
    if (!isGain(color)) return { low, high, sorted, kind: "sequential" };
    const edge = Math.max(Math.abs(low), Math.abs(high)) || 1;
    return { low: -edge, high: edge, sorted, kind: "diverging" };
  }
  const scaleShare = ({ low, high }, value) => (high > low ? (value - low) / (high - low) : 0.5);

  // State, kept in the address so that a view can be linked

  const QUADRANTS = ["1", "2", "3", "4"];
  const QUADRANT_NAMES = { 1: "high entropy, high disagreement", 2: "high entropy, low disagreement", 3: "low entropy, high disagreement", 4: "low entropy, low disagreement" };
  const hasNormalised = SCORES.includes("H_norm") && SCORES.includes("D_norm");
  const AXES = [["raw", "Raw values"], ["sqrt", "Raw values, square-root axes"], ...(hasNormalised ? [["normalised", "Normalised values"]] : [])];
  const firstOf = (values, wanted) => values.find((value) => value.startsWith(wanted)) ?? values[0] ?? "";
  const defaults = {
    split: "all",
    context: contexts[0]?.id ?? "",
    color: firstOf(COLORS, "score:teachability"),
    selector: firstOf(SELECTORS, "teachability"),
    quadrant: "all",
    token: "",
    plane: SPLITS[0] ?? "",
    axes: "raw",
  };
  const state = { ...defaults };

  function allowed(name, value) {
    const choices = {
      split: ["all", ...SPLITS], context: contexts.map((context) => String(context.id)), color: COLORS, selector: SELECTORS,
      quadrant: ["all", ...QUADRANTS], plane: SPLITS, axes: AXES.map(([axis]) => axis),
    }[name];
    return choices ? choices.includes(value) : name === "token" && /^\d+$/.test(value);
  }
  function readHash() {
    for (const [name, value] of new URLSearchParams(location.hash.slice(1)))
      if (allowed(name, value)) state[name] = value;
    settle();
  }
  function writeHash() {
    const entries = Object.entries(state).filter(([name, value]) => value !== "" && String(value) !== String(defaults[name]));
    history.replaceState(null, "", `#${new URLSearchParams(entries)}`);
  }
  const shownContexts = () => contexts.filter((context) => state.split === "all" || context.split === state.split);
  const currentContext = () => contexts.find((context) => String(context.id) === String(state.context));
  function settle() {
    const shown = shownContexts();
    if (shown.length && !shown.includes(currentContext())) {
      state.context = shown[0].id;
      state.token = "";
    }
    const context = currentContext();
    if (!context) return;
    if (state.token !== "" && Number(state.token) >= context.length) state.token = "";
  }
  function currentToken() {
    if (state.token !== "") return Number(state.token);
    const kept = currentContext()?.kept[state.selector]?.indexOf("1") ?? -1;
    return Math.max(0, kept);
  }
  function update(change) {
    const before = { ...state };
    if ("context" in change && String(change.context) !== String(state.context)) state.token = "";
    Object.assign(state, change);
    settle();
    writeHash();
    const changed = (...names) => names.some((name) => String(before[name]) !== String(state[name]));
    fillControls();
    if (changed("plane", "axes", "selector")) drawPlane();
    if (changed("context", "color", "selector", "quadrant", "split")) drawTokens();
    else if (changed("token")) markToken();
  }

  // Controls

  function fillSelect(id, entries, value) {
    const select = byId(id);
    const signature = JSON.stringify(entries);
    if (select.dataset.signature !== signature) {
      select.replaceChildren(...entries.map(([key, text]) => el("option", { value: key }, text)));
      select.dataset.signature = signature;
    }
    select.value = value;
  }
  function fillControls() {
    const splits = SPLITS.map((name) => [name, `${name} (${contexts.filter((context) => context.split === name).length})`]);
    const selectors = SELECTORS.map((name) => [name, name]);
    fillSelect("plane-split", splits, state.plane);
    fillSelect("plane-axes", AXES, state.axes);
    fillSelect("plane-selector", selectors, state.selector);
    fillSelect("heat-split", [["all", `all (${contexts.length})`], ...splits], state.split);
    fillSelect("heat-context", shownContexts().map((context) => [context.id, `${context.id} · ${context.split} · ${context.length} tokens`]), state.context);
    fillSelect("heat-color", COLORS.map((color) => [color, colorLabel(color)]), state.color);
    fillSelect("heat-selector", selectors, state.selector);
    const quadrants = currentContext()?.quadrant ?? "";
    fillSelect("heat-quadrant", [["all", "all"], ...QUADRANTS.map((name) => [name, `${name}: ${QUADRANT_NAMES[name]} (n = ${quadrants.split(name).length - 1})`])], state.quadrant);
    const place = shownContexts().indexOf(currentContext());
    byId("heat-previous").disabled = place <= 0;
    byId("heat-next").disabled = place < 0 || place >= shownContexts().length - 1;
  }
  function stepContext(step) {
    const shown = shownContexts();
    const next = shown[shown.indexOf(currentContext()) + step];
    if (next) update({ context: next.id });
  }
  function listen() {
    const choices = { "plane-split": "plane", "plane-axes": "axes", "plane-selector": "selector", "heat-split": "split", "heat-context": "context", "heat-color": "color", "heat-selector": "selector", "heat-quadrant": "quadrant" };
    for (const [id, name] of Object.entries(choices))
      byId(id).addEventListener("change", (event) => update({ [name]: event.target.value }));
    byId("heat-previous").addEventListener("click", () => stepContext(-1));
    byId("heat-next").addEventListener("click", () => stepContext(1));
    byId("curve-field").addEventListener("change", drawCurves);
    for (const link of document.querySelectorAll("nav a, .skip"))
      link.addEventListener("click", (event) => {
        event.preventDefault();
        const target = document.querySelector(link.getAttribute("href"));
        target.scrollIntoView();
        target.focus({ preventScroll: true });
      });
    window.addEventListener("hashchange", () => {
      Object.assign(state, defaults);
      readHash();
      fillControls();
      drawPlane();
      drawTokens();
    });
    dark.addEventListener("change", () => {
      drawPlane();
      drawTokens();
    });
    let width = window.innerWidth;
    let waiting = 0;
    window.addEventListener("resize", () => {
      if (window.innerWidth === width) return;
      width = window.innerWidth;
      cancelAnimationFrame(waiting);
      waiting = requestAnimationFrame(() => {
        drawIntervals();
        drawPlane();
        drawCurves();
      });
    });
  }

  // Comparison

  const MEASURES = {
    gain: { caption: "Gain on the frozen contexts", zero: "not distinguishable from 0", above: "above 0", below: "below 0" },
    vs_random: { caption: "Difference from random at the same budget", zero: "not distinguishable from random", above: "above random", below: "below random" },
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
    return [...groups].map(([name, rows]) => ({ name, rows: ordered(rows) })).sort((first, second) => mean(second.rows) - mean(first.rows));
  }
  const sampleNote = () => `n = ${count(DATA.contexts_n)} contexts from ${count(DATA.prompts_n)} prompts`;

  function intervalFigure(measure, width) {
    const groups = resultGroups(measure);
    const caption = el("figcaption", {}, MEASURES[measure].caption, el("span", { class: "sub" }, groups.length ? `${sampleNote()}; dot: mean, bar: 95% interval, one line per seed` : "not in the data"));
    if (!groups.length) return el("figure", {}, caption);
    const narrow = width < 430;
    const longest = Math.max(...groups.map(({ name }) => name.length));
    const left = narrow ? 26 : Math.min(0.45 * width, longest * 6.9 + 34);
    const [right, seedHeight, gap, head] = [14, 13, 9, narrow ? 17 : 0];
    const edges = groups.flatMap(({ rows }) => rows.flatMap((row) => ["mean", "low", "high"].map((part) => row[`${measure}_${part}`]).filter(known)));
    const [low, high] = [Math.min(0, ...edges), Math.max(0, ...edges)];
    const margin = 0.04 * (high - low || 1);
    const x = (value) => left + ((value - low + margin) / (high - low + 2 * margin)) * (width - left - right);
    const body = groups.reduce((sum, { rows }) => sum + head + rows.length * seedHeight + gap, 0) + 6;
    const height = body + 24;
    const root = svg("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${MEASURES[measure].caption}; the same numbers are in the table below` });
    for (const { value, text } of ticks(low, high, narrow ? 5 : 6))
      root.append(
        svg("line", { class: value === 0 ? "zero" : "grid", x1: x(value), x2: x(value), y1: 0, y2: body }),
        svg("text", { class: "muted", x: x(value), y: body + 16, "text-anchor": "middle" }, text),
      );
    let y = 4;
    for (const { name, rows } of groups) {
      const middle = y + (rows.length * seedHeight) / 2;
      root.append(narrow ? svg("text", { x: 0, y: y + 12 }, name) : svg("text", { x: 0, y: middle + 4 }, name));
      rows.forEach((row, index) => root.append(intervalMark(row, measure, x, y + head + (index + 0.5) * seedHeight, left, rows.length > 1)));
      y += head + rows.length * seedHeight + gap;
      root.append(svg("line", { class: "rule", x1: 0, x2: width, y1: y - gap / 2, y2: y - gap / 2, "stroke-dasharray": "1 3" }));
    }
    return el("figure", {}, caption, root);
  }
  function intervalMark(row, measure, x, y, left, showSeed) {
    const [mean, low, high] = ["mean", "low", "high"].map((part) => row[`${measure}_${part}`]);
    const verdict = reading(row, measure);
    const group = svg("g", { class: verdict === MEASURES[measure].zero ? "crosses" : "" });
    group.append(svg("title", {}, `${row.label}, seed ${row.seed}: ${signed(mean)} [${signed(low)}, ${signed(high)}], ${verdict}`));
    if (known(low) && known(high)) group.append(svg("line", { class: "interval", x1: x(low), x2: x(high), y1: y, y2: y }));
    group.append(svg("circle", { class: "dot", cx: x(mean), cy: y, r: 3.4 }));
    if (showSeed) group.append(svg("text", { class: "muted", x: left - 8, y: y + 4, "text-anchor": "end" }, `s${row.seed}`));
    return group;
  }
  function drawIntervals() {
    const box = byId("intervals");
    const columns = box.clientWidth >= 2 * 460 + 36 ? 2 : 1;
    const width = Math.floor((box.clientWidth - (columns - 1) * 36) / columns);
    box.replaceChildren(intervalFigure("gain", width), intervalFigure("vs_random", width));
  }

  const withRange = (row, measure) => {
    const [mean, low, high] = ["mean", "low", "high"].map((part) => row[`${measure}_${part}`]);
    if (!known(mean)) return "—";
    const show = once(`f|${measure}`, () => fixedSigned(DATA.results.flatMap((each) => [each[`${measure}_mean`], each[`${measure}_low`], each[`${measure}_high`]])));
    const verdict = reading(row, measure);
    const sure = [MEASURES[measure].above, MEASURES[measure].below].includes(verdict);
    return [show(mean), " ", el("span", { class: "range" }, `[${show(low)}, ${show(high)}]`), el("span", { class: sure ? "reading sure" : "reading" }, verdict)];
  };
  const orDash = (value, show) => (known(value) ? show(value) : "—");
  const COLUMNS = [
    { title: "Method", key: (row) => row.method, show: (row) => row.method },
    { title: "Mask", key: (row) => row.mask, show: (row) => row.mask ?? "—" },
    { title: "Ratio", key: (row) => row.ratio, show: (row) => orDash(row.ratio, (value) => value.toFixed(2)), number: true },
    { title: "Seed", key: (row) => row.seed, show: (row) => String(row.seed), number: true },
    { title: "Gain [95%]", key: (row) => row.gain_mean, show: (row) => withRange(row, "gain"), number: true },
    { title: "Minus random [95%]", key: (row) => row.vs_random_mean, show: (row) => withRange(row, "vs_random"), number: true },
    { title: "Loss before", key: (row) => row.heldout_loss_before, show: (row) => orDash(row.heldout_loss_before, format), number: true },
    { title: "Loss after", key: (row) => row.heldout_loss, show: (row) => orDash(row.heldout_loss, format), number: true },
    { title: "Kept tokens", key: (row) => row.kept_tokens, show: (row) => orDash(row.kept_tokens, count), number: true },
    { title: "Valid tokens", key: (row) => row.valid_tokens, show: (row) => orDash(row.valid_tokens, count), number: true },
    { title: "Time (s)", key: (row) => row.seconds, show: (row) => orDash(row.seconds, (value) => value.toFixed(1)), number: true },
  ];
  const order = { column: null, sign: 1 };
  function compareRows(first, second) {
    const [one, two] = [order.column.key(first), order.column.key(second)];
    const absent = (value) => value === null || value === undefined;
    if (absent(one) || absent(two)) return absent(one) - absent(two);
    return order.sign * (typeof one === "number" ? one - two : String(one).localeCompare(String(two)));
  }
  function drawTable() {
    const rows = order.column ? [...DATA.results].sort(compareRows) : DATA.results;
    const head = COLUMNS.map((column) => {
      const sort = order.column !== column ? "none" : order.sign > 0 ? "ascending" : "descending";
      const button = el("button", { type: "button", onclick: () => sortBy(column) }, column.title);
      return el("th", { scope: "col", "aria-sort": sort, class: column.number ? "num" : "" }, button);
    });
    const cell = (row, column, index) => {
      const text = column.show(row);
      if (index === 0) return el("th", { scope: "row" }, text);
      return el("td", { class: column.number ? "num" : "" }, text);
    };
    byId("results").replaceChildren(
      el("thead", {}, el("tr", {}, head)),
      el("tbody", {}, rows.map((row) => el("tr", {}, COLUMNS.map((column, index) => cell(row, column, index))))),
    );
  }
  function sortBy(column) {
    const first = column.number ? -1 : 1;
    order.sign = order.column === column ? -order.sign : first;
    order.column = column;
    drawTable();
    byId("results").querySelectorAll("th button")[COLUMNS.indexOf(column)].focus();
  }
  function drawComparison() {
    const note = `${infoOf("gain").help} Each interval is a 95% interval over ${sampleNote().replace("n = ", "")} for one trained student, not corrected for the number of comparisons. Grey with a hollow dot: the interval includes 0, so the value is not distinguishable from 0. Loss before and after: held-out loss of the student.`;
    byId("comparison-note").textContent = note;
    const rows = DATA.results.length;
    byId("results-note").textContent = `${rows} ${rows === 1 ? "row" : "rows"}, one per method and seed. The table scrolls inside its box; choose a heading to sort.`;
    drawIntervals();
    drawTable();
  }

  // Entropy and disagreement plane

  const plane = { points: null, view: null, hover: -1, order: [] };
  const PLANE_MARGIN = { left: 54, right: 12, top: 12, bottom: 44 };
  function planeNames() {
    return state.axes === "normalised" ? ["H_norm", "D_norm"] : ["entropy", "disagreement"];
  }
  function median(values) {
    const sorted = Float32Array.from(values).sort();
    const middle = sorted.length >> 1;
    return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
  }
  function planePoints() {
    const [nameX, nameY] = planeNames();
    return once(`plane|${state.plane}|${nameX}`, () => {
      const out = { x: [], y: [], context: [], position: [], absent: 0 };
      for (const context of contexts) {
        if (context.split !== state.plane) continue;
        const [xs, ys] = [nameX, nameY].map((name) => colorValues(context, `score:${name}`));
        for (let position = 0; position < context.length; position += 1) {
          if (!Number.isFinite(xs[position]) || !Number.isFinite(ys[position])) {
            out.absent += 1;
            continue;
          }
          out.x.push(xs[position]);
          out.y.push(ys[position]);
          out.context.push(context);
          out.position.push(position);
        }
      }
      out.medianX = median(out.x);
      out.medianY = median(out.y);
      return out;
    });
  }
  function prepare(canvas, width, height) {
    const ratio = window.devicePixelRatio || 1;
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    const pen = canvas.getContext("2d");
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    return pen;
  }
  function bounds(values) {
    let [low, high] = [Infinity, -Infinity];
    for (const value of values) {
      if (value < low) low = value;
      if (value > high) high = value;
    }
    if (low >= 0 && low < 0.25 * high) low = 0;
    return high > low ? [low, high] : [low - 0.5, high + 0.5];
  }
  function axis(values, from, to) {
    const bend = state.axes === "sqrt" ? (value) => Math.sign(value) * Math.sqrt(Math.abs(value)) : (value) => value;
    const [low, high] = bounds(values);
    const span = bend(high) - bend(low);
    const place = (value) => from + ((bend(value) - bend(low)) / span) * (to - from);
    return { low, high, place };
  }
  function drawPlane() {
    const points = planePoints();
    const box = byId("plane-box");
    const [width, height] = [box.clientWidth, box.clientHeight];
    const pen = prepare(byId("plane-points"), width, height);
    prepare(byId("plane-marks"), width, height);
    plane.points = points;
    plane.hover = -1;
    drawPlaneSide();
    if (!points.x.length) {
      plane.view = null;
      pen.fillStyle = cssColor("--muted");
      pen.font = `14px ${cssColor("--sans")}`;
      pen.fillText(`No token of this split has both ${planeNames().join(" and ")}.`, 12, 32);
      return;
    }
    const x = axis(points.x, PLANE_MARGIN.left + 6, width - PLANE_MARGIN.right - 6);
    const y = axis(points.y, height - PLANE_MARGIN.bottom - 6, PLANE_MARGIN.top + 6);
    const px = Float32Array.from(points.x, x.place);
    const py = Float32Array.from(points.y, y.place);
    plane.view = { width, height, x, y, px, py };
    const kept = points.position.map((position, index) => isKept(points.context[index], state.selector, position));
    plane.kept = kept;
    drawPlaneAxes(pen, plane.view);
    drawDots(pen, px, py, kept);
    const stepped = kept.some(Boolean) ? [...px.keys()].filter((index) => kept[index]) : [...px.keys()];
    plane.order = stepped.sort((first, second) => px[first] - px[second] || py[first] - py[second]);
    drawMedians(pen, plane.view, points);
  }
  function planeTicks({ low, high }, wanted) {
    if (state.axes !== "sqrt" || low < 0) return ticks(low, high, wanted);
    const round = (value) => Number(value.toPrecision(1));
    const values = unique(Array.from({ length: wanted + 1 }, (_, index) => round(high * (index / wanted) ** 2)));
    return values.filter((value) => value >= low && value <= high).map((value) => ({ value, text: String(value) }));
  }
  function drawPlaneAxes(pen, { width, height, x, y }) {
    const { left, right, top, bottom } = PLANE_MARGIN;
    pen.font = `12px ${cssColor("--sans")}`;
    pen.strokeStyle = cssColor("--grid");
    pen.fillStyle = cssColor("--muted");
    pen.lineWidth = 1;
    pen.textAlign = "center";
    let lastEnd = -Infinity;
    for (const { value, text } of planeTicks(x, width < 500 ? 5 : 8)) {
      const at = Math.round(x.place(value)) + 0.5;
      pen.strokeRect(at, top, 0, height - top - bottom);
      const half = pen.measureText(text).width / 2;
      if (at - half < lastEnd + 6) continue;
      pen.fillText(text, at, height - bottom + 16);
      lastEnd = at + half;
    }
    pen.textAlign = "right";
    let lastTop = Infinity;
    for (const { value, text } of planeTicks(y, 6)) {
      const at = Math.round(y.place(value)) + 0.5;
      pen.strokeRect(left, at, width - left - right, 0);
      if (at > lastTop - 14) continue;
      pen.fillText(text, left - 7, at + 4);
      lastTop = at;
    }
    pen.strokeStyle = cssColor("--line");
    pen.strokeRect(left + 0.5, top + 0.5, width - left - right - 1, height - top - bottom - 1);
    const [nameX, nameY] = planeNames();
    pen.fillStyle = cssColor("--ink");
    pen.textAlign = "center";
    pen.fillText(withUnit(nameX), (left + width - right) / 2, height - 8);
    pen.save();
    pen.translate(13, (top + height - bottom) / 2);
    pen.rotate(-Math.PI / 2);
    pen.fillText(withUnit(nameY), 0, 0);
    pen.restore();
  }
  function drawDots(pen, px, py, kept) {
    const many = px.length > 12000;
    const radius = many ? 1.1 : 1.9;
    pen.fillStyle = cssColor("--other");
    pen.globalAlpha = many ? 0.32 : 0.5;
    for (let index = 0; index < px.length; index += 1) {
      if (kept[index]) continue;
      if (many) {
        pen.fillRect(px[index] - radius, py[index] - radius, 2 * radius, 2 * radius);
        continue;
      }
      pen.beginPath();
      pen.arc(px[index], py[index], radius, 0, 2 * Math.PI);
      pen.fill();
    }
    pen.fillStyle = cssColor("--kept");
    pen.strokeStyle = cssColor("--surface");
    pen.lineWidth = 0.8;
    pen.globalAlpha = many ? 0.75 : 0.95;
    const size = many ? 2.6 : 4.2;
    for (let index = 0; index < px.length; index += 1) {
      if (!kept[index]) continue;
      pen.beginPath();
      diamond(pen, px[index], py[index], size);
      pen.fill();
      if (!many) pen.stroke();
    }
    pen.globalAlpha = 1;
  }
  function diamond(pen, x, y, size) {
    pen.moveTo(x, y - size);
    pen.lineTo(x + size, y);
    pen.lineTo(x, y + size);
    pen.lineTo(x - size, y);
    pen.closePath();
  }
  function drawMedians(pen, { width, height, x, y }, points) {
    const { left, right, top, bottom } = PLANE_MARGIN;
    const [mx, my] = [x.place(points.medianX), y.place(points.medianY)];
    for (const [color, wide, dash] of [["--surface", 2.4, []], ["--ink", 1.3, [6, 4]]]) {
      pen.strokeStyle = cssColor(color);
      pen.lineWidth = wide;
      pen.setLineDash(dash);
      pen.beginPath();
      pen.moveTo(mx, top);
      pen.lineTo(mx, height - bottom);
      pen.moveTo(left, my);
      pen.lineTo(width - right, my);
      pen.stroke();
    }
    pen.setLineDash([]);
  }
  function keySymbol(kind) {
    const root = svg("svg", { class: "key", width: 14, height: 14, viewBox: "0 0 14 14", "aria-hidden": "true" });
    if (kind === "kept") root.append(svg("path", { d: "M7 1 L13 7 L7 13 L1 7 Z", fill: "var(--kept)" }));
    if (kind === "other") root.append(svg("circle", { cx: 7, cy: 7, r: 3, fill: "var(--other)" }));
    if (kind === "median") root.append(svg("path", { d: "M0 7 H14", stroke: "var(--ink)", "stroke-width": 1.5, "stroke-dasharray": "4 2" }));
    return root;
  }
  function drawPlaneSide() {
    const { x, y, context, position, medianX, medianY, absent } = plane.points;
    const cells = [["high", "high"], ["high", "low"], ["low", "high"], ["low", "low"]].map(([sideX, sideY]) => ({ sideX, sideY, total: 0, kept: 0 }));
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
      ...(x.length ? [entry("median", `medians of the ${count(x.length)} tokens shown: ${format(medianX, 3)} and ${format(medianY, 3)}`)] : []),
      ...(absent ? [entry("none", `not plotted, value missing (n = ${count(absent)})`)] : []),
    );
    const [labelX, labelY] = planeNames().map((name) => infoOf(name).label);
    byId("plane-regions").replaceChildren(
      el("thead", {}, el("tr", {}, el("th", { scope: "col" }, `${labelX} / ${labelY}, against the median`), ...["Tokens", "Kept", "Share"].map((text) => el("th", { scope: "col", class: "num" }, text)))),
      el("tbody", {}, cells.map((cell) => el("tr", {}, el("th", { scope: "row" }, `${cell.sideX} / ${cell.sideY}`), ...[count(cell.total), count(cell.kept), percent(cell.kept, cell.total)].map((text) => el("td", { class: "num" }, text))))),
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
    for (const [color, wide] of [["--surface", 5], ["--ink", 2]]) {
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
      el("p", { class: "context" }, around(position - 5, position), el("mark", {}, visibleNodes(tokens[position])), around(position + 1, position + 6)),
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

  // Token heat map and card

  function tokenNode(context, position, values, scale) {
    const text = tokenTexts(context)[position];
    const value = values[position];
    const kept = isKept(context, state.selector, position);
    const shown = state.quadrant === "all" || context.quadrant[position] === state.quadrant;
    const name = `token ${position + 1}: ${visible(text)}, ${colorLabel(state.color)} ${format(value)}${kept ? ", kept" : ""}`;
    const node = el("button", { type: "button", class: "tok", "data-position": position, "aria-label": name, "aria-pressed": "false", tabindex: -1 }, visibleNodes(text));
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
    byId("heat-prompt").replaceChildren(context.prompt === "" ? "∅" : context.prompt.replace(INVISIBLE, (sign) => visible(sign)));
    const keptText = context.kept[state.selector] ?? "";
    byId("heat-count").textContent = `(n = ${context.length} tokens, ${keptText.split("1").length - 1} kept by ${state.selector})`;
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
      bar.append(ramp, el("div", { class: "ticks" }, ...[below + format(low, 3), middle, above + format(high, 3)].map((text) => el("span", {}, text))));
    }
    const keys = [["kept-mark", `kept by ${state.selector}`], ["missing-fill", "value missing"]];
    byId("heat-scale").replaceChildren(
      bar,
      el("div", { class: "scale-keys" }, ...keys.map(([name, text]) => el("span", {}, el("i", { class: `swatch ${name}` }), text)), el("span", {}, `scale: ${count(sorted.length)} tokens of all contexts`)),
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
    drawCard(currentToken());
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
    box.addEventListener("pointerleave", () => drawCard(currentToken()));
    for (const kind of ["click", "focusin"])
      box.addEventListener(kind, (event) => {
        const position = positionOf(event);
        if (position !== undefined) update({ token: position });
      });
    box.addEventListener("keydown", (event) => {
      const last = currentContext().length - 1;
      const from = currentToken();
      const target = { ArrowRight: from + 1, ArrowLeft: from - 1, ArrowDown: from + 10, ArrowUp: from - 10, Home: 0, End: last }[event.key];
      if (target === undefined) return;
      event.preventDefault();
      update({ token: String(Math.min(last, Math.max(0, target))) });
      box.querySelector(`[data-position="${currentToken()}"]`).focus();
    });
  }
  const shownValue = (value, digits = 4) => (Number.isNaN(value) ? el("span", { class: "missing" }, MISSING) : format(value, digits));

  function drawCard(position) {
    const context = currentContext();
    const card = byId("card");
    if (!context || !context.length) {
      card.hidden = true;
      return;
    }
    card.hidden = false;
    const token = tokenTexts(context)[position];
    const quadrant = context.quadrant[position];
    card.dataset.position = position;
    card.replaceChildren(
      el("p", { class: "card-token" }, visibleNodes(token)),
      el("p", { class: "card-place" }, `token ${position + 1} of ${context.length}, ${quadrant === "0" ? "quadrant missing" : `quadrant ${quadrant} (${QUADRANT_NAMES[quadrant]})`}, context ${context.id} (${context.split})`),
      el("h3", {}, "Next-token probabilities", el("span", { class: "count" }, " (underlined: sampled)")),
      el("div", { class: "pair" }, topColumn(context, "student", position, token), topColumn(context, "teacher", position, token)),
      el("h3", {}, "Scores"),
      scoreTable(context, position),
      el("h3", {}, "Selectors"),
      selectorTable(context, position),
    );
  }
  function topColumn(context, side, position, token) {
    const logp = arrayOf(context, `${side}_logp`)[position];
    const rows = topTokens(context, `${side}_top`, position).map(({ text, prob }) => {
      const bar = el("span", { class: "fill" });
      bar.style.width = known(prob) ? `${Math.min(100, 100 * prob)}%` : "0";
      return el("li", { class: text === token ? "sampled" : "", title: visible(text) }, bar, el("span", { class: "text" }, visibleNodes(text)), el("span", { class: "prob" }, known(prob) ? prob.toFixed(3) : MISSING));
    });
    return el(
      "div",
      { class: side },
      el("p", { class: "logp" }, el("b", {}, side === "student" ? "Student" : "Teacher"), el("span", {}, "log-prob ", shownValue(logp, 3))),
      rows.length ? el("ul", { class: "top" }, rows) : el("p", { class: "missing" }, "top tokens missing"),
    );
  }
  function scoreTable(context, position) {
    const rows = SCORES.map((name) => {
      const value = colorValues(context, `score:${name}`)[position];
      const sorted = sortedValues(`score:${name}`);
      const { label, unit, help } = infoOf(name);
      const rank = Number.isFinite(value) ? rankCell(rankShare(sorted, value)) : "—";
      return el("tr", {}, el("th", { scope: "row", title: help }, label), el("td", { class: "num" }, shownValue(value), unit && known(value) && !Number.isNaN(value) ? ` ${unit}` : ""), el("td", { class: "num" }, rank));
    });
    const head = el("tr", {}, el("th", { scope: "col" }, "Score"), el("th", { scope: "col", class: "num" }, "Value"), el("th", { scope: "col", class: "num", title: "Share of all tokens whose value is at most this one" }, "Percentile"));
    return el("table", {}, el("thead", {}, head), el("tbody", {}, rows));
  }
  function rankCell(share) {
    const bar = el("i");
    bar.style.width = `${100 * share}%`;
    return [el("span", { class: "meter", "aria-hidden": "true" }, bar), el("span", { class: "pct" }, String(Math.round(100 * share)))];
  }
  function selectorTable(context, position) {
    const rows = unique([...SELECTORS, ...GAINS]).map((name) => {
      const kept = name in context.kept ? (isKept(context, name, position) ? "kept" : "no") : MISSING;
      const gain = colorValues(context, `gain:${name}`)[position];
      return el("tr", {}, el("th", { scope: "row" }, name), el("td", {}, kept === "kept" ? el("b", {}, kept) : kept), el("td", { class: "num" }, Number.isNaN(gain) ? shownValue(gain) : signed(gain)));
    });
    const head = el("tr", {}, el("th", { scope: "col" }, "Selector"), el("th", { scope: "col" }, "Keeps it"), el("th", { scope: "col", class: "num", title: infoOf("gain").help }, "Gain here"));
    return el("table", {}, el("thead", {}, head), el("tbody", {}, rows));
  }

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
    const root = svg("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${label}, ${runs.length} runs, last values ${runs.map((run) => format(run.points.at(-1)?.[1], 3)).join(", ")}` });
    for (const { value, text } of ticks(low, high, 4))
      root.append(svg("line", { class: "grid", x1: left, x2: width - right, y1: y(value), y2: y(value) }), svg("text", { class: "muted", x: left - 5, y: y(value) + 4, "text-anchor": "end" }, text));
    for (const { value, text } of ticks(stepLow, stepHigh, width < 200 ? 3 : 5))
      root.append(svg("text", { class: "muted", x: x(value), y: height - 4, "text-anchor": "middle" }, text));
    for (const points of others) root.append(svg("path", { class: "line-back", d: curvePath(points, x, y) }));
    for (const run of runs) {
      root.append(svg("path", { class: "line", d: curvePath(run.points, x, y) }));
      if (run.points.length === 1) root.append(svg("circle", { cx: x(run.points[0][0]), cy: y(run.points[0][1]), r: 2.5, class: "dot" }));
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
    const all = [...groups.values()].flat().flatMap((run) => run.points).filter(([, value]) => Number.isFinite(value));
    byId("curves-note").textContent = all.length ? "One line per seed; the thin grey lines are the mean over seeds of every other method. All panels share their axes: across, the training step; up, the value." : "There is no training history in the data.";
    if (!all.length) {
      box.replaceChildren();
      return;
    }
    const ranges = [bounds(all.map(([step]) => step)), bounds(all.map(([, value]) => value))];
    const columns = getComputedStyle(box).gridTemplateColumns.split(" ");
    const width = Math.floor(Number.parseFloat(columns[0]));
    const means = new Map([...groups].map(([label, runs]) => [label, meanPoints(runs)]));
    box.replaceChildren(...[...groups].map(([label, runs]) => curveFigure(label, ordered(runs), [...means].filter(([other]) => other !== label).map(([, points]) => points), ranges, width)));
  }
  function fillCurveFields() {
    const shown = FIELDS.includes("reverse_kl") ? ["reverse_kl", ...FIELDS.filter((name) => name !== "reverse_kl")] : FIELDS;
    fillSelect("curve-field", shown.map((name) => [name, infoOf(name).label]), shown[0] ?? "");
  }

  readHash();
  fillControls();
  fillCurveFields();
  listen();
  listenPlane();
  listenTokens();
  drawComparison();
  drawPlane();
  drawTokens();
  drawCurves();
  document.documentElement.dataset.ready = "true";
})();
