// Reads the peaks of a waveform: the overview at once, parts of the detail when they are shown.

const HEADER_BYTES = 24;
const PART_STEPS = 8192;
const MOST_PARTS = 40;

/** One level of a waveform: [lowest, highest] sample of any stretch, in 1/128 of full scale. */
class Level {
  constructor(stepMs) {
    this.stepMs = stepMs;
    this.parts = new Map();
  }

  /** The lowest and the highest sample from *begin* to *end* ms; null where it is not known (yet). */
  range(begin, end) {
    const first = Math.max(0, Math.floor(begin / this.stepMs));
    const last = Math.max(first + 1, Math.ceil(end / this.stepMs));
    let low = 127, high = -128;
    for (let step = first; step < last; step++) {
      const part = this.parts.get(Math.floor(step / PART_STEPS));
      const at = 2 * (step % PART_STEPS);
      if (!part || at >= part.length) continue;
      if (part[at] < low) low = part[at];
      if (part[at + 1] > high) high = part[at + 1];
    }
    return low > high ? null : [low, high];
  }
}

/** The overview: small, and read as a whole. */
export const overview = async (url) => {
  const answer = await fetch(`${url}?level=overview`);
  if (!answer.ok) throw new Error(`the service answered ${answer.status}`);
  const bytes = await answer.arrayBuffer();
  const header = new DataView(bytes);
  const level = new Level(header.getInt32(12, true) / header.getInt32(8, true) * 1000);
  const samples = new Int8Array(bytes, HEADER_BYTES);
  for (let at = 0, number = 0; at < samples.length; at += 2 * PART_STEPS, number++) {
    level.parts.set(number, samples.subarray(at, at + 2 * PART_STEPS));
  }
  return level;
};

/** The detail: *arrived* is called when a part has come that range() needs. */
export const detail = (url, stepMs, durationMs, arrived) => {
  const level = new Level(stepMs);
  const asked = new Set();
  level.want = (begin, end) => {
    const steps = Math.ceil(durationMs / stepMs);
    const last = Math.floor(Math.min(end / stepMs, steps - 1) / PART_STEPS);
    for (let number = Math.floor(Math.max(0, begin) / stepMs / PART_STEPS); number <= last; number++) {
      if (level.parts.has(number) || asked.has(number)) continue;
      asked.add(number);
      const first = HEADER_BYTES + 2 * PART_STEPS * number;
      const range = `bytes=${first}-${first + 2 * PART_STEPS - 1}`;
      fetch(`${url}?level=detail`, { headers: { Range: range } })
        .then(async (answer) => {
          if (answer.status !== 206) throw new Error(`the service answered ${answer.status}`);
          level.parts.set(number, new Int8Array(await answer.arrayBuffer()));
          // The oldest parts go first.
          while (level.parts.size > MOST_PARTS) level.parts.delete(level.parts.keys().next().value);
          arrived();
        })
        // It is asked for again when it is shown again later.
        .catch(() => setTimeout(() => asked.delete(number), 5000))
        .then(() => { if (level.parts.has(number)) asked.delete(number); });
    }
  };
  return level;
};
