// Comparison: the table

const withRange = (row, measure) => {
  const [mean, low, high] = partsOf(row, measure);
  if (!known(mean)) return "—";
  const show = once(`f|${measure}`, () => fixedSigned(DATA.results.flatMap((each) => partsOf(each, measure))));
  const { kind, text, spoken } = reading(row, measure);
  const range = text === INTERVAL_MISSING ? null : el("span", { class: "range" }, `[${show(low)}, ${show(high)}]`);
  const verdict = text ? el("span", { class: `reading ${kind}`, title: spoken }, text.replace(/ from .*/, "")) : null;
  return [show(mean), " ", range, verdict];
};

const orDash = (value, show) => (known(value) ? show(value) : "—");
const makeColumn = (title, name, show) => ({ title, key: (row) => row[name], show });
const textColumn = (title, name) => makeColumn(title, name, (row) => row[name] ?? "—");
const numberColumn = (title, name, show) => ({
  ...makeColumn(title, name, (row) => orDash(row[name], show)),
  number: true,
});
const rangeColumn = (title, measure) => ({
  ...makeColumn(title, `${measure}_mean`, (row) => withRange(row, measure)),
  number: true,
  wraps: true,
});
const COLUMNS = [
  textColumn("Method", "label"),
  textColumn("Mask", "mask"),
  numberColumn("Seed", "seed", String),
  rangeColumn("Gain [95%]", "gain"),
  rangeColumn("Reverse gain [95%]", "reverse_gain"),
  rangeColumn("Minus random [95%]", "vs_random"),
  numberColumn("Loss before", "heldout_loss_before", format),
  numberColumn("Loss after", "heldout_loss", format),
  numberColumn("Kept tokens", "kept_tokens", count),
  numberColumn("Valid tokens", "valid_tokens", count),
  numberColumn("Time (s)", "seconds", (value) => value.toFixed(1)),
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
    const kinds = [column.number && "num", column.wraps && "wraps"].filter(Boolean);
    return el("td", { class: kinds.join(" ") }, text);
  };
  byId("results").replaceChildren(
    el("thead", {}, el("tr", {}, head)),
    el(
      "tbody",
      {},
      rows.map((row) =>
        el(
          "tr",
          {},
          COLUMNS.map((column, index) => cell(row, column, index)),
        ),
      ),
    ),
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
  byId("comparison-note").replaceChildren(
    el("p", {}, `Gain: ${infoOf("gain").help} ${infoOf("reverse_gain").help}`),
    el(
      "p",
      {},
      `n = ${count(DATA.contexts_n)} contexts from ${count(DATA.prompts_n)} prompts. Dot: mean; bar: 95% interval over the choice of prompts, for one trained student, one line per seed, not corrected for the number of comparisons; a dot alone has no interval. Methods stand in the order of their gain. Loss before and after: held-out loss of the student.`,
    ),
  );
  const rows = DATA.results.length;
  byId("results-note").textContent =
    `${rows} ${rows === 1 ? "row" : "rows"}, one per method and seed. The table scrolls inside its box; choose a heading to sort. The words under a gain or a reverse gain are for this trained student. Minus random: ${MEASURES.vs_random.note}`;
  drawIntervals();
  drawTable();
}
