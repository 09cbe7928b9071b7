// Card of one token

const SIDES = [
  ["before", "Student before"],
  ["after", "Student after"],
  ["teacher", "Teacher"],
];

// Where the card lies over the page, it waits until a token is chosen.
const overPage = window.matchMedia("(max-width: 1000px)");
function drawChosenCard() {
  if (!currentContext() || (state.token === "" && overPage.matches)) byId("card").hidden = true;
  else drawCard(shownToken());
}

function drawCard(position) {
  const context = currentContext();
  const place = context.start + position;
  const card = byId("card");
  const quadrant = QUADRANTS[DATA.quadrants[place]] ?? "no quadrant";
  const close = el("button", { type: "button", class: "card-close", "aria-label": "Close the token's details" }, "×");
  close.addEventListener("click", () => update({ token: "" }));
  card.hidden = false;
  card.dataset.position = position;
  card.replaceChildren(
    el("div", { class: "card-head" }, el("p", { class: "card-token" }, visibleNodes(textAt(place))), close),
    el(
      "p",
      { class: "card-place" },
      `token ${position + 1} of ${context.length}, ${quadrant}${counted(place) ? "" : "; it does not count"}; context ${context.id}`,
    ),
    el("h3", {}, "Next-token probabilities", el("span", { class: "count" }, " (underlined: sampled)")),
    el("div", { class: "pair" }, SIDES.map(([side, name]) => topColumn(side, name, place))),
    el("h3", {}, "Scores"),
    scoreTable(place),
    el("h3", {}, `Kept at ${state.ratio}`),
    el("p", {}, keepers(place)),
  );
}

function topColumn(side, name, place) {
  const rows = topTokens(side, place);
  if (rows === null && side === "before") return null;
  const items = (rows ?? []).map(({ text, prob }) => {
    const bar = el("span", { class: "fill" });
    bar.style.width = known(prob) ? `${Math.min(100, 100 * prob)}%` : "0";
    return el(
      "li",
      { class: text === textAt(place) ? "sampled" : null, title: visible(text) },
      bar,
      el("span", { class: "text" }, visibleNodes(text)),
      el("span", { class: "prob" }, known(prob) ? prob.toFixed(3) : "missing"),
    );
  });
  return el(
    "div",
    { class: side },
    el("p", { class: "top-name" }, name),
    items.length ? el("ul", { class: "top" }, items) : el("p", { class: "missing" }, "missing"),
  );
}

function scoreTable(place) {
  const cell = (score, when) => {
    if (!score.when.includes(when)) return el("td", { class: "num" }, "");
    const name = `${score.key}:${when}`;
    const value = column(name)[place];
    const share = percentile(name, value);
    const text = when === "change" ? signed(value) : format(value, 3);
    const title = share === null ? null : `percentile ${share} of all tokens`;
    return el("td", { class: known(value) ? "num" : "num missing", title }, text);
  };
  const heads = ["", "before", "after", "change"].map((text) => el("th", { scope: "col", class: text && "num" }, text));
  const rows = DATA.scores.map((score) => {
    const head = el("th", { scope: "row", title: score.help }, score.label);
    const once = score.when.includes("");
    return el("tr", {}, head, once ? [cell(score, ""), el("td"), el("td")] : ["before", "after", "change"].map((when) => cell(score, when)));
  });
  return el("table", {}, el("thead", {}, el("tr", {}, heads)), el("tbody", {}, rows));
}

function keepers(place) {
  const names = SELECTORS.filter((selector) => isKept(selector, state.ratio, place));
  return names.length ? `by ${names.join(", ")}` : "by no selector";
}
