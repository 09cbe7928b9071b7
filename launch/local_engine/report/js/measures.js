// Measures of a run: a mean with its 95% interval each

const AGAINST_ZERO = {
  verdicts: { zero: "not distinguishable from 0", above: "above 0", below: "below 0" },
  note: "Blue: above or below 0. Grey with a hollow dot: not distinguishable from 0. Both for this trained student.",
};
const INTERVAL_MISSING = "interval missing";
const MEASURES = {
  gain: { caption: "Gain, KL(teacher ‖ student)", ...AGAINST_ZERO },
  reverse_gain: { caption: "Reverse gain, KL(student ‖ teacher)", ...AGAINST_ZERO },
  vs_random: {
    caption: "Gain minus random at the same ratio",
    verdicts: null,
    note: "One draw against one draw: two random selections can differ as much; compare several seeds.",
  },
};
const partsOf = (row, measure) => ["mean", "low", "high"].map((part) => row[`${measure}_${part}`]);

// kind: "sure", "crosses" (the interval holds 0), or "plain" where there is no verdict
function reading(row, measure) {
  const { verdicts } = MEASURES[measure];
  const [, low, high] = partsOf(row, measure);
  if (!known(low) || !known(high)) return { kind: "plain", text: INTERVAL_MISSING, spoken: INTERVAL_MISSING };
  if (!verdicts) return { kind: "plain", text: "", spoken: "" };
  const holdsZero = low <= 0 && high >= 0;
  const text = holdsZero ? verdicts.zero : low > 0 ? verdicts.above : verdicts.below;
  return { kind: holdsZero ? "crosses" : "sure", text, spoken: `${text}, for this trained student` };
}

// Rows by label, seeds rising; labels in the order of their mean gain, so that a method has one place everywhere
function resultGroups() {
  const groups = new Map();
  for (const row of DATA.results) groups.set(row.label, [...(groups.get(row.label) ?? []), row]);
  const place = (rows) => {
    const gains = rows.map((row) => row.gain_mean).filter(known);
    return gains.length ? gains.reduce((sum, gain) => sum + gain, 0) / gains.length : -Infinity;
  };
  return [...groups]
    .map(([label, rows]) => ({ label, rows: ordered(rows), place: place(rows) }))
    .sort((first, second) => (first.place === second.place ? 0 : second.place - first.place));
}
