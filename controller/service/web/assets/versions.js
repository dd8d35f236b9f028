// What the page shows of the versions of a transcript: history, files, terms for a glossary, texts that were refused.

import { button, made, who } from "./parts.js";
import { clock } from "./player.js";

const byId = (id) => document.getElementById(id);
const MOST_SHOWN = 200;
const FILES = "Corrected transcript, with all corrections so far or those up to a version:";

export class Versions {
  /** *use*: uses a text for a line again; *forget*: forgets what was typed there; *edits*: whether it is being edited. */
  constructor(data, panel, { use, forget, edits }) {
    Object.assign(this, { data, use, forget, edits });
    this.links = Array.from(panel.querySelectorAll(".exports a"));
    byId("export-version").addEventListener("input", () => this.drawFiles());
    byId("history").addEventListener("toggle", () => this.drawHistory());
    byId("terms").addEventListener("toggle", () => this.drawTerms());
    document.addEventListener("steno:corrected", () => this.drawTerms());
  }

  draw() {
    this.drawHistory();
    this.drawFiles();
  }

  drawHistory() {
    if (!byId("history").open) return;
    const all = Array.from(this.data.history.values()).sort((one, other) => other.number - one.number);
    const list = byId("versions"), kept = list.contains(document.activeElement) ? document.activeElement.dataset.version : "";
    list.replaceChildren(...all.slice(0, MOST_SHOWN).map((one) => this.entry(one)));
    // Another person's correction must not take the focus away.
    if (kept) (list.querySelector(`[data-version="${kept}"]`) ?? byId("history").querySelector("summary")).focus();
    byId("versions-note").textContent = !all.length ? "Nothing was corrected yet."
      : all.length > MOST_SHOWN ? `The last ${MOST_SHOWN} of ${all.length}.` : "";
  }

  entry(one) {
    const item = made("li"), head = made("p"), change = made("p"), time = clock(1000 * one.start_s);
    const note = { valid: "", replaced: " (replaced since)", older: " (of an older transcript: not used)" }[one.state];
    head.append(
      made("b", `Version ${one.number}`), " at ", one.state === "older" ? time : made("a", time, { href: `#s${one.segment}` }),
      ` by ${who(one)}, `, made("time", new Date(one.created_at).toLocaleString(), { dateTime: one.created_at }), note,
    );
    const before = this.data.history.get(Math.max(0, ...one.based_on))?.text ?? one.machine_text;
    change.append(made("del", before || "(no words)", { dir: "auto" }), " ", made("ins", one.text || "(no words)", { dir: "auto" }));
    item.append(head, change);
    if (one.state !== "older" && this.data.lines.get(one.segment)?.text !== one.text) {
      const again = button("Use this text again", () => this.use(one.segment, one.text), { ariaLabel: `Use this text again: version ${one.number}` });
      again.dataset.version = one.number;
      item.append(again);
    }
    return item;
  }

  async drawTerms() {
    if (!byId("terms").open) return;
    const note = byId("terms-note"), list = byId("terms-list");
    try {
      const terms = await this.data.glossary();
      list.value = terms.map((one) => one.line).join("\n");
      list.rows = Math.min(12, Math.max(2, terms.length));
      list.hidden = !terms.length;
      note.textContent = terms.length ? "Words that people wrote in place of others. Copy those that the next run should know, a line each."
        : "No words were replaced by others yet.";
    } catch (error) { note.textContent = `Not read: ${error.message}`; }
  }

  /** Texts that are not saved and are not tried again by themselves. Nobody loses them without wanting it. */
  drawRefused() {
    const some = Array.from(this.data.drafts).filter(([segment, draft]) => draft.state === "refused" && !this.edits(segment));
    const now = some.map(([, draft]) => draft.id).join();
    if (now === this.refused) return;
    this.refused = now;
    byId("refused").hidden = !some.length;
    byId("refused-list").replaceChildren(...some.map(([segment, draft]) => {
      const item = made("li");
      item.append(made("bdi", draft.text || "(no words)"), made("p", `Not saved: ${draft.why}`, { className: "note" }));
      item.append(button("Try again", () => { draft.state = "typed"; this.data.flush(segment); }), " ", button("Forget it", () => this.forget(segment)));
      return item;
    }));
  }

  /** The files of the version that was chosen. */
  drawFiles() {
    const field = byId("export-version"), number = field.value.trim();
    field.max = this.data.version;
    const wrong = !field.validity.valid;
    field.setAttribute("aria-invalid", wrong);
    byId("exports-label").textContent = wrong ? `The last version is ${this.data.version}: the files are of that one.` : FILES;
    const version = number && !wrong ? number : "latest", named = version === "latest" ? ".corrected" : `.version-${version}`;
    for (const link of this.links) {
      const url = new URL(link.href);
      url.searchParams.set("version", version);
      link.href = url.pathname + url.search;
      link.download = link.download.replace(/\.(corrected|version-\d+)(?=\.\w+$)/, named);
    }
  }
}
