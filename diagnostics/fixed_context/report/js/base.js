// The data, values computed once, and elements

const DATA = JSON.parse(document.getElementById("data").textContent);
const NO_TEXT = 0xffffff;
const dark = window.matchMedia("(prefers-color-scheme: dark)");
const byId = (id) => document.getElementById(id);

const made = new Map();

function once(key, make) {
  if (!made.has(key)) made.set(key, make());
  return made.get(key);
}

function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes))
    if (value !== null && value !== undefined) node.setAttribute(name, value);
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}

// Texts of tokens with their invisible characters made visible

const INVISIBLE =
  /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u00a0\u00ad\u200b\u200e\u200f\u2028-\u202f\u2060-\u2069\ufeff]/g;
const spellOut = (sign) => `‹U+${sign.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}›`;

function visible(text) {
  if (text === "") return "∅";
  return text
    .replace(/ /g, "␣")
    .replace(/\t/g, "⇥")
    .replace(/\r/g, "␍")
    .replace(/\n/g, "⏎")
    .replace(INVISIBLE, spellOut);
}

const visibleNodes = (text) =>
  visible(text)
    .split(/([␣⇥␍⏎]+)/)
    .filter(Boolean)
    .map((part) => (/^[␣⇥␍⏎]/.test(part) ? el("span", { class: "ws" }, part) : part));
