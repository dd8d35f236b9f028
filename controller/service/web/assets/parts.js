// Small parts of pages: elements with text, times, names.

export const made = (tag, text = "", more = {}) => Object.assign(document.createElement(tag), { textContent: text, ...more });
export const button = (text, done, more) => {
  const found = made("button", text, { type: "button", ...more });
  found.addEventListener("click", done);
  return found;
};
export const clock = (s) => [Math.floor(s / 3600), Math.floor(s / 60) % 60, Math.floor(s) % 60].map((n, at) => (at ? String(n).padStart(2, "0") : n)).join(":");
/** As the service does it: the same kinds of white space. */
const SPACE = /[\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+/u;
export const oneLine = (text) => text.split(SPACE).filter(Boolean).join(" ");
/** Who wrote a correction. */
export const who = (one) => one.author || "somebody";
