// Finds words in the transcript, as many lines as they go over, whatever their case and accents.

import { lines, textOf } from "./lines.js";

const folds = new Map();

/** A character without case and accents, of the same length, so that places in the text stay the same. */
const fold = (character) => {
  let folded = folds.get(character);
  if (folded === undefined) {
    folded = character.normalize("NFD").replace(/\p{M}/gu, "").toLowerCase();
    if (folded.length !== character.length) folded = character;
    folds.set(character, folded);
  }
  return folded;
};

const folded = (text) => text.replace(/[^\x00-\x7f]|[A-Z]/gu, fold);

let known = null;

/** The text has changed: it is read again when it is needed. */
export const forget = () => { known = null; };

/** The text of all lines, one after the other with a space between, and where each begins. */
const text = () => {
  if (!known) {
    const begins = [], parts = [];
    let at = 0;
    for (const item of lines().items) {
      // A line begins with the space of its first word, or the words of two lines would have two between them.
      const part = folded(textOf(item).textContent).trimEnd(), spaces = part.length - part.trimStart().length;
      begins.push(at - spaces);
      parts.push(part.slice(spaces));
      at += part.length - spaces + 1;
    }
    known = { begins: Int32Array.from(begins), all: parts.join(" ") };
  }
  return known;
};

const lineOf = (begins, place) => {
  let low = 0, high = begins.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (begins[middle] <= place) low = middle + 1; else high = middle;
  }
  return Math.max(0, low - 1);
};

/** All places of *wanted*: line, and from where to where in its text. A hit over several lines is that of its first. */
export const search = (wanted) => {
  const query = folded(wanted.normalize("NFC").trim().replace(/\s+/g, " ")), hits = [];
  if (!query) return hits;
  const { begins, all } = text();
  for (let place = all.indexOf(query); place >= 0; place = all.indexOf(query, place + query.length)) {
    const line = lineOf(begins, place);
    const last = lineOf(begins, place + query.length - 1);
    const parts = [];
    for (let one = line; one <= last; one++) {
      const length = textOf(lines().items[one]).textContent.length;
      const from = Math.max(0, place - begins[one]), to = Math.min(length, place + query.length - begins[one]);
      if (from < to) parts.push({ line: one, from, to });
    }
    if (parts.length) hits.push(parts);
  }
  return hits;
};

/** The words of which the model was unsure, as hits; with *wanted*, only those hits that have one. */
export const unsure = (wanted) => {
  const hits = [];
  lines().items.forEach((item, line) => {
    const marks = item.getElementsByTagName("u");
    if (!marks.length) return;
    let place = 0;
    for (const node of textOf(item).childNodes) {
      const length = node.textContent.length;
      if (node.nodeName === "U") hits.push([{ line, from: place, to: place + length }]);
      place += length;
    }
  });
  if (!wanted.trim()) return hits;
  const marked = new Map();
  for (const [{ line, from, to }] of hits) marked.set(line, [...(marked.get(line) ?? []), [from, to]]);
  return search(wanted).filter((parts) => parts.some(({ line, from, to }) =>
    (marked.get(line) ?? []).some(([begin, end]) => begin < to && from < end)));
};
