// Colour ramps: ordered in lightness, so they also read without hue

const RAMPS = {
  light: {
    sequential: ["#fffde0", "#e4f3bd", "#b3dfbd", "#74c5c1", "#3ca6c3", "#2580b8", "#2757a0", "#253781", "#101d55"],
    diverging: ["#8c3f00", "#c9670c", "#eea553", "#fadbb0", "#f6f6f4", "#cfe2f0", "#86b8dc", "#3a83bd", "#124f8c"],
  },
  dark: {
    sequential: ["#33214f", "#40407f", "#3a5a8c", "#2f728e", "#268a8d", "#2aa37f", "#57bd67", "#a5d43f", "#fde725"],
    diverging: ["#ffc47a", "#f0983c", "#bd6a18", "#70441d", "#2b2f35", "#1e4669", "#2d73a8", "#5ba5d8", "#a6d6f7"],
  },
};

const channels = (hex) => [1, 3, 5].map((at) => Number.parseInt(hex.slice(at, at + 2), 16));

function rampColor(kind, share) {
  const stops = RAMPS[dark.matches ? "dark" : "light"][kind];
  const place = Math.min(1, Math.max(0, share)) * (stops.length - 1);
  const index = Math.min(Math.floor(place), stops.length - 2);
  const [from, to] = [channels(stops[index]), channels(stops[index + 1])];
  return from.map((value, channel) => Math.round(value + (to[channel] - value) * (place - index)));
}

const cssRgb = (rgb) => `rgb(${rgb.join(" ")})`;

function inkOn(rgb) {
  const [red, green, blue] = rgb.map((value) =>
    value <= 10 ? value / 3294.6 : ((value / 255 + 0.055) / 1.055) ** 2.4,
  );
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.179 ? "#000" : "#fff";
}

// Ends of the ramp: the 2% and 98% quantiles of all tokens; of a change the larger of both, so that 0 is the middle.
function scaleOf(name) {
  const cuts = DATA.quantiles[name];
  if (!cuts.length) return { low: NaN, high: NaN, kind: "sequential" };
  if (!name.endsWith(":change")) return { low: cuts[2], high: cuts[98], kind: "sequential" };
  const edge = Math.max(Math.abs(cuts[2]), Math.abs(cuts[98])) || 1;
  return { low: -edge, high: edge, kind: "diverging" };
}

const shareOf = ({ low, high }, value) => (high > low ? (value - low) / (high - low) : 0.5);
