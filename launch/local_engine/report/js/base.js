// The data, values computed once, and elements

const DATA = JSON.parse(document.getElementById("data").textContent);
const NO_TOKEN = 0xffffff;
const MISSING = "missing";
const dark = window.matchMedia("(prefers-color-scheme: dark)");
const unique = (values) => [...new Set(values)];

const decoded = new Map();

function once(key, make) {
  if (!decoded.has(key)) decoded.set(key, make());
  return decoded.get(key);
}

const byId = (id) => document.getElementById(id);

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}

const el = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);
const svg = (tag, attributes = {}, ...children) =>
  fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
const cssColor = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
