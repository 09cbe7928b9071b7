// Card of one token

const shownValue = (value, digits = 4) =>
  Number.isNaN(value) ? el("span", { class: "missing" }, MISSING) : format(value, digits);

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
    el(
      "p",
      { class: "card-place" },
      `token ${position + 1} of ${context.length}, ${quadrant === "0" ? "quadrant missing" : `quadrant ${quadrant} (${QUADRANT_NAMES[quadrant]})`}, context ${context.id} (${context.split})`,
    ),
    el("h3", {}, "Next-token probabilities", el("span", { class: "count" }, " (underlined: sampled)")),
    el(
      "div",
      { class: "pair" },
      topColumn(context, "student", position, token),
      topColumn(context, "teacher", position, token),
    ),
    el("h3", {}, "Scores"),
    scoreTable(context, position),
    el("h3", {}, "Selectors"),
    selectorTable(context, position),
  );
}

// Where the card lies over the page, it waits until a token is chosen.
const overPage = window.matchMedia("(max-width: 1000px)");
function drawChosenCard() {
  if (state.token === "" && overPage.matches) byId("card").hidden = true;
  else drawCard(currentToken());
}

function topColumn(context, side, position, token) {
  const logp = arrayOf(context, `${side}_logp`)[position];
  const rows = topTokens(context, `${side}_top`, position).map(({ text, prob }) => {
    const bar = el("span", { class: "fill" });
    bar.style.width = known(prob) ? `${Math.min(100, 100 * prob)}%` : "0";
    return el(
      "li",
      { class: text === token ? "sampled" : "", title: visible(text) },
      bar,
      el("span", { class: "text" }, visibleNodes(text)),
      el("span", { class: "prob" }, known(prob) ? prob.toFixed(3) : MISSING),
    );
  });
  return el(
    "div",
    { class: side },
    el(
      "p",
      { class: "logp" },
      el("b", {}, side === "student" ? "Student" : "Teacher"),
      el("span", {}, "log-prob ", shownValue(logp, 3)),
    ),
    rows.length ? el("ul", { class: "top" }, rows) : el("p", { class: "missing" }, "top tokens missing"),
  );
}

function scoreTable(context, position) {
  const rows = SCORES.map((name) => {
    const value = colorValues(context, `score:${name}`)[position];
    const sorted = sortedValues(`score:${name}`);
    const { label, unit, help } = infoOf(name);
    const rank = Number.isFinite(value) ? rankCell(rankShare(sorted, value)) : "—";
    return el(
      "tr",
      {},
      el("th", { scope: "row", title: help }, label),
      el("td", { class: "num" }, shownValue(value), unit && known(value) && !Number.isNaN(value) ? ` ${unit}` : ""),
      el("td", { class: "num" }, rank),
    );
  });
  const head = el(
    "tr",
    {},
    el("th", { scope: "col" }, "Score"),
    el("th", { scope: "col", class: "num" }, "Value"),
    el(
      "th",
      { scope: "col", class: "num", title: "Share of all tokens whose value is at most this one" },
      "Percentile",
    ),
  );
  return el("table", {}, el("thead", {}, head), el("tbody", {}, rows));
}

function rankCell(share) {
  const bar = el("i");
  bar.style.width = `${100 * share}%`;
  return [
    el("span", { class: "meter", "aria-hidden": "true" }, bar),
    el("span", { class: "pct" }, String(Math.round(100 * share))),
  ];
}

function selectorTable(context, position) {
  const rows = unique([...SELECTORS, ...GAINS]).map((name) => {
    const kept = name in context.kept ? (isKept(context, name, position) ? "kept" : "no") : MISSING;
    const gain = colorValues(context, `gain:${name}`)[position];
    return el(
      "tr",
      {},
      el("th", { scope: "row" }, name),
      el("td", {}, kept === "kept" ? el("b", {}, kept) : kept),
      el("td", { class: "num" }, Number.isNaN(gain) ? shownValue(gain) : signed(gain)),
    );
  });
  const head = el(
    "tr",
    {},
    el("th", { scope: "col" }, "Selector"),
    el("th", { scope: "col" }, "Keeps it"),
    el("th", { scope: "col", class: "num", title: infoOf("gain").help }, "Gain here"),
  );
  return el("table", {}, el("thead", {}, head), el("tbody", {}, rows));
}
