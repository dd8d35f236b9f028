// The lines of the transcript in the page: which one belongs to a time, and which word to a place in its text.

const words = document.getElementById("words");
let known = null;

/** All lines in order, with their times in ms. Made again when lines came or went. */
export const lines = () => {
  if (!known) {
    const items = words ? Array.from(words.querySelectorAll("li[data-start]")) : [];
    const times = (name) => Float64Array.from(items, (item) => Number(item.dataset[name]));
    known = { items, starts: times("start"), ends: times("end") };
  }
  return known;
};

/** Calls *changed* when lines came or went, or when their text is another. */
export const watch = (changed) => {
  if (!words) return;
  new MutationObserver((changes) => {
    // What else a line has, buttons and the field of its editor, is no text of it.
    const others = changes.some(({ target }) => target.matches?.(".block > ol, section, #words"));
    if (others) known = null;
    if (others || changes.some(({ target }) => (target.parentElement && target.nodeType === Node.TEXT_NODE ? target.parentElement : target).closest("li[data-start] > span"))) changed();
  }).observe(words, { childList: true, characterData: true, subtree: true });
};

/** The number of the line at a time: the last one that has begun; -1 before the first one. */
export const lineAt = (ms) => {
  const { starts } = lines();
  let low = 0, high = starts.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (starts[middle] <= ms) low = middle + 1; else high = middle;
  }
  return low - 1;
};

/** [begin, end] of the lines from *from* to *to* ms. Not longer than *most*: else null. */
export const timesWithin = (from, to, most) => {
  const { starts, ends } = lines(), first = Math.max(0, lineAt(from)), last = lineAt(to);
  if (!starts.length || last - first >= most) return null;
  return Array.from({ length: Math.max(0, last - first + 1) }, (_, at) => [starts[first + at], ends[first + at]]);
};

export const textOf = (item) => item.querySelector(":scope > span");

/** The words of a line: when each begins, and where it is in the text. Empty if that is not known. */
export const wordsOf = (item) => {
  const text = textOf(item).textContent;
  let ms = Math.floor(Number(item.dataset.start) / 10) * 10, place = 0;
  return (item.dataset.w ?? "").split(" ").filter(Boolean).map((part) => {
    const [after, length] = part.split("+").map(Number);
    ms += 10 * after;
    place += length;
    return { ms, from: place - length + (text[place - length] === " " ? 1 : 0), to: place };
  });
};

/** A part of the text of a line as a range. */
export const rangeOf = (item, from, to) => {
  const walker = document.createTreeWalker(textOf(item), NodeFilter.SHOW_TEXT);
  let passed = 0, begin = null;
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const end = passed + node.length;
    if (!begin && from < end) begin = [node, from - passed];
    if (begin && to <= end) {
      return new StaticRange({ startContainer: begin[0], startOffset: begin[1], endContainer: node, endOffset: to - passed });
    }
    passed = end;
  }
  return null;
};

/** Where a point of the page is in the text of a line: [line, offset]; null if there is no text. */
export const placeAt = (x, y) => {
  let node, offset;
  if (document.caretPositionFromPoint) {
    const found = document.caretPositionFromPoint(x, y);
    if (found) ({ offsetNode: node, offset } = found);
  } else if (document.caretRangeFromPoint) {
    const found = document.caretRangeFromPoint(x, y);
    if (found) ({ startContainer: node, startOffset: offset } = found);
  }
  const text = node?.nodeType === Node.TEXT_NODE ? node.parentElement.closest("li[data-start] > span") : null;
  if (!text) return null;
  const walker = document.createTreeWalker(text, NodeFilter.SHOW_TEXT);
  let passed = 0;
  for (let one = walker.nextNode(); one && one !== node; one = walker.nextNode()) passed += one.length;
  return [text.parentElement, passed + offset];
};
