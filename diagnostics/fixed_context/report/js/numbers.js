// Numbers as text

const known = (value) => value !== null && value !== undefined && !Number.isNaN(value);
const count = (value) => value.toLocaleString("en");

function format(value, digits = 4) {
  if (!known(value)) return "missing";
  if (value === Infinity) return "∞";
  if (value === -Infinity) return "−∞";
  const size = Math.abs(value);
  const text = size !== 0 && (size < 1e-3 || size >= 1e5) ? size.toExponential(digits - 2) : size.toPrecision(digits);
  const short = text.includes("e") || !text.includes(".") ? text : text.replace(/\.?0+$/, "");
  return (value < 0 ? "−" : "") + short;
}

const signed = (value, digits = 3) => (known(value) && value > 0 ? "+" : "") + format(value, digits);
