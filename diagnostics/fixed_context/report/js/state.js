// State, kept in the address so that a view can be linked

const QUADRANTS = {
  1: "Q1 high entropy, high disagreement",
  2: "Q2 high entropy, low disagreement",
  3: "Q3 low entropy, high disagreement",
  4: "Q4 low entropy, low disagreement",
};
const WHEN = { before: "before training", after: "after training", change: "change", "": "known once" };
const ORDERS = { file: "as in the file", most: "largest gain first", least: "smallest gain first" };
const pick = (values, wanted) => (values.includes(wanted) ? wanted : (values[0] ?? ""));
const scoreOf = (key) => DATA.scores.find((score) => score.key === key);
const scoreKeys = DATA.scores.map((score) => score.key);

const defaults = {
  order: "file",
  context: contexts[0]?.id ?? "",
  score: pick(scoreKeys, "kl"),
  when: "change",
  selector: pick(SELECTORS, "teachability"),
  ratio: pick(RATIOS, "0.1"),
  quadrant: "all",
  token: "",
};
const state = { ...defaults };

function allowed(name, value) {
  const choices = {
    order: Object.keys(ORDERS),
    context: contexts.map((context) => context.id),
    score: scoreKeys,
    when: Object.keys(WHEN),
    selector: SELECTORS,
    ratio: RATIOS,
    quadrant: ["all", ...Object.keys(QUADRANTS)],
  }[name];
  return choices ? choices.includes(value) : name === "token" && /^\d+$/.test(value);
}

function readHash() {
  for (const [name, value] of new URLSearchParams(location.hash.slice(1)))
    if (allowed(name, value)) state[name] = value;
  settle();
}

function writeHash() {
  const entries = Object.entries(state).filter(([name, value]) => value !== "" && value !== defaults[name]);
  history.replaceState(null, "", `#${new URLSearchParams(entries)}`);
}

const currentContext = () => contexts.find((context) => context.id === state.context);
const currentColumn = () => `${state.score}:${state.when}`;

function ordered() {
  return once(`o|${state.order}`, () => {
    if (state.order === "file") return contexts;
    const sign = state.order === "most" ? -1 : 1;
    const rank = (context) => (known(context.gain) ? sign * context.gain : Infinity);
    return [...contexts].sort((one, two) => rank(one) - rank(two) || one.index - two.index);
  });
}

// A score that was measured once has no before and after.
function settle() {
  const whens = scoreOf(state.score)?.when ?? [""];
  if (!whens.includes(state.when)) state.when = whens.includes("change") ? "change" : whens[0];
  const context = currentContext();
  if (context && state.token !== "" && Number(state.token) >= context.length) state.token = "";
}

function update(change) {
  const before = { ...state };
  if ("context" in change && change.context !== state.context) state.token = "";
  if ("order" in change) change = { ...change, ...firstInOrder(change.order) };
  Object.assign(state, change);
  settle();
  writeHash();
  fillControls();
  const others = Object.keys(state).filter((name) => name !== "token" && before[name] !== state[name]);
  if (others.length) drawTokens();
  else markToken();
}

function firstInOrder(order) {
  state.order = order;
  state.token = "";
  return { context: ordered()[0]?.id ?? "" };
}
