// Comparison: the table

const withRange = (row, measure) => {
  const [mean, low, high] = ["mean", "low", "high"].map((part) => row[`${measure}_${part}`]);
  if (!known(mean)) return "—";
  const show = once(`f|${measure}`, () =>
    fixedSigned(
      DATA.results.flatMap((each) => [each[`${measure}_mean`], each[`${measure}_low`], each[`${measure}_high`]]),
    ),
  );
  const verdict = reading(row, measure);
  const sure = [MEASURES[measure].above, MEASURES[measure].below].includes(verdict);
  return [
    show(mean),
    " ",
    el("span", { class: "range" }, `[${show(low)}, ${show(high)}]`),
    el("span", { class: sure ? "reading sure" : "reading" }, verdict),
  ];
};
const orDash = (value, show) => (known(value) ? show(value) : "—");
const COLUMNS = [
  { title: "Method", key: (row) => row.method, show: (row) => row.method },
  { title: "Mask", key: (row) => row.mask, show: (row) => row.mask ?? "—" },
  {
    title: "Ratio",
    key: (row) => row.ratio,
    show: (row) => orDash(row.ratio, (value) => value.toFixed(2)),
    number: true,
  },
  { title: "Seed", key: (row) => row.seed, show: (row) => String(row.seed), number: true },
  { title: "Gain [95%]", key: (row) => row.gain_mean, show: (row) => withRange(row, "gain"), number: true },
  {
    title: "Minus random [95%]",
    key: (row) => row.vs_random_mean,
    show: (row) => withRange(row, "vs_random"),
    number: true,
  },
  {
    title: "Loss before",
    key: (row) => row.heldout_loss_before,
    show: (row) => orDash(row.heldout_loss_before, format),
    number: true,
  },
  {
    title: "Loss after",
    key: (row) => row.heldout_loss,
    show: (row) => orDash(row.heldout_loss, format),
    number: true,
  },
  { title: "Kept tokens", key: (row) => row.kept_tokens, show: (row) => orDash(row.kept_tokens, count), number: true },
  {
    title: "Valid tokens",
    key: (row) => row.valid_tokens,
    show: (row) => orDash(row.valid_tokens, count),
    number: true,
  },
  {
    title: "Time (s)",
    key: (row) => row.seconds,
    show: (row) => orDash(row.seconds, (value) => value.toFixed(1)),
    number: true,
  },
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
  const note = `${infoOf("gain").help} Each interval is a 95% interval over ${sampleNote().replace("n = ", "")} for one trained student, not corrected for the number of comparisons. Grey with a hollow dot: the interval includes 0, so the value is not distinguishable from 0. Loss before and after: held-out loss of the student.`;
  byId("comparison-note").textContent = note;
  const rows = DATA.results.length;
  byId("results-note").textContent =
    `${rows} ${rows === 1 ? "row" : "rows"}, one per method and seed. The table scrolls inside its box; choose a heading to sort.`;
  drawIntervals();
  drawTable();
}
