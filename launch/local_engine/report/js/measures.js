// Measures of a run: a mean with its 95% interval each

const AGAINST_ZERO = { zero: "not distinguishable from 0", above: "above 0", below: "below 0" };
const MEASURES = {
  gain: { caption: "Gain, KL(teacher ‖ student)", ...AGAINST_ZERO },
  reverse_gain: { caption: "Reverse gain, KL(student ‖ teacher)", ...AGAINST_ZERO },
  vs_random: {
    caption: "Gain minus random at the same ratio",
    zero: "not distinguishable from random",
    above: "above random",
    below: "below random",
  },
};
const partsOf = (row, measure) => ["mean", "low", "high"].map((part) => row[`${measure}_${part}`]);

function reading(row, measure) {
  const { zero, above, below } = MEASURES[measure];
  const [mean, low, high] = partsOf(row, measure);
  if (!known(mean)) return "—";
  if (!known(low) || !known(high)) return "interval missing";
  if (low <= 0 && high >= 0) return zero;
  return low > 0 ? above : below;
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
