// Packed arrays, see packing.py: each is decoded when it is first shown

function bytes(text) {
  const raw = atob(text);
  const out = new Uint8Array(raw.length);
  for (let index = 0; index < raw.length; index += 1) out[index] = raw.charCodeAt(index);
  return out;
}

// float16 to number, all 65,536 of them
const HALVES = new Float32Array(65536);
for (let bits = 0; bits < 65536; bits += 1) {
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  let value = exponent === 0 ? fraction * 2 ** -24 : (1 + fraction / 1024) * 2 ** (exponent - 15);
  if (exponent === 31) value = fraction ? NaN : Infinity;
  HALVES[bits] = bits & 32768 ? -value : value;
}

function halves(text) {
  const raw = bytes(text);
  const out = new Float32Array(raw.length / 2);
  for (let index = 0; index < out.length; index += 1) out[index] = HALVES[raw[2 * index] | (raw[2 * index + 1] << 8)];
  return out;
}

function integers(text) {
  const raw = bytes(text);
  const out = new Uint32Array(raw.length / 3);
  for (let index = 0, at = 0; index < out.length; index += 1, at += 3)
    out[index] = raw[at] | (raw[at + 1] << 8) | (raw[at + 2] << 16);
  return out;
}

const bit = (mask, index) => (mask[index >> 3] >> (index & 7)) & 1;

let start = 0;
const contexts = DATA.contexts.map((context, index) => {
  const placed = { ...context, index, start };
  start += context.length;
  return placed;
});

const column = (name) => once(`c|${name}`, () => halves(DATA.columns[name]));
const tokenNumbers = () => once("tokens", () => integers(DATA.tokens));
const textAt = (place) => DATA.strings[tokenNumbers()[place]];
const counted = (place) => bit(once("counted", () => bytes(DATA.counted)), place) === 1;

const SELECTORS = [...new Set(DATA.kept.map((entry) => entry.selector))];
const RATIOS = [...new Set(DATA.kept.map((entry) => String(entry.ratio)))];
const keptEntry = (selector, ratio) =>
  DATA.kept.find((entry) => entry.selector === selector && String(entry.ratio) === String(ratio));

function isKept(selector, ratio, place) {
  const entry = keptEntry(selector, ratio);
  return entry !== undefined && bit(once(`k|${selector}|${ratio}`, () => bytes(entry.bits)), place) === 1;
}

function topTokens(side, place) {
  const source = DATA.top[side];
  if (source === undefined) return null;
  const { tokens, probs } = once(`t|${side}`, () => ({ tokens: integers(source.tokens), probs: halves(source.probs) }));
  const rows = [];
  for (let index = place * source.width; index < (place + 1) * source.width; index += 1)
    if (tokens[index] !== NO_TEXT) rows.push({ text: DATA.strings[tokens[index]], prob: probs[index] });
  return rows;
}

// Share of all tokens at most this value, to a percent.
function percentile(name, value) {
  const cuts = DATA.quantiles[name];
  if (!cuts.length || !Number.isFinite(value)) return null;
  let below = 0;
  while (below < 100 && cuts[below + 1] <= value) below += 1;
  return below;
}
