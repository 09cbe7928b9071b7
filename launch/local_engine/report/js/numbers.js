// Numbers and text

function format(value, digits = 4) {
  if (value === null || value === undefined || Number.isNaN(value)) return MISSING;
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
  if (value === 0) return "0";
  const size = Math.abs(value);
  const text =
    size < 1e-4 || size >= 1e6
      ? value.toExponential(digits - 1)
      : size >= 10 ** (digits - 1)
        ? value.toFixed(0)
        : value.toPrecision(digits);
  return text.replace("e+", "e").replaceAll("-", "−");
}

const signed = (value, digits = 3) => (value > 0 ? "+" : "") + format(value, digits);

function fixedSigned(values) {
  const largest = Math.max(0, ...values.filter(known).map(Math.abs));
  const places = largest > 0 ? Math.min(8, Math.max(1, 3 - Math.ceil(Math.log10(largest)))) : 1;
  return (value) => (known(value) ? (value > 0 ? "+" : "") + value.toFixed(places).replace("-", "−") : MISSING);
}

const count = (value) => value.toLocaleString("en-US");
const percent = (part, whole) => (whole ? `${((100 * part) / whole).toFixed(1)}%` : "—");
const known = (value) => typeof value === "number" && Number.isFinite(value);
const ordered = (rows) => [...rows].sort((first, second) => first.seed - second.seed);

function ticks(low, high, wanted, smallest = 0) {
  const span = high - low || Math.abs(high) || 1;
  const power = 10 ** Math.floor(Math.log10(span / wanted));
  const fits = (size) => size >= smallest && span / size <= wanted;
  const step = [1, 2, 5, 10].map((factor) => factor * power).find(fits) ?? Math.max(smallest, 10 * power);
  const values = [];
  for (let index = Math.ceil(low / step - 1e-9); index * step <= high + step * 1e-9; index += 1)
    values.push(index * step);
  const places = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  return values.map((value) => ({
    value,
    text:
      places > 6
        ? format(value, 2)
        : value
            .toFixed(places)
            .replace(/^-(?=0(\.0*)?$)/, "")
            .replace("-", "−"),
  }));
}

function bounds(values) {
  let [low, high] = [Infinity, -Infinity];
  for (const value of values) {
    if (value < low) low = value;
    if (value > high) high = value;
  }
  if (low >= 0 && low < 0.25 * high) low = 0;
  return high > low ? [low, high] : [low - 0.5, high + 0.5];
}

function median(values) {
  const sorted = Float32Array.from(values).sort();
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}
