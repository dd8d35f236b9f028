// Corrects the transcript in place: by the keyboard alone too. Text is only ever text, never made into elements.

import { Corrections } from "./corrections.js";
import { button, made, oneLine, pieces, times, who } from "./parts.js";
import { clock } from "./player.js";
import { Versions } from "./versions.js";

const panel = document.getElementById("corrections");
const words = document.getElementById("words");
const byId = (id) => document.getElementById(id);

const lineOf = (segment) => byId(`s${segment}`), segmentOf = (item) => Number(item.id.slice(1));
const textOf = (item) => item.querySelector(":scope > span");
let data = null, author = null, state = null, versions = null;

// ---------------------------------------------------------------- how a line looks

/** By segment: what the model's line is made of. */
const machine = new Map();

const machineOf = (item) => {
  const segment = segmentOf(item);
  if (!machine.has(segment)) {
    const text = textOf(item);
    machine.set(segment, { nodes: Array.from(text.childNodes), times: item.dataset.w, text: oneLine(text.textContent) });
  }
  return machine.get(segment);
};

/** What is saved with a text of a line. */
const context = (segment, basedOn, more) =>
  ({ basedOn, machine: machineOf(lineOf(segment)).text, author: author.value.trim(), ...more });

const shownText = (segment) =>
  data.drafts.get(segment)?.text ?? data.lines.get(segment)?.text ?? machineOf(lineOf(segment)).text;

const draw = (segment) => {
  const item = lineOf(segment), draft = data.drafts.get(segment);
  // What was typed into the line of an older transcript is not shown in another one.
  if (!item || (draft && draft.machine !== machineOf(item).text)) return;
  const own = machineOf(item), line = data.lines.get(segment);
  const changed = line && line.text !== line.machine_text;
  const nodes = draft ? [document.createTextNode(draft.text)] : changed ? pieces(line) : own.nodes;
  textOf(item).replaceChildren(...nodes);
  const placed = draft ? "" : changed ? times(line) : own.times;
  if (placed) item.dataset.w = placed; else delete item.dataset.w;
  item.classList.toggle("corrected", Boolean(changed || draft));
  item.querySelector(":scope > .by")?.remove();
  item.querySelector(":scope > .conflict")?.remove();
  if (changed || draft) {
    const empty = (draft ?? line).text === "", label = draft ? "not saved yet" : line.is_conflict ? "corrected twice" : `corrected by ${who(line.valid.at(-1))}`;
    item.append(made("small", empty ? `no words here; ${label}` : label, { className: "by", lang: "en" }));
  }
  if (line?.is_conflict) item.append(choice(line));
  if (edited?.segment === segment) edited.refresh(line);
};

/** What people wrote at the same time: both are kept until somebody chooses. */
const choice = (line) => {
  const box = made("div", "", { className: "conflict", lang: "en" });
  box.setAttribute("role", "group");
  box.setAttribute("aria-label", `Different corrections of the line at ${clock(1000 * line.start_s)}`);
  box.append(made("b", "Corrected by two people at the same time. Both texts are kept; the last one is used until you choose:"));
  const list = made("ul");
  for (const one of line.valid) {
    const entry = made("li"), text = made("bdi", one.text || "(no words)");
    entry.append(made("i", `${who(one)}: `), text, " ", button("Use this", () => resolve(line.segment, one.text), {
      ariaLabel: `Use this: the text of ${who(one)}, ${one.text || "no words"}`,
    }));
    list.append(entry);
  }
  box.append(list);
  return box;
};

const resolve = (segment, text) => {
  const valid = data.valid(segment);
  if (edited?.segment === segment) close(false);
  data.drop(segment);
  data.type(segment, text, context(segment, valid, { now: true }));
  focusLine(segment);
};

// ---------------------------------------------------------------- editing a line

let edited = null;

class Edit {
  constructor(item, selection) {
    this.item = item;
    this.segment = segmentOf(item);
    machineOf(item);
    this.begun = shownText(this.segment);
    this.basedOn = data.valid(this.segment);
    this.box = made("div", "", { className: "edit", lang: "en" });
    this.field = made("textarea", "", { value: this.begun, rows: 1, maxLength: 5000, spellcheck: true, dir: "auto" });
    this.field.lang = words.lang;
    this.field.setAttribute("aria-label", `Text of the line at ${clock(item.dataset.start)}`);
    this.field.setAttribute("aria-describedby", "edit-state edit-keys");
    this.state = made("p", "", { id: "edit-state", className: "edit-state" });
    this.other = made("p", "", { className: "other" });
    this.other.setAttribute("role", "status");
    const keys = made("p", "Enter or Esc: save and leave. Ctrl Enter: next line. Ctrl Z: undo.", { id: "edit-keys", className: "note" });
    const line = data.lines.get(this.segment);
    const back = button("Model's text", () => this.set(line?.machine_text ?? machineOf(item).text));
    const row = made("div", "", { className: "row" });
    row.append(button("Done", () => close()), back, this.state);
    this.box.append(this.field, row, this.other, keys);
    item.append(this.box);
    item.classList.add("editing");
    this.field.addEventListener("input", () => this.typed());
    this.field.addEventListener("keydown", (event) => this.pressed(event));
    this.box.addEventListener("focusout", (event) => {
      if (!this.box.contains(event.relatedTarget) && document.hasFocus()) data.flush(this.segment);
    });
    this.fit();
    this.field.focus();
    const [from, to] = selection ?? [this.field.value.length, this.field.value.length];
    this.field.setSelectionRange(from, to);
    this.tell();
  }

  get text() { return oneLine(this.field.value); }

  fit() {
    this.field.style.height = "auto";
    this.field.style.height = `${this.field.scrollHeight + 2}px`;
  }

  /** So that Ctrl+Z takes it back. */
  set(text) {
    this.field.focus();
    this.field.select();
    if (!document.execCommand("insertText", false, text)) { this.field.value = text; this.typed(); }
  }

  typed() {
    this.fit();
    const saved = data.lines.get(this.segment)?.text ?? machineOf(this.item).text;
    // Back at what is saved, before anything was sent: nothing is to be saved.
    if (this.text === saved && !data.drafts.get(this.segment)?.busy) data.drop(this.segment);
    else data.type(this.segment, this.text, context(this.segment, this.basedOn));
    this.tell();
  }

  pressed(event) {
    if (event.isComposing) return;
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); next(this.item); }
    else if (event.key === "Enter" || event.key === "Escape") { event.preventDefault(); event.stopPropagation(); close(); }
  }

  /** Somebody's correction of this line has come. */
  refresh(line) {
    const draft = data.drafts.get(this.segment);
    if (!line || draft) { this.tellOther(line); return; }
    if (this.text !== line.text) {
      // Nothing was typed here since the last save: what others wrote is shown at once.
      const from = this.field.selectionStart, to = this.field.selectionEnd;
      this.field.value = line.text;
      this.field.setSelectionRange(from, to);
      this.fit();
    }
    const last = line.valid.at(-1), mine = data.own.has(last.number);
    // What is typed after this replaces what is seen now; a conflict stays until somebody chooses.
    this.basedOn = line.is_conflict && mine ? [last.number] : data.valid(this.segment);
    this.other.textContent = mine ? "" : `${who(last)} has just changed this line.`;
    this.tell();
  }

  tellOther(line) {
    const last = line?.valid.at(-1);
    const seen = !last || this.basedOn.includes(last.number) || data.own.has(last.number);
    this.other.textContent = seen ? "" : `Meanwhile ${who(last)} has written: ${last.text || "(no words)"}. Yours is kept too.`;
  }

  tell() { this.state.textContent = stateOf(data.drafts.get(this.segment)) || (data.lines.has(this.segment) ? "Saved" : ""); }
}

const stateOf = (draft) => !draft ? "" : {
  typed: "Not saved yet", saving: "Saving …",
  waiting: `Not saved: ${draft.why}. It is kept in this browser and tried again.`,
  refused: `Not saved: ${draft.why}`,
}[draft.state];

const open = (item, selection) => {
  if (!item) return;
  if (edited) { if (edited.item === item) return; close(false); }
  edited = new Edit(item, selection);
  textOf(item).hidden = true;
  pen.remove();
};

const close = (focus = true) => {
  const { item, segment, box } = edited;
  data.flush(segment);
  edited = null;
  box.remove();
  item.classList.remove("editing");
  textOf(item).hidden = false;
  draw(segment);
  if (focus) focusLine(segment);
};

const focusLine = (segment) => {
  const item = lineOf(segment);
  item.querySelector(":scope > a").focus({ preventScroll: true });
};

const next = (item) => {
  const all = Array.from(words.querySelectorAll("li[data-start]")), after = all[all.indexOf(item) + 1];
  if (!after) { close(); return; }
  after.scrollIntoView({ block: "nearest" });
  open(after);
};

/** One button for all lines: at the line where the reader is. */
const pen = button("✎", () => open(pen.closest("li")), { className: "pen", lang: "en", title: "Edit" });

const place = (item) => {
  if (item && pen.parentElement !== item && edited?.item !== item) {
    pen.setAttribute("aria-label", `Edit the line at ${clock(item.dataset.start)}`);
    item.append(pen);
  }
  return pen;
};

// ---------------------------------------------------------------- undo

const undo = () => {
  const last = data.mine.at(-1), line = last && data.lines.get(last.segment);
  if (!line) { say("Nothing to undo."); return; }
  const now = line.valid.at(-1), undone = data.history.get(last.number);
  if (line.is_conflict || !data.own.has(now.number) || now.text !== undone.text) {
    say(`${who(now)} has changed this line since: see the history.`);
    return;
  }
  const before = data.history.get(Math.max(0, ...undone.based_on));
  data.mine.pop();
  data.type(last.segment, before?.text ?? line.machine_text, context(last.segment, data.valid(last.segment), { now: true, undo: true }));
  say(`Undone: the line at ${clock(1000 * line.start_s)}.`);
};

// ---------------------------------------------------------------- the state as a whole

const say = (text) => { if (state.textContent !== text) state.textContent = text; };

const tell = () => {
  const open = Array.from(data.drafts.values()), stuck = open.find((one) => one.why && ["waiting", "refused"].includes(one.state));
  const count = `${open.length} line${open.length > 1 ? "s" : ""}`;
  if (stuck) say(`Not saved: ${count}, because ${stuck.why}. ${data.kept ? "The text is kept in this browser" : "Do not close this page"}${stuck.state === "waiting" ? " and tried again." : "."}`);
  else if (open.length) say("Saving …");
  else if (data.problem) say(`What others write is not shown now: ${data.problem}.`);
  else say(data.version ? `All corrections are saved: version ${data.version}.` : "");
  panel.dataset.state = stuck ? "stuck" : open.length ? "saving" : "saved";
  edited?.tell();
  versions?.drawRefused();
};

const tellConflicts = () => {
  const count = data.conflicts.length, go = byId("conflicts");
  go.hidden = !count;
  go.textContent = `${count} line${count > 1 ? "s" : ""} with different corrections`;
};

/** The name that was typed here last. Where a browser keeps nothing, it is typed again. */
const remembered = (name) => {
  try {
    if (name !== undefined) localStorage.setItem("steno:author", name);
    return localStorage.getItem("steno:author") ?? "";
  } catch { return ""; }
};

let shownConflict = -1;
const nextConflict = () => {
  const all = [...data.conflicts].sort((one, other) => one - other);
  shownConflict = all.find((segment) => segment > shownConflict) ?? all[0];
  const item = lineOf(shownConflict);
  item?.scrollIntoView({ block: "center" });
  item?.querySelector(".conflict button")?.focus({ preventScroll: true });
};

const begin = () => {
  data = new Corrections(`/v1/runs/${panel.dataset.run}/corrections`);
  author = byId("author");
  state = byId("corrections-state");
  author.value = remembered();
  author.addEventListener("change", () => remembered(author.value.trim()));
  versions = new Versions(data, panel, {
    use: resolve,
    forget: (segment) => { data.drop(segment); if (lineOf(segment)) draw(segment); byId("history").querySelector("summary").focus(); },
    edits: (segment) => edited?.segment === segment,
  });
  data.addEventListener("lines", ({ detail }) => { detail.segments.forEach(draw); tellConflicts(); versions.draw(); tell(); });
  data.addEventListener("saving", tell);
  words.addEventListener("focusin", (event) => { if (event.target.matches("li[data-start] > a")) place(event.target.parentElement); });
  words.addEventListener("click", (event) => { if (!event.target.closest("button, textarea, .edit")) place(event.target.closest("li[data-start]")); });
  words.addEventListener("pointerover", (event) => { if (event.pointerType === "mouse") place(event.target.closest("li[data-start]")); });
  words.addEventListener("dblclick", (event) => {
    const item = event.target.closest("li[data-start]");
    if (!item || event.target.closest("a, button, .edit, .conflict")) return;
    const chosen = getSelection(), text = textOf(item);
    let selection = null;
    if (chosen.rangeCount && text.contains(chosen.anchorNode)) {
      const before = document.createRange(), shown = text.textContent, lead = shown.length - shown.trimStart().length;
      before.setStart(text, 0);
      before.setEnd(chosen.getRangeAt(0).startContainer, chosen.getRangeAt(0).startOffset);
      const from = Math.max(0, before.toString().length - lead);
      selection = [from, from + chosen.toString().trimEnd().length];
    }
    open(item, selection);
  });
  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.isComposing || event.altKey || !(event.target instanceof Element)) return;
    if (event.target.matches("input, textarea, select")) return;
    const item = event.target.closest("#transcript li[data-start]"), key = event.key.toLowerCase();
    if (key === "e" && item && !event.ctrlKey && !event.metaKey && !event.shiftKey) { event.preventDefault(); open(item); }
    else if (key === "z" && (event.ctrlKey || event.metaKey) && !event.shiftKey && event.target.closest("#transcript, #corrections")) { event.preventDefault(); undo(); }
  });
  byId("undo").addEventListener("click", undo);
  byId("conflicts").addEventListener("click", nextConflict);
  addEventListener("online", () => { for (const segment of data.drafts.keys()) data.flush(segment); });
  addEventListener("pagehide", () => data.store());
  addEventListener("beforeunload", (event) => { if (data.drafts.size && !data.kept) event.preventDefault(); });
  for (const one of panel.querySelectorAll("[data-live]")) one.hidden = false;
  data.follow();
};

if (panel && words) begin();
