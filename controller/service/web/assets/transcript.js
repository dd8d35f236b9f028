// The transcript follows the sound, leads to it, and can be searched. Text is only read, never made into elements.

import { clock, seek, writes } from "./player.js";
import { lineAt, lines, placeAt, rangeOf, textOf, watch, wordsOf } from "./lines.js";
import { forget, search, unsure } from "./search.js";

const words = document.getElementById("words");
const byId = (id) => document.getElementById(id);
const follow = byId("follow"), found = byId("found"), find = byId("find"), only = byId("unsure");
const still = matchMedia("(prefers-reduced-motion: reduce)");
/** Older browsers mark lines, not words. */
const marks = "highlights" in CSS ? CSS.highlights : null;
const MOST_MARKED = 3000, MOST_EXACT = 1000;

// ---------------------------------------------------------------- the current line

let now = -1, shownWord = -1, at = 0;
/** Whether this script scrolls. */
let scrolls = false;

/** The part of the window that nothing covers, in px: [top, bottom]. */
const free = () => {
  const style = getComputedStyle(document.documentElement);
  return [parseFloat(style.scrollPaddingTop) || 0, innerHeight - (parseFloat(style.scrollPaddingBottom) || 0)];
};

const inView = (item) => {
  const box = item.getBoundingClientRect(), [top, bottom] = free();
  return box.bottom > top && box.top < bottom;
};

const show = (item) => {
  const box = item.getBoundingClientRect(), [top, bottom] = free();
  // A long way is a jump: on it the browser would lay out all that it passes.
  const near = box.top > top - innerHeight && box.bottom < bottom + innerHeight;
  scrolls = true;
  item.scrollIntoView({ block: "center", behavior: near && !still.matches ? "smooth" : "instant" });
  ended();
};

/** Scrolling has ended: after a while without any event of it. */
let timer = 0;
const ended = () => {
  clearTimeout(timer);
  timer = setTimeout(() => { scrolls = false; }, 200);
};

const markWord = (item) => {
  if (!marks) return;
  const all = wordsOf(item);
  let word = all.length - 1;
  while (word > 0 && all[word].ms > at) word--;
  if (word === shownWord) return;
  shownWord = word;
  const range = word < 0 ? null : rangeOf(item, all[word].from, all[word].to);
  if (range) marks.set("steno-now", new Highlight(range)); else marks.delete("steno-now");
};

const unmark = () => {
  const { items } = lines();
  items[now]?.classList.remove("now");
  items[now]?.removeAttribute("aria-current");
  marks?.delete("steno-now");
  shownWord = -1;
};

const timed = ({ ms, moved, playing }) => {
  at = ms;
  const { items } = lines(), line = lineAt(ms);
  if (line !== now) {
    const before = items[now];
    unmark();
    now = line;
    const item = items[line];
    if (item) {
      item.classList.add("now");
      item.setAttribute("aria-current", "true");
      const wanted = follow ? follow.checked : moved;
      const [top, bottom] = free(), box = item.getBoundingClientRect();
      // Only when it leaves the middle of the window: text that moves with each line is hard to read.
      const outside = box.bottom > bottom - (bottom - top) / 5 || box.top < top;
      if (wanted && outside && (moved || playing || before)) show(item);
    }
  } else if (moved && items[line] && (follow ? follow.checked : true) && !inView(items[line])) show(items[line]);
  if (items[line]) markWord(items[line]);
};

/** Somebody scrolls: the text follows the sound no more, until it is asked to. */
const scrolled = () => {
  if (scrolls) { ended(); return; }
  const item = lines().items[now];
  if (follow?.checked && item && !inView(item)) follow.checked = false;
};

const toNow = () => {
  const item = lines().items[Math.max(0, lineAt(at))];
  if (!item) return;
  if (follow) follow.checked = true;
  show(item);
};

// ---------------------------------------------------------------- from the text to the sound

let cursor = -1;

const clicked = (event) => {
  if (event.defaultPrevented || event.button !== 0 || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  const link = event.target.closest("li[data-start] > a");
  if (link) {
    event.preventDefault();
    const item = link.parentElement, all = wordsOf(item);
    seek(event.detail === 0 && cursor >= 0 && all[cursor] ? all[cursor].ms : Number(item.dataset.start), { play: true });
    return;
  }
  // Who selects text wants the text, who edits it too.
  if (!getSelection().isCollapsed || event.target.closest("button, input, textarea, [contenteditable]")) return;
  const place = placeAt(event.clientX, event.clientY);
  if (!place) return;
  const [item, offset] = place, word = wordsOf(item).find(({ to }) => offset < to);
  seek(word ? word.ms : Number(item.dataset.start));
};

const pointWord = (item, to) => {
  const all = wordsOf(item);
  if (!all.length) return;
  cursor = Math.min(all.length - 1, Math.max(0, to));
  const word = all[cursor], range = rangeOf(item, word.from, word.to);
  if (range) marks?.set("steno-word", new Highlight(range));
  const text = textOf(item).textContent.slice(word.from, word.to).trim();
  const doubt = Array.from(textOf(item).querySelectorAll("u")).find((mark) => range && mark.contains(range.startContainer));
  byId("said").textContent = `${text}, ${clock(word.ms)}${doubt ? `, unsure: ${doubt.title}` : ""}`;
};

const leaveWord = () => {
  cursor = -1;
  marks?.delete("steno-word");
};

const onTime = (event, item) => {
  const { items } = lines(), line = items.indexOf(item);
  const to = { ArrowUp: line - 1, ArrowDown: line + 1, Home: 0, End: items.length - 1 }[event.key];
  if (to !== undefined) {
    event.preventDefault();
    const link = items[to]?.querySelector(":scope > a");
    if (link) { stop(link); link.focus(); }
  } else if (event.key === "ArrowLeft" || event.key === "ArrowRight") {
    event.preventDefault();
    const forward = (event.key === "ArrowRight") === (getComputedStyle(textOf(item)).direction === "ltr");
    pointWord(item, forward ? cursor + 1 : cursor - 1);
  }
};

const pressed = (event) => {
  if (event.defaultPrevented || event.isComposing || event.ctrlKey || event.altKey || event.metaKey) return;
  const target = event.target;
  if (!(target instanceof Element) || writes(target)) return;
  if (event.key.toLowerCase() === "n" && target.closest("#player, #sound, #transcript") && find) {
    event.preventDefault();
    turn(event.shiftKey ? -1 : 1);
  } else if (!event.shiftKey && target.matches("#words li > a")) onTime(event, target.parentElement);
};

/** One stop of the tabulator in the transcript: nine thousand times would be nine thousand stops. */
let stopped = null;
const stop = (link) => {
  if (stopped) stopped.tabIndex = -1;
  stopped = link;
  link.tabIndex = 0;
};

const makeStop = () => {
  const first = words.querySelector("li[data-start] > a");
  if (first && !stopped?.isConnected) stop(first);
};

// ---------------------------------------------------------------- search

let hits = [], hit = -1;

/** When a hit is said; of thousands, when its line begins. */
const timeOf = ([{ line, from }]) => {
  const { starts, items } = lines();
  const word = hits.length > MOST_EXACT ? null : wordsOf(items[line]).find(({ to }) => from < to);
  return word?.ms ?? starts[line];
};

let times = [];
const tellHits = () => document.dispatchEvent(new CustomEvent("steno:hits", { detail: { ms: times, current: hit } }));

const ranges = (some) => some.flat().map(({ line, from, to }) => rangeOf(lines().items[line], from, to)).filter(Boolean);

const markChosen = () => {
  if (!marks) return;
  const chosen = new Highlight(...(hit >= 0 ? ranges([hits[hit]]) : []));
  chosen.priority = 1;
  marks.set("steno-chosen", chosen);
};

const count = () => {
  const wanted = find.value.trim() || only.checked;
  found.textContent = !wanted ? "" : !hits.length ? "not found"
    : `${hit < 0 ? "" : `${hit + 1} of `}${hits.length} hit${hits.length > 1 ? "s" : ""}${hit < 0 ? "" : `, at ${clock(lines().starts[hits[hit][0].line])}`}`;
};

const look = () => {
  hits = only.checked ? unsure(find.value) : search(find.value);
  hit = -1;
  times = hits.map(timeOf);
  marks?.set("steno-hit", new Highlight(...ranges(hits.slice(0, MOST_MARKED))));
  markChosen();
  tellHits();
  count();
};

const turn = (by) => {
  if (!hits.length) return;
  if (hit < 0) {
    // From where the reader is. Only blocks are measured: to measure a line, the browser lays out its block.
    const { items } = lines(), [top] = free();
    const block = Array.from(words.children).find((one) => one.getBoundingClientRect().bottom > top);
    const first = hits.findIndex(([{ line }]) =>
      block && (block.contains(items[line]) ? items[line].getBoundingClientRect().bottom > top
        : block.compareDocumentPosition(items[line]) & Node.DOCUMENT_POSITION_FOLLOWING));
    hit = first < 0 ? 0 : first;
    if (by < 0) hit = (hit + hits.length - 1) % hits.length;
  } else hit = (hit + by + hits.length) % hits.length;
  if (follow) follow.checked = false;
  const item = lines().items[hits[hit][0].line];
  show(item);
  stop(item.firstElementChild);
  markChosen();
  tellHits();
  count();
};

const beginSearch = () => {
  let waiting = 0;
  const now_ = () => { clearTimeout(waiting); waiting = 0; look(); };
  find.addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(now_, 150); });
  only.addEventListener("change", now_);
  byId("search").addEventListener("submit", (event) => { event.preventDefault(); if (waiting) now_(); turn(1); });
  byId("previous").addEventListener("click", () => turn(-1));
  find.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && event.shiftKey) { event.preventDefault(); if (waiting) now_(); turn(-1); }
  });
};

if (words) {
  makeStop();
  document.addEventListener("steno:time", (event) => timed(event.detail));
  addEventListener("scroll", scrolled, { passive: true });
  for (const kind of ["wheel", "touchmove"]) addEventListener(kind, () => { scrolls = false; }, { passive: true });
  words.addEventListener("click", clicked);
  words.addEventListener("focusin", (event) => { if (event.target.matches("li > a")) { stop(event.target); leaveWord(); } });
  document.addEventListener("keydown", pressed);
  byId("here")?.addEventListener("click", toNow);
  follow?.addEventListener("change", () => { if (follow.checked) toNow(); });
  if (find) beginSearch();
  let later = 0;
  watch(() => {
    forget();
    clearTimeout(later);
    later = setTimeout(() => { makeStop(); if (hits.length || find?.value) look(); }, 300);
  });
}
