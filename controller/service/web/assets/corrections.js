// The corrections of a transcript: read while others write, saved until the service has them. Knows nothing of the page.

const POLL_MS = 3000, TYPING_MS = 1200, FIRST_RETRY_MS = 2000, LONGEST_RETRY_MS = 30000, MOST_HEADS = 100;

/** An answer that is no success: `again` says whether the same request may succeed later. */
class Refused extends Error {
  constructor(text, again) { super(text); this.again = again; }
}

const asked = async (address, options) => {
  let reply;
  try {
    reply = await fetch(address, { ...options, headers: { Accept: "application/json", ...options?.headers } });
  } catch { throw new Refused("the service does not answer", true); }
  if (reply.ok) {
    // Cut off, or the page of a proxy where people sign in.
    try { return await reply.json(); } catch { throw new Refused("the answer is not one of the service", true); }
  }
  const problem = await reply.json().catch(() => ({}));
  if (reply.status === 401) throw new Refused("you are not signed in any more: sign in again in another window", true);
  const text = [problem.detail, problem.advice].filter(Boolean).join("; ") || `the service answers ${reply.status}`;
  throw new Refused(text, reply.status >= 500 || reply.status === 429 || reply.status === 408);
};

/** Random, also where a page has no secure context. */
const newId = () => Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");

export class Corrections extends EventTarget {
  /** Events: `lines` {segments} when lines are others, `saving` when the state of what is not saved is another. */
  constructor(address) {
    super();
    this.address = address;
    this.version = 0;
    this.lines = new Map();
    this.history = new Map();
    this.conflicts = [];
    /** By segment: what a person typed and the service does not have yet. */
    this.drafts = new Map();
    /** What this window saved and can take back, the last one last. */
    this.mine = [];
    /** The numbers of all that this window saved. */
    this.own = new Set();
    this.problem = "";
    this.kept = true;
    /** Each window keeps its own drafts: several of one person would overwrite each other's. */
    this.keys = `steno:drafts:${address}:`;
    this.key = `${this.keys}${newId()}`;
  }

  // -------------------------------------------------------------- what the service has

  /** Reads everything once, then what is new every few seconds while somebody looks. */
  async follow() {
    await this.read();
    this.restore();
    const loop = async () => {
      if (!document.hidden) await this.read();
      setTimeout(loop, POLL_MS);
    };
    setTimeout(loop, POLL_MS);
    document.addEventListener("visibilitychange", () => { if (!document.hidden) this.read(); });
  }

  async read() {
    try {
      for (let after = this.version; after !== null;) {
        const page = await asked(`${this.address}?after=${after}`);
        after = page.next_after;
        this.take(page.corrections, page.lines, after === null ? page.version : page.corrections.at(-1).number, page.conflicts);
      }
      this.setProblem("");
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      this.setProblem(error.message);
    }
  }

  take(corrections, lines, version, conflicts) {
    // An answer that is older than a line that was saved meanwhile may have told fewer: then they change without a line.
    const changed = [...conflicts].sort().join() !== [...this.conflicts].sort().join();
    const fresh = version > this.version || lines.length || changed;
    for (const one of corrections) this.history.set(one.number, one);
    for (const line of lines) {
      this.lines.set(line.segment, line);
      // Those that it replaces were valid when they were read.
      for (const one of this.history.values()) if (one.segment === line.segment && one.state === "valid") one.state = "replaced";
      for (const one of line.valid) this.history.set(one.number, one);
    }
    this.version = Math.max(this.version, version);
    this.conflicts = conflicts;
    if (fresh) this.dispatchEvent(new CustomEvent("lines", { detail: { segments: lines.map((line) => line.segment) } }));
  }

  setProblem(text) {
    if (text === this.problem) return;
    this.problem = text;
    this.dispatchEvent(new Event("saving"));
  }

  // -------------------------------------------------------------- what a person types

  /** As many as one correction can replace: of more, the others are left for the next one. */
  valid(segment) { return (this.lines.get(segment)?.valid ?? []).map((one) => one.number).slice(-MOST_HEADS); }

  /** Keeps what was typed, and saves it when the person pauses; *now*: at once. *machine*: the text of the model. */
  type(segment, text, { basedOn, machine, author, now = false, undo = false }) {
    const before = this.drafts.get(segment);
    const draft = before ?? { tries: 0, busy: false, timer: 0 };
    if (draft.text !== text || draft.id === undefined) draft.id = newId();
    Object.assign(draft, { text, machine, author, undo, state: "typed", tries: 0 });
    if (!before) draft.basedOn = basedOn;
    this.drafts.set(segment, draft);
    this.store();
    this.plan(segment, now ? 0 : TYPING_MS);
    this.dispatchEvent(new Event("saving"));
  }

  plan(segment, ms) {
    const draft = this.drafts.get(segment);
    clearTimeout(draft.timer);
    draft.timer = setTimeout(() => this.save(segment), ms);
  }

  /** Saves at once what is not saved. */
  flush(segment) {
    const draft = this.drafts.get(segment);
    if (draft && !draft.busy && draft.state !== "refused") this.plan(segment, 0);
  }

  async save(segment) {
    const draft = this.drafts.get(segment);
    if (!draft || draft.busy) return;
    const { id, text, machine, basedOn, author, undo } = draft;
    // It may be dropped meanwhile, and another one may be there when the answer comes.
    const isThere = () => this.drafts.get(segment) === draft;
    draft.busy = true;
    draft.state = "saving";
    this.dispatchEvent(new Event("saving"));
    try {
      const saved = await asked(this.address, {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ segment, text, machine_text: machine, based_on: basedOn, author, id }),
      });
      draft.busy = false;
      this.own.add(saved.correction.number);
      // What takes back another one is not itself taken back: the one before it is next.
      if (!undo) this.mine.push({ number: saved.correction.number, segment });
      // What is typed from now on replaces this one, and not what others wrote meanwhile.
      draft.basedOn = [saved.correction.number];
      if (isThere()) { if (draft.id === id) this.drafts.delete(segment); else this.plan(segment, TYPING_MS); }
      const next = saved.correction.number === this.version + 1 ? saved.correction.number : this.version;
      const others = this.conflicts.filter((one) => one !== segment);
      this.take([saved.correction], [saved.line], next, saved.line.is_conflict ? [...others, segment] : others);
      this.problem = "";
      document.dispatchEvent(new CustomEvent("steno:corrected", { detail: { version: saved.version } }));
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      draft.busy = false;
      draft.why = error.message;
      if (!isThere()) { /* nobody wants it any more */ }
      else if (error.again) {
        draft.state = "waiting";
        this.plan(segment, Math.min(FIRST_RETRY_MS * 2 ** draft.tries++, LONGEST_RETRY_MS));
      } else if (draft.id === id) draft.state = "refused";
      else this.plan(segment, TYPING_MS);
    }
    this.store();
    this.dispatchEvent(new Event("saving"));
  }

  /** Forgets what was typed. */
  drop(segment) {
    clearTimeout(this.drafts.get(segment)?.timer);
    this.drafts.delete(segment);
    this.store();
    this.dispatchEvent(new Event("saving"));
  }

  // -------------------------------------------------------------- drafts outlive the page

  store() {
    const kept = Array.from(this.drafts, ([segment, { text, machine, basedOn, author, id }]) => ({ segment, text, machine, basedOn, author, id }));
    try {
      if (kept.length) localStorage.setItem(this.key, JSON.stringify(kept)); else localStorage.removeItem(this.key);
      this.kept = true;
    } catch { this.kept = false; }
  }

  /** What was typed before the page was loaded again, or in a window that is gone, is saved now. */
  restore() {
    for (const key of this.keptKeys()) {
      let kept = [];
      try { kept = JSON.parse(localStorage.getItem(key) ?? "[]"); } catch { /* another program wrote it */ }
      const left = (Array.isArray(kept) ? kept : []).filter((one) => !this.adopt(one));
      try {
        // First here: what is deleted there must be somewhere.
        this.store();
        if (left.length) localStorage.setItem(key, JSON.stringify(left)); else localStorage.removeItem(key);
      } catch { /* the same correction sent twice is one */ }
    }
    if (this.drafts.size) this.dispatchEvent(new CustomEvent("lines", { detail: { segments: Array.from(this.drafts.keys()) } }));
  }

  keptKeys() {
    try { return Object.keys(localStorage).filter((key) => key.startsWith(this.keys) && key !== this.key); } catch { return []; }
  }

  /** Takes over a draft. False: it waits until that of the same line is saved, and the page is loaded again. */
  adopt(kept) {
    const { segment, text, machine, basedOn, author, id } = kept ?? {};
    if (!Number.isInteger(segment) || ![text, machine, author, id].every((one) => typeof one === "string") || !Array.isArray(basedOn)) return true;
    const before = this.drafts.get(segment);
    if (before) return before.id === id;
    this.drafts.set(segment, { text, machine, basedOn, author, id, undo: false, tries: 0, busy: false, timer: 0, state: "typed" });
    this.plan(segment, 0);
    return true;
  }

  async glossary() { return (await asked(`${this.address}/glossary`)).terms; }
}
