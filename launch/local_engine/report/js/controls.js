// Controls

const SPLIT_HELP = {
  "held-out": "Held-out: no run trained on these tokens; “kept by” a selector is that selector replayed on them.",
  rollout: "Rollout: “kept by” a selector is what the first step of its run (first seed) really distilled.",
};
const splitHelp = (names) => names.map((name) => SPLIT_HELP[name] ?? "").join(" ");

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
  const splits = SPLITS.map((name) => [
    name,
    `${name} (${contexts.filter((context) => context.split === name).length})`,
  ]);
  const selectors = SELECTORS.map((name) => [name, name]);
  fillSelect("plane-split", splits, state.plane);
  byId("plane-split-help").textContent = splitHelp([state.plane]);
  byId("heat-split-help").textContent = splitHelp(state.split === "all" ? SPLITS : [state.split]);
  fillSelect("plane-axes", AXES, state.axes);
  fillSelect("plane-selector", selectors, state.selector);
  fillSelect("heat-split", [["all", `all (${contexts.length})`], ...splits], state.split);
  fillSelect(
    "heat-context",
    shownContexts().map((context) => [context.id, `${context.id} · ${context.split} · ${context.length} tokens`]),
    state.context,
  );
  fillSelect(
    "heat-color",
    COLORS.map((color) => [color, colorLabel(color)]),
    state.color,
  );
  fillSelect("heat-selector", selectors, state.selector);
  const quadrants = currentContext()?.quadrant ?? "";
  fillSelect(
    "heat-quadrant",
    [
      ["all", "all"],
      ...QUADRANTS.map((name) => [name, `${name}: ${QUADRANT_NAMES[name]} (n = ${quadrants.split(name).length - 1})`]),
    ],
    state.quadrant,
  );
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
  const choices = {
    "plane-split": "plane",
    "plane-axes": "axes",
    "plane-selector": "selector",
    "heat-split": "split",
    "heat-context": "context",
    "heat-color": "color",
    "heat-selector": "selector",
    "heat-quadrant": "quadrant",
  };
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
