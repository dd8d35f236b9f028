// Small parts of pages: elements with text, names, and the words of a line that was corrected.

export const made = (tag, text = "", more = {}) => Object.assign(document.createElement(tag), { textContent: text, ...more });
export const button = (text, done, more) => {
  const found = made("button", text, { type: "button", ...more });
  found.addEventListener("click", done);
  return found;
};
/** As the service does it: the same kinds of white space. */
const SPACE = /[\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+/u;
export const oneLine = (text) => text.split(SPACE).filter(Boolean).join(" ");
/** Who wrote a correction. */
export const who = (one) => one.author || "somebody";

/** The words of a corrected line, marked as the model's are; those that a person wrote are marked as such. */
export const pieces = (line) => {
  if (!line.words.length) return [document.createTextNode(line.text)];
  const found = [];
  for (const { word, probability } of line.words) {
    const level = probability === null ? "ins" : probability < 0.25 ? "v" : probability < 0.5 ? "u" : "";
    const last = found.at(-1);
    if (last && last.level === level) { last.text += word; last.low = Math.min(last.low, probability ?? 1); }
    else found.push({ level, text: word, low: probability ?? 1 });
  }
  return found.flatMap(({ level, text, low }) => {
    if (!level) return [document.createTextNode(text)];
    const bare = text.trimStart();
    const mark = made(level === "ins" ? "ins" : "u", bare);
    if (level === "v") mark.className = "v";
    if (level !== "ins") mark.title = `${Math.round(100 * low)} %`;
    return [document.createTextNode(text.slice(0, text.length - bare.length)), mark];
  });
};

/** When each word begins and how long it is, as the player reads it. */
export const times = (line) => {
  let at = Math.floor(line.start_s * 100 + 1e-6);
  return line.words.map(({ word, start_s: start }) => {
    const begins = Math.max(at, Math.floor(start * 100 + 1e-6)), part = `${begins - at}+${word.length}`;
    at = begins;
    return part;
  }).join(" ");
};
