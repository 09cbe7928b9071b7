// Token texts with their invisible characters made visible

const INVISIBLE =
  /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u00a0\u00ad\u200b\u200e\u200f\u2028-\u202f\u2060-\u2069\ufeff]/g;
function visible(text) {
  if (text === "") return "∅";
  return text
    .replace(/ /g, "␣")
    .replace(/\t/g, "⇥")
    .replace(/\r/g, "␍")
    .replace(/\n/g, "⏎")
    .replace(INVISIBLE, (sign) => `‹U+${sign.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}›`);
}

function visibleNodes(text) {
  return visible(text)
    .split(/([␣⇥␍⏎]+)/)
    .filter(Boolean)
    .map((part) => (/^[␣⇥␍⏎]/.test(part) ? el("span", { class: "ws" }, part) : part));
}
