// Sends files to the service in parts, over /v1/uploads, and can resume what was interrupted. Knows no page.

const EXPIRED = "urn:stenofleet:problem:upload-expired";
const PARTS_AT_ONCE = 3; // of all files together: browsers open six connections to one server
const SILENT_MS = 90_000; // without a byte: a connection that was cut somewhere reports nothing
const PAUSES_MS = [1, 2, 4, 8, 15, 30, 30, 30, 30, 30].map((seconds) => 1000 * seconds);
const SAMPLES = 64;
const SAMPLE_BYTES = 64 * 1024;

/** The service or the store did not answer, or not now: the same request may succeed later. */
export class Unanswered extends Error {
  constructor(text, waitMs = 0) {
    super(text);
    this.waitMs = waitMs;
  }
}

/** The service does not carry out a request. `errors`: of its parts, each with `pointer` and `detail`. */
export class Refused extends Error {
  constructor(status, problem) {
    const advice = problem.advice ? `${problem.detail}: ${problem.advice}` : problem.detail;
    super(advice || problem.title || `the service answered ${status}`);
    this.status = status;
    this.detail = problem.detail || this.message;
    this.errors = problem.errors || [];
    this.kind = String(problem.type || "").replace("urn:stenofleet:problem:", "");
  }
}

/** Calls the service, and returns the JSON that it answers. Throws Unanswered or Refused. */
export async function call(method, path, { body, headers = {}, signal } = {}) {
  const limit = AbortSignal.timeout(SILENT_MS);
  const options = { method, headers: { Accept: "application/json", ...headers }, signal: signal ? either(signal, limit) : limit };
  if (body instanceof FormData) options.body = body;
  else if (body !== undefined) {
    options.body = JSON.stringify(body);
    options.headers["Content-Type"] = "application/json";
  }
  let response, text;
  try {
    response = await fetch(path, options);
    text = await response.text();
  } catch (error) {
    if (signal && signal.aborted) throw error;
    throw new Unanswered("the service does not answer");
  }
  const found = parsed(text);
  // The page of a proxy where people sign in: nothing was done.
  if (response.ok && text && !/json/.test(response.headers.get("Content-Type") || "")) throw new Unanswered("the answer is not one of the service");
  if (response.ok) return { status: response.status, value: found, waitMs: waitOf(response.headers.get("Retry-After")) };
  throw refusal(response.status, found, response.headers.get("Retry-After"));
}

function either(...signals) {
  if (AbortSignal.any) return AbortSignal.any(signals);
  const controller = new AbortController();
  for (const signal of signals) signal.addEventListener("abort", () => controller.abort(signal.reason), { once: true });
  return controller.signal;
}

function refusal(status, problem, retryAfter) {
  if (status === 401) return new Refused(401, { detail: "You are signed out", advice: "sign in in another tab, then continue here" });
  if (status === 408 || status === 429 || status >= 500) {
    return new Unanswered(problem.detail || `the service answered ${status}`, waitOf(retryAfter));
  }
  return new Refused(status, problem);
}

function parsed(text) {
  try {
    const found = JSON.parse(text);
    return found && typeof found === "object" ? found : {};
  } catch {
    return {};
  }
}

function waitOf(retryAfter) {
  return /^\d{1,5}$/.test(retryAfter || "") ? 1000 * Number(retryAfter) : 0;
}

const network = new EventTarget();
/** Ends all waiting between tries. */
export const tryNow = () => network.dispatchEvent(new Event("now"));
addEventListener("online", tryNow);

/** Waits, or until `tryNow`. Throws if it is aborted. */
function wait(ms, signal) {
  return new Promise((resolve, reject) => {
    const end = (finish) => () => {
      clearTimeout(timer);
      network.removeEventListener("now", over);
      signal.removeEventListener("abort", stop);
      finish();
    };
    const over = end(resolve), stop = end(() => reject(signal.reason));
    const timer = setTimeout(over, ms);
    network.addEventListener("now", over);
    signal.addEventListener("abort", stop);
    if (signal.aborted) stop();
  });
}

/** Calls `step` until it succeeds, with growing pauses. `onPause(error, ms)` is called before each. `hasMoved()`: whether
 * there was progress since the last call, after which it has all its tries again. */
export async function tried(step, { signal, onPause, hasMoved = () => false }) {
  for (let tries = 0; ; ) {
    try {
      return await step();
    } catch (error) {
      if (signal.aborted || !(error instanceof Unanswered)) throw error;
      if (hasMoved()) tries = 0;
      if (tries === PAUSES_MS.length) throw error;
      const pauseMs = Math.max(PAUSES_MS[tries++], error.waitMs);
      onPause(error, pauseMs);
      await wait(pauseMs, signal);
    }
  }
}

/** What tells files apart: of the same bytes and the same time of change. Reads up to 4 MB of a file of any size. */
export async function fingerprint(file) {
  const known = [`${file.size}`, `${file.lastModified}`];
  const hash = globalThis.crypto && crypto.subtle; // only over HTTPS, and on this machine
  if (!hash) return known.join("-");
  const step = Math.max(SAMPLE_BYTES, Math.ceil(file.size / SAMPLES));
  const samples = [];
  for (let at = 0; at < file.size; at += step) samples.push(file.slice(at, at + SAMPLE_BYTES));
  samples.push(file.slice(Math.max(0, file.size - SAMPLE_BYTES)));
  const digest = await hash.digest("SHA-256", await new Blob(samples).arrayBuffer());
  return [...known, ...Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, "0"))].join("-");
}

/** Lets a number of tasks work at the same time, in the order in which they ask. */
class Slots {
  constructor(free) {
    this.free = free;
    this.waiting = [];
  }

  async take(signal) {
    signal.throwIfAborted();
    if (this.free > 0) {
      this.free -= 1;
      return;
    }
    await new Promise((resolve, reject) => {
      const entry = { resolve, stop: () => { this.waiting.splice(this.waiting.indexOf(entry), 1); reject(signal.reason); } };
      signal.addEventListener("abort", entry.stop, { once: true });
      entry.give = () => { signal.removeEventListener("abort", entry.stop); resolve(); };
      this.waiting.push(entry);
    });
  }

  give() {
    const next = this.waiting.shift();
    if (next) next.give();
    else this.free += 1;
  }
}

const slots = new Slots(PARTS_AT_ONCE);

/** One file on its way. Sends the event `change` when its `state` changes, and `progress` as bytes are sent.
 *
 * `state`: ready, sending, waiting (for the network, until `nextTryAt`), joining (the service makes one recording of
 * the parts), paused, failed (`text` says why; `resume` tries it again), complete, cancelled. */
export class Upload extends EventTarget {
  constructor(file, id = "") {
    super();
    this.file = file;
    this.id = id;
    this.state = "ready";
    this.text = "";
    this.nextTryAt = 0;
    this.stored = 0; // bytes that the service has
    this.flying = new Map(); // bytes that were sent of the parts on their way, by number
    this.stopping = null;
  }

  /** Bytes that are stored or were sent. */
  get sent() {
    let sum = this.stored;
    for (const bytes of this.flying.values()) sum += bytes;
    return Math.min(sum, this.file.size);
  }

  get isActive() {
    return ["sending", "waiting", "joining"].includes(this.state);
  }

  /** Begins, or resumes. */
  async resume() {
    if (this.isActive || this.state === "complete" || this.state === "cancelled") return;
    const stopping = new AbortController();
    this.stopping = stopping;
    this.become("sending");
    let before = this.stored;
    const signal = stopping.signal;
    try {
      await tried(() => this.advance(signal), {
        signal,
        hasMoved: () => {
          const moved = this.stored > before;
          before = this.stored;
          return moved;
        },
        onPause: (error, pauseMs) => {
          this.nextTryAt = Date.now() + pauseMs;
          this.become("waiting", error.message);
        },
      });
      this.become("complete");
    } catch (error) {
      if (signal.aborted) return; // pause or cancel said what it is now
      stopping.abort();
      if (error instanceof Refused && (error.status === 404 || error.kind === "upload-expired")) {
        // The next try begins another upload.
        this.id = "";
        this.stored = 0;
      }
      const lost = "what has arrived is kept for a day";
      this.become("failed", error instanceof Unanswered ? `${error.message}, after many tries: ${lost}` : error.message);
    }
  }

  /** Stops sending. Parts that have arrived stay; those on their way are sent again. */
  pause() {
    if (this.state !== "sending" && this.state !== "waiting") return;
    this.stop("paused");
  }

  /** Ends it, and has the service delete what it got. */
  async cancel() {
    if (this.state === "cancelled") return;
    this.stop("cancelled");
    if (this.id) await call("DELETE", `/v1/uploads/${this.id}`).catch(() => {}); // else it is deleted after a day
  }

  stop(state) {
    if (this.stopping) this.stopping.abort();
    this.flying.clear();
    this.become(state);
  }

  become(state, text = "") {
    this.state = state;
    this.text = text;
    this.dispatchEvent(new Event("change"));
  }

  /** Sends what is missing, until the recording is complete. */
  async advance(signal) {
    for (;;) {
      const view = await this.look(signal);
      this.stored = view.status === "incomplete" ? this.file.size - missingBytes(view) : this.file.size;
      this.dispatchEvent(new Event("progress"));
      if (view.status === "complete") return;
      if (view.missing_parts) {
        if (!view.parts.length) throw new Refused(409, { type: EXPIRED, detail: "the upload was not completed within a day" });
        if (this.state !== "sending") this.become("sending");
        await this.sendAll(view.parts, signal);
        continue;
      }
      if (this.state !== "joining") this.become("joining");
      const { status, waitMs } = await call("POST", `/v1/uploads/${this.id}:complete`, { signal });
      if (status === 200) return;
      await wait(waitMs || 2000, signal);
    }
  }

  async look(signal) {
    if (this.id) return (await call("GET", `/v1/uploads/${this.id}`, { signal })).value;
    const body = { name: this.file.name, size_bytes: this.file.size };
    const { value } = await call("POST", "/v1/uploads", { body, signal });
    this.id = value.id;
    this.dispatchEvent(new Event("begun"));
    return value;
  }

  /** Sends these parts, several at once. After the first error no other part is begun. */
  async sendAll(parts, signal) {
    const left = parts.slice();
    let failed = null;
    const work = async () => {
      while (left.length && !failed) {
        await slots.take(signal);
        const part = failed ? undefined : left.shift();
        try {
          if (part) await this.send(part, signal);
        } catch (error) {
          failed = failed || error;
        } finally {
          if (part) this.flying.delete(part.number);
          slots.give();
        }
      }
    };
    await Promise.all(parts.slice(0, PARTS_AT_ONCE).map(work));
    if (failed) throw failed;
  }

  async send(part, signal) {
    const piece = this.file.slice(part.offset, part.offset + part.size_bytes, "application/octet-stream");
    try {
      await sendPart(part, piece, signal, (bytes) => {
        this.flying.set(part.number, bytes);
        this.dispatchEvent(new Event("progress"));
      });
    } catch (error) {
      // A browser reports a file that it cannot read any more as a lost connection.
      if (error instanceof Unanswered && !(await isReadable(piece))) {
        throw new Refused(0, { detail: "the file cannot be read any more", advice: "it was changed or moved: choose it again" });
      }
      throw error;
    }
    this.stored += part.size_bytes;
  }
}

function missingBytes(view) {
  const last = view.size_bytes - (view.part_count - 1) * view.part_bytes;
  // The last part is missing if it is listed, or if not all missing ones are.
  const listed = view.parts.some((part) => part.number === view.part_count);
  const short = listed || view.missing_parts > view.parts.length ? view.part_bytes - last : 0;
  return view.missing_parts * view.part_bytes - short;
}

async function isReadable(piece) {
  try {
    await piece.slice(0, 1).arrayBuffer();
    await piece.slice(-1).arrayBuffer();
    return true;
  } catch {
    return false;
  }
}

/** Sends one part to where the service says. Only XMLHttpRequest tells how much was sent. */
function sendPart(part, piece, signal, onSent) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    let timer = 0;
    const end = (finish, value) => {
      clearTimeout(timer);
      signal.removeEventListener("abort", stop);
      finish(value);
    };
    const stop = () => { request.abort(); end(reject, signal.reason); };
    const watch = () => {
      clearTimeout(timer);
      timer = setTimeout(() => { request.abort(); end(reject, new Unanswered("the connection was lost")); }, SILENT_MS);
    };
    request.upload.addEventListener("progress", (event) => {
      watch();
      // A form has more than the part.
      onSent(Math.max(0, Math.min(piece.size, event.loaded - Math.max(0, event.total - piece.size))));
    });
    request.addEventListener("error", () => end(reject, new Unanswered("the connection was lost")));
    request.addEventListener("load", () => {
      if (request.status >= 200 && request.status < 300) end(resolve);
      else end(reject, answer(part, request));
    });
    request.open(part.method, part.url);
    let body = piece;
    if (part.method === "POST") {
      body = new FormData();
      for (const [name, value] of Object.entries(part.fields)) body.append(name, value);
      body.append("file", piece);
    }
    signal.addEventListener("abort", stop, { once: true });
    if (signal.aborted) { stop(); return; }
    watch();
    request.send(body);
  });
}

function answer(part, request) {
  // A form ends after an hour, and the upload has new ones.
  if (part.method === "POST") return new Unanswered(`the store of recordings refused a part (${request.status})`);
  // Completed elsewhere meanwhile: the next look at it tells.
  if (request.status === 409) return new Unanswered("the upload has changed");
  return refusal(request.status, parsed(request.responseText), request.getResponseHeader("Retry-After"));
}
