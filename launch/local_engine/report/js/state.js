// State, kept in the address so that a view can be linked

const QUADRANTS = ["1", "2", "3", "4"];
const QUADRANT_NAMES = {
  1: "high entropy, high disagreement",
  2: "high entropy, low disagreement",
  3: "low entropy, high disagreement",
  4: "low entropy, low disagreement",
};

const hasNormalised = SCORES.includes("H_norm") && SCORES.includes("D_norm");
const AXES = [
  ["raw", "Raw values"],
  ["sqrt", "Raw values, square-root axes"],
  ...(hasNormalised ? [["normalised", "Normalised values"]] : []),
];
const firstOf = (values, wanted) => values.find((value) => value.startsWith(wanted)) ?? values[0] ?? "";
const defaults = {
  split: "all",
  context: contexts[0]?.id ?? "",
  color: firstOf(COLORS, "score:teachability"),
  selector: firstOf(SELECTORS, "teachability"),
  quadrant: "all",
  token: "",
  plane: SPLITS[0] ?? "",
  axes: "sqrt",
};

const state = { ...defaults };

function allowed(name, value) {
  const choices = {
    split: ["all", ...SPLITS],
    context: contexts.map((context) => String(context.id)),
    color: COLORS,
    selector: SELECTORS,
    quadrant: ["all", ...QUADRANTS],
    plane: SPLITS,
    axes: AXES.map(([axis]) => axis),
  }[name];
  return choices ? choices.includes(value) : name === "token" && /^\d+$/.test(value);
}

function readHash() {
  for (const [name, value] of new URLSearchParams(location.hash.slice(1)))
    if (allowed(name, value)) state[name] = value;
  settle();
}

function writeHash() {
  const entries = Object.entries(state).filter(
    ([name, value]) => value !== "" && String(value) !== String(defaults[name]),
  );
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
