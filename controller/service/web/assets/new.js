// The page for new runs: files are chosen, checked, uploaded and submitted; each becomes one run.

import { Refused, Unanswered, Upload, call, fingerprint, tried, tryNow } from "./upload.js";

const FILES_AT_ONCE = 3;
const SAID_MS = 400; // what happens within this time is announced as one sentence
const SHOWN_MS = 250; // between two changes of the figures of one file
const SPEED_MS = 8000; // the speed is that of this time
const ALIVE_MS = 5000; // how often a tab says that it still sends an upload
const KEPT_MS = 3 * 24 * 3600 * 1000; // longer than the service keeps an upload
const KEPT = "stenofleet.uploads";
const MARKS = {
  ready: "○", refused: "✕", sending: "▲", waiting: "…", joining: "…", paused: "‖", submitting: "…", failed: "✕", submitted: "✓", cancelled: "■",
};

const form = document.getElementById("new");
const input = document.getElementById("f-file");
const list = document.getElementById("files");
const most = Number(form.dataset.most) || Infinity;
const rows = [];

// ---------------------------------------------------------------- words

function size(bytes) {
  const units = ["bytes", "KB", "MB", "GB", "TB"];
  let value = bytes, unit = 0;
  while (value >= 1000 && unit < units.length - 1) { value /= 1000; unit += 1; }
  return `${unit && value < 100 ? value.toFixed(1) : Math.round(value)} ${units[unit]}`;
}

const exact = (bytes) => `${bytes.toLocaleString("en")} bytes`;

function took(seconds) {
  if (seconds < 60) return `${Math.max(1, Math.round(seconds))} s`;
  if (seconds < 3600) return `${Math.round(seconds / 60)} min`;
  return `${Math.floor(seconds / 3600)} h ${Math.round((seconds % 3600) / 60)} min`;
}

let toSay = [], sayTimer = 0;
/** Tells people who do not see the page what has changed. */
function say(text) {
  if (!toSay.includes(text)) toSay.push(text);
  clearTimeout(sayTimer);
  sayTimer = setTimeout(() => {
    document.getElementById("said").textContent = toSay.length > 4 ? `${toSay.slice(0, 3).join(". ")}, and ${toSay.length - 3} more.` : `${toSay.join(". ")}.`;
    toSay = [];
  }, SAID_MS);
}

function element(tag, { text = "", ...names } = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(names)) made.setAttribute(name, value);
  made.append(text, ...children);
  return made;
}

// ---------------------------------------------------------------- what this browser remembers of uploads

function kept() {
  try {
    const found = JSON.parse(localStorage.getItem(KEPT) || "{}");
    return found && typeof found === "object" ? found : {};
  } catch {
    return {};
  }
}

function keep(id, changes) {
  const all = kept();
  if (changes) all[id] = { ...all[id], ...changes };
  else delete all[id];
  try {
    localStorage.setItem(KEPT, JSON.stringify(all));
  } catch { /* a browser that keeps nothing cannot resume after a reload, and that is all */ }
}

const isAlive = (record) => Boolean(record) && Date.now() - record.seen < 3 * ALIVE_MS;

// ---------------------------------------------------------------- one recording

/** A file, or an address. `state`: one of MARKS. */
class Row {
  constructor(name, file) {
    this.name = name;
    this.file = file;
    this.state = "ready";
    this.text = "";
    this.upload = null;
    this.queued = false;
    this.print = ""; // its fingerprint
    this.goesOn = ""; // the upload that was interrupted
    this.looking = null; // a promise: whether there is one is known
    this.request = null; // what becomes of it, as it was when it was started
    this.key = hex(16);
    this.samples = [];
    this.shownAt = 0;
    this.timer = 0;
    this.quarter = 0;
    this.li = element("li");
    this.title = element("bdi", { text: name });
    this.about = element("span", { class: "note", text: file ? size(file.size) : "address" });
    this.mark = element("span", { "aria-hidden": "true" });
    this.word = element("span");
    this.bar = element("progress", { max: "100", value: "0", "aria-label": `Upload of ${name}`, hidden: "" });
    this.figures = element("span", { class: "note figures-of-one" });
    this.buttons = element("span", { class: "buttons" });
    this.li.append(
      element("p", { class: "what" }, this.title, " ", this.about),
      element("p", { class: "how" }, this.mark, " ", this.word, " ", this.figures),
      this.bar,
      this.buttons,
    );
    this.become("ready");
  }

  get isBusy() {
    return ["sending", "waiting", "joining", "submitting"].includes(this.state) || this.queued;
  }

  become(state, text = "", link = "") {
    this.state = state;
    this.text = text;
    this.mark.textContent = MARKS[state];
    this.li.className = `row ${state}`;
    const words = {
      ready: this.queued ? "waits until others are uploaded" : "ready", refused: text, sending: "uploading", waiting: text, joining: "uploaded: the service joins the parts", paused: "paused",
      submitting: text || "submitting", failed: text, submitted: "submitted:", cancelled: "cancelled",
    };
    this.word.replaceChildren(words[state]);
    if (link) this.word.append(" ", element("a", { href: link, text: `see the run of ${this.name}` }));
    this.bar.hidden = !["sending", "waiting", "joining", "paused", "failed"].includes(state) || !this.upload;
    this.figures.textContent = "";
    this.showButtons();
    this.showProgress(true);
    showStart();
  }

  showButtons() {
    const wanted = {
      ready: ["Remove"], refused: ["Remove"], sending: ["Pause", "Cancel"], waiting: ["Try now", "Cancel"], paused: ["Resume", "Cancel"],
      failed: ["Try again", "Cancel"], cancelled: ["Remove"], submitted: ["Remove"],
    }[this.state] || [];
    // The same button has another name: whoever is on it stays there.
    while (this.buttons.children.length > wanted.length) {
      const last = this.buttons.lastElementChild;
      if (last === document.activeElement && wanted.length) this.buttons.firstElementChild.focus();
      last.remove();
    }
    wanted.forEach((word, index) => {
      let button = this.buttons.children[index];
      if (!button) {
        button = element("button", { type: "button" });
        button.addEventListener("click", () => this.press(button.dataset.do));
        this.buttons.append(button);
      }
      if (button.dataset.do === word) return;
      button.dataset.do = word;
      button.replaceChildren(word, element("span", { class: "hidden", text: ` ${this.name}` }));
    });
  }

  press(word) {
    if (word === "Pause") this.upload.pause();
    else if (word === "Remove") this.remove();
    else if (word === "Cancel") this.cancel();
    else if (word === "Try now") tryNow();
    else this.go();
  }

  cancel() {
    if (this.upload) {
      this.upload.cancel();
      if (this.upload.id) keep(this.upload.id, null);
    }
    this.become("cancelled");
    say(`${this.name} is cancelled`);
  }

  remove() {
    const at = rows.indexOf(this);
    rows.splice(at, 1);
    const next = rows[Math.min(at, rows.length - 1)];
    this.li.remove();
    const button = next && next.buttons.querySelector("button");
    (button || input).focus();
    say(`${this.name} is removed from the list`);
    showStart();
  }

  showProgress(now = false) {
    const { upload } = this;
    if (!upload) return;
    const left = this.shownAt + SHOWN_MS - Date.now();
    clearTimeout(this.timer);
    if (!now && left > 0) {
      this.timer = setTimeout(() => this.showProgress(true), left);
      return;
    }
    this.shownAt = Date.now();
    const { sent } = upload, total = this.file.size, part = total ? sent / total : 0;
    this.bar.value = 100 * part;
    if (this.state !== "sending" && this.state !== "paused" && this.state !== "waiting" && this.state !== "failed") return;
    const shares = [`${Math.floor(100 * part)} %, ${size(sent)} of ${size(total)}`];
    if (this.state === "sending") {
      this.samples.push([this.shownAt, sent]);
      this.samples = this.samples.filter(([at]) => this.shownAt - at <= SPEED_MS);
      const [[at, before]] = this.samples;
      const speed = this.shownAt > at ? (1000 * (sent - before)) / (this.shownAt - at) : 0;
      if (speed > 0) shares.push(`${size(speed)}/s`, `about ${took((total - sent) / speed)} left`);
    } else this.samples = [];
    this.figures.textContent = shares.join(" · ");
    const quarter = Math.floor(4 * part);
    if (quarter > this.quarter && quarter < 4) say(`${this.name}: ${25 * quarter} percent`);
    this.quarter = Math.max(quarter, this.quarter);
  }

  /** Uploads it, and submits it. Can be called again after an error. */
  async go() {
    if (!this.file) {
      await this.submit({ ...this.request });
      return;
    }
    const upload = this.upload || this.begin();
    await upload.resume();
    if (upload.state === "complete") await this.submit({ ...this.request, upload: upload.id });
  }

  begin() {
    const upload = new Upload(this.file, this.goesOn);
    this.upload = upload;
    upload.addEventListener("progress", () => this.showProgress());
    upload.addEventListener("begun", () => { if (this.print) keep(upload.id, { print: this.print, begun: Date.now(), seen: Date.now() }); });
    upload.addEventListener("change", () => {
      const text = upload.state === "waiting" ? `${upload.text}: next try in ${took((upload.nextTryAt - Date.now()) / 1000)}` : upload.text;
      if (upload.state === "complete" || upload.state === "cancelled") return;
      const before = this.state;
      this.become(upload.state, text);
      // Not the numbers of seconds: who listens hears once that it waits.
      if (before === upload.state) return;
      if (upload.state === "waiting") say(`${this.name}: ${upload.text}, it is tried again`);
      if (upload.state === "paused") say(`${this.name} is paused`);
      if (upload.state === "failed") say(`${this.name} has failed: ${text}`);
      if (upload.state === "sending" && before !== "ready") say(`${this.name} is being uploaded`);
    });
    return upload;
  }

  async submit(body) {
    this.become("submitting");
    try {
      const headers = { "Idempotency-Key": this.file ? `page-${this.upload.id}` : `page-${this.key}` };
      const { value } = await tried(() => call("POST", "/v1/runs", { body, headers }), {
        signal: new AbortController().signal,
        onPause: (error, pauseMs) => this.become("submitting", `${error.message}: next try in ${took(pauseMs / 1000)}`),
      });
      if (this.upload) keep(this.upload.id, null);
      this.become("submitted", "", `/runs/${encodeURIComponent(value.id)}`);
      say(`${this.name} is submitted`);
    } catch (error) {
      const used = error instanceof Refused && ["upload-used", "idempotency-key-reused"].includes(error.kind);
      if (used && this.upload) {
        // The next try sends the file from the beginning.
        keep(this.upload.id, null);
        this.upload = null;
        this.goesOn = "";
      }
      this.become("failed", error.message);
      say(`${this.name} was not submitted: ${error.message}`);
    }
  }
}

function hex(bytes) {
  return Array.from(crypto.getRandomValues(new Uint8Array(bytes)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

// ---------------------------------------------------------------- the list

function add(files) {
  let added = 0;
  for (const file of files) {
    if (rows.some((row) => row.file && isSame(row.file, file) && row.state !== "cancelled" && row.state !== "submitted")) {
      say(`${file.name} is in the list already`);
      note(`${file.name} is in the list already.`);
      continue;
    }
    const row = new Row(file.name, file);
    rows.push(row);
    list.append(row.li);
    const wrong = problemOf(file);
    if (wrong) {
      row.become("refused", wrong);
      say(`${file.name} cannot be uploaded: ${wrong}`);
    } else {
      added += 1;
      if (file.type && !/^(audio|video|application)\//.test(file.type)) row.word.append(", but its name is not that of a recording");
      row.looking = lookFor(row);
    }
  }
  if (added) say(added === 1 ? "1 file is added" : `${added} files are added`);
  showStart();
}

const isSame = (one, other) => one.name === other.name && one.size === other.size && one.lastModified === other.lastModified;

/** What is wrong with a file, before anything of it is sent. */
function problemOf(file) {
  if (!file.size) return "it is empty (0 bytes)";
  if (file.size > most) return `it has ${exact(file.size)}, and one upload may have ${exact(most)}: split the recording, or ask the operator for a higher limit`;
  return "";
}

/** Finds the upload that was interrupted of the same file, if there is one. */
async function lookFor(row) {
  try {
    row.print = await fingerprint(row.file);
  } catch {
    row.become("refused", "it cannot be read: a folder, or a file that was moved");
    return;
  }
  const [id] = Object.entries(kept()).find(([, record]) => record.print === row.print && !isAlive(record)) || [];
  if (!id || rows.some((other) => other.goesOn === id)) return;
  try {
    const { value } = await call("GET", `/v1/uploads/${encodeURIComponent(id)}`);
    if (value.size_bytes !== row.file.size) return;
  } catch (error) {
    if (error instanceof Refused && error.status === 404) keep(id, null);
    return;
  }
  row.goesOn = id;
  const left = document.getElementById(`left-${id}`);
  if (left) left.remove();
  showLeft();
  if (row.state === "ready") row.word.append(": resumes where it was interrupted");
}

function note(text) {
  document.getElementById("note").textContent = text;
}

/** The button says what it does. */
function showStart() {
  const ready = rows.filter((row) => row.state === "ready" && !row.queued).length;
  const start = document.getElementById("start");
  start.textContent = ready > 1 ? `Transcribe ${ready} files` : "Transcribe";
  list.hidden = !rows.length;
  document.getElementById("none").hidden = rows.length > 0;
}

// ---------------------------------------------------------------- start

let isChecking = false;

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  if (isChecking) return;
  isChecking = true;
  note("");
  try {
    await start();
  } finally {
    isChecking = false;
  }
});

async function start() {
  showErrors(null);
  const ready = rows.filter((row) => row.state === "ready" && !row.queued);
  const body = new FormData(form);
  body.delete("file");
  body.set("files", String(ready.length));
  let checked;
  try {
    checked = (await call("POST", "/new/check", { body })).value;
  } catch (error) {
    showErrors(error);
    return;
  }
  const sources = checked.sources.map((address) => {
    const row = new Row(address, null);
    row.request = { ...checked.request, source: address };
    rows.push(row);
    list.append(row.li);
    return row;
  });
  const address = document.getElementById("f-source");
  if (address) address.value = "";
  for (const row of [...ready, ...sources]) {
    row.request = row.request || checked.request;
    row.queued = true; // from here on it is on its way, also while others are
    row.become("ready");
  }
  showStart();
  say(`${ready.length + sources.length} started`);
  document.getElementById("files-title").focus();
  const queue = [...ready, ...sources];
  const work = async () => {
    for (let row = queue.shift(); row; row = queue.shift()) {
      await row.looking;
      row.queued = false;
      if (row.state === "ready" && rows.includes(row)) await row.go();
    }
  };
  // Not all at once: the first ones are complete, and begin to be transcribed, while others wait.
  for (let worker = 0; worker < FILES_AT_ONCE; worker += 1) work();
}

/** Shows a problem: above the form with links, and at each field that it is about. null: there is none. */
function showErrors(error) {
  const summary = document.getElementById("errors");
  for (const old of form.querySelectorAll("[aria-invalid]")) old.removeAttribute("aria-invalid");
  for (const old of form.querySelectorAll("p.wrong")) { old.hidden = true; old.textContent = ""; }
  summary.hidden = error === null;
  summary.replaceChildren();
  if (error === null) return;
  summary.append(element("h2", { text: "This cannot be started" }));
  const items = [];
  for (const { pointer, detail } of error instanceof Refused ? error.errors : []) {
    const control = document.getElementById(`f-${pointer}`), place = document.getElementById(`e-${pointer}`);
    if (!control || !place) continue;
    control.setAttribute("aria-invalid", "true");
    place.textContent = detail;
    place.hidden = false;
    const folded = control.closest("details");
    if (folded) folded.open = true;
    const link = element("a", { href: `#f-${pointer}`, text: `${control.dataset.label}: ${detail}` });
    link.addEventListener("click", (event) => { event.preventDefault(); control.focus(); });
    items.push(element("li", {}, link));
  }
  if (items.length) summary.append(element("ul", {}, ...items));
  else summary.append(element("p", { text: error instanceof Unanswered || error instanceof Refused ? error.message : String(error) }));
  summary.focus();
}

// ---------------------------------------------------------------- files: chosen, dropped

input.multiple = true;
input.addEventListener("change", () => {
  add(Array.from(input.files));
  input.value = ""; // else the same file could not be chosen again
});

const zone = document.getElementById("zone");
const hasFiles = (event) => Array.from(event.dataTransfer ? event.dataTransfer.types : []).includes("Files");
for (const name of ["dragenter", "dragover"]) {
  document.addEventListener(name, (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault(); // else the browser would leave the page to show the file
    event.dataTransfer.dropEffect = "copy";
    zone.classList.add("over");
  });
}
document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) zone.classList.remove("over"); });
document.addEventListener("drop", (event) => {
  zone.classList.remove("over");
  if (!hasFiles(event)) return;
  event.preventDefault();
  const items = Array.from(event.dataTransfer.items || []);
  const folders = items.filter((item) => item.webkitGetAsEntry && item.webkitGetAsEntry() && item.webkitGetAsEntry().isDirectory);
  const names = new Set(folders.map((item) => item.webkitGetAsEntry().name));
  add(Array.from(event.dataTransfer.files).filter((file) => !(names.has(file.name) && !file.type)));
  if (names.size) note(`Folders are not read: choose the files in them (${Array.from(names).join(", ")}).`);
});

addEventListener("beforeunload", (event) => {
  if (rows.some((row) => row.isBusy)) event.preventDefault();
});

function noteAlive(seen) {
  for (const { upload } of rows) if (upload && kept()[upload.id]) keep(upload.id, { seen });
}

setInterval(() => noteAlive(Date.now()), ALIVE_MS);
addEventListener("pagehide", () => noteAlive(0)); // the next page may continue at once

// ---------------------------------------------------------------- uploads that were interrupted

function showLeft() {
  const left = document.getElementById("left");
  left.hidden = !left.querySelector("li");
}

async function findLeft() {
  const place = document.querySelector("#left ul");
  let found;
  try {
    found = (await call("GET", "/v1/uploads")).value.uploads;
  } catch {
    return; // who adds the same file again continues all the same
  }
  const records = kept();
  for (const upload of found) {
    if (isAlive(records[upload.id]) || rows.some((row) => row.goesOn === upload.id)) continue;
    const text = records[upload.id] ? "to resume, choose this file again" : "it was begun elsewhere, and cannot be resumed in this browser";
    const button = element("button", { type: "button", text: "Delete" }, element("span", { class: "hidden", text: ` ${upload.name}` }));
    const item = element("li", { id: `left-${upload.id}` }, element("bdi", { text: upload.name }), ` (${size(upload.size_bytes)}): ${text}. `, button);
    button.addEventListener("click", async () => {
      try {
        await call("DELETE", `/v1/uploads/${upload.id}`);
      } catch (error) {
        if (!(error instanceof Refused && error.status === 404)) { note(`${upload.name}: ${error.message}`); return; }
      }
      keep(upload.id, null);
      item.remove();
      showLeft();
      input.focus();
      say(`the upload of ${upload.name} is deleted`);
    });
    place.append(item);
  }
  showLeft();
}

const oldest = Date.now() - KEPT_MS;
for (const [id, record] of Object.entries(kept())) if (!(record.begun > oldest)) keep(id, null);
for (const hidden of form.querySelectorAll("[data-js]")) hidden.hidden = false;
for (const shown of document.querySelectorAll("[data-no-js]")) shown.hidden = true;
// A file that was chosen before this script came.
if (input.files.length) { add(Array.from(input.files)); input.value = ""; }
showStart();
findLeft();
