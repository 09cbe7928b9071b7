// Controls

function fillSelect(id, entries, value) {
  const select = byId(id);
  const signature = JSON.stringify(entries);
  if (select.dataset.signature !== signature) {
    select.replaceChildren(...entries.map(([key, text]) => el("option", { value: key }, text)));
    select.dataset.signature = signature;
  }
  select.value = value;
  select.disabled = entries.length < 2;
}

function contextText(context) {
  const gain = known(context.gain) ? `, gain ${signed(context.gain)}` : "";
  return `${context.index + 1}: ${context.length} tokens${gain}`;
}

function fillControls() {
  const context = currentContext();
  const quadrants = context ? DATA.quadrants.slice(context.start, context.start + context.length) : "";
  fillSelect("heat-order", Object.entries(ORDERS), state.order);
  fillSelect("heat-context", ordered().map((each) => [each.id, contextText(each)]), state.context);
  fillSelect("heat-score", DATA.scores.map((score) => [score.key, score.label]), state.score);
  fillSelect("heat-when", (scoreOf(state.score)?.when ?? []).map((when) => [when, WHEN[when]]), state.when);
  fillSelect("heat-selector", SELECTORS.map((name) => [name, name]), state.selector);
  fillSelect("heat-ratio", RATIOS.map((ratio) => [ratio, `${ratio}: n = ${count(DATA.kept.find((entry) => String(entry.ratio) === ratio).n)}`]), state.ratio);
  const cells = Object.entries(QUADRANTS).map(([key, text]) => [key, `${text} (n = ${quadrants.split(key).length - 1})`]);
  fillSelect("heat-quadrant", [["all", "all"], ...cells], state.quadrant);
  const place = ordered().indexOf(context);
  byId("heat-previous").disabled = place <= 0;
  byId("heat-next").disabled = place < 0 || place >= contexts.length - 1;
}

function step(by) {
  const next = ordered()[ordered().indexOf(currentContext()) + by];
  if (next) update({ context: next.id });
}

function listenControls() {
  for (const name of ["order", "context", "score", "when", "selector", "ratio", "quadrant"])
    byId(`heat-${name}`).addEventListener("change", (event) => update({ [name]: event.target.value }));
  byId("heat-previous").addEventListener("click", () => step(-1));
  byId("heat-next").addEventListener("click", () => step(1));
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
    drawTokens();
  });
  dark.addEventListener("change", drawTokens);
}
