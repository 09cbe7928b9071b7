// Contexts and their packed arrays: 3 bytes per number in base64, see packing.py

function words(text, shift) {
  const raw = atob(text);
  const out = new Uint32Array(raw.length / 3);
  for (let index = 0, at = 0; index < out.length; index += 1, at += 3) {
    const word = raw.charCodeAt(at) | (raw.charCodeAt(at + 1) << 8) | (raw.charCodeAt(at + 2) << 16);
    out[index] = word << shift;
  }
  return out;
}

const integers = (text) => words(text, 0);
const floats = (text) => new Float32Array(words(text, 8).buffer);

const contexts = DATA.contexts.map((source, index) => ({ ...source, index, length: source.tokens.length / 4 }));
const SPLITS = unique(contexts.map((context) => context.split));
const SCORES = unique(contexts.flatMap((context) => Object.keys(context.scores)));
const SELECTORS = unique(contexts.flatMap((context) => Object.keys(context.kept)));
const GAINS = unique(contexts.flatMap((context) => Object.keys(context.gain)));
const COLORS = [...SCORES.map((name) => `score:${name}`), ...GAINS.map((name) => `gain:${name}`)];

const tokenTexts = (context) =>
  once(`t${context.index}`, () => Array.from(integers(context.tokens), (number) => DATA.vocabulary[number]));
const arrayOf = (context, name) => once(`a${context.index}|${name}`, () => floats(context[name]));
const noValues = (length) => new Float32Array(length).fill(NaN);

function colorValues(context, color) {
  const [, kind, name] = /^(score|gain):([^]*)$/.exec(color);
  const packed = (kind === "score" ? context.scores : context.gain)[name];
  return once(`c${context.index}|${color}`, () => (packed === undefined ? noValues(context.length) : floats(packed)));
}

function topTokens(context, side, position) {
  const source = context[side];
  const { tokens, probs } = once(`p${context.index}|${side}`, () => ({
    tokens: integers(source.tokens),
    probs: floats(source.probs),
  }));
  const rows = [];
  for (let index = position * source.width; index < (position + 1) * source.width; index += 1)
    if (tokens[index] !== NO_TOKEN) rows.push({ text: DATA.vocabulary[tokens[index]], prob: probs[index] });
  return rows;
}

const isKept = (context, selector, position) => context.kept[selector]?.[position] === "1";

function sortedValues(color) {
  return once(`s|${color}`, () => {
    const parts = contexts.map((context) => colorValues(context, color));
    const all = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
    let at = 0;
    for (const part of parts) for (const value of part) if (Number.isFinite(value)) all[at++] = value;
    return all.subarray(0, at).sort();
  });
}

const quantile = (sorted, part) => sorted[Math.round(part * (sorted.length - 1))];

function rankShare(sorted, value) {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sorted[middle] <= value) low = middle + 1;
    else high = middle;
  }
  return low / sorted.length;
}
