// Draws the sound over its length and a part of it, with words, gaps, cuts, hits of the search and where the player is.

import { clock, seek } from "./player.js";
import { timesWithin } from "./lines.js";
import { detail, overview } from "./peaks.js";

const DETAIL_STEP_MS = 40;
const ZOOMS_MS = [5_000, 15_000, 30_000, 60_000, 180_000, 600_000, 1_800_000];
const TICKS_S = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800];
const CUTS = { pause: "cut in a pause", tight: "cut in a short dip", forced: "cut inside speech" };
const BAND = 9, AXIS = 16, HEAD = 12, TAIL = 9;
const MOST_LINES = 2000;
const FONT = "11px system-ui, sans-serif";

const wave = document.getElementById("wave");
const system = matchMedia("(forced-colors: active)");
let colours = {};

const readColours = () => {
  const style = getComputedStyle(document.documentElement);
  const of = (name, forced) => (system.matches ? forced : style.getPropertyValue(name).trim());
  colours = {
    wave: of("--wave", "CanvasText"), heard: of("--heard", "GrayText"), spoken: of("--spoken", "CanvasText"), gap: of("--bad", "CanvasText"),
    text: of("--text", "CanvasText"), soft: of("--soft", "CanvasText"), warn: of("--warn", "CanvasText"),
    at: of("--link", "Highlight"), hit: of("--hit", "Highlight"), page: of("--card", "Canvas"), faint: of("--faint", "Canvas"),
  };
};

/** What is drawn in every strip. */
const of = {
  duration: 0, cuts: [], sound: [], speech: [], gaps: [], hits: [], hit: -1,
  coarse: null, fine: null, at: 0, window: null,
  /** Counts changes of what is drawn. */
  version: 0,
};

const within = (parts, ms) => parts.some(([begin, end]) => begin <= ms && ms < end);

/** What is at a time, in words. */
const described = (ms) => {
  const words = [`${clock(ms)} of ${clock(of.duration)}`];
  if (of.cuts.length) words.push(`chunk ${of.cuts.reduce((chunk, cut) => (cut[0] <= ms ? cut[2] : chunk), of.cuts[0][2] - 1)}`);
  if (within(of.gaps, ms)) words.push("no transcript");
  else if (of.speech.length) words.push(within(of.speech, ms) ? "words" : "no words");
  const near = of.cuts.find((cut) => Math.abs(cut[0] - ms) < 2000);
  if (near) words.push(CUTS[near[1]]);
  return words.join(", ");
};

/** A canvas with some part of the recording, which is also a slider for the keyboard. */
class Strip {
  constructor(parent, name, height) {
    this.from = 0;
    this.to = of.duration;
    this.canvas = document.createElement("canvas");
    this.canvas.className = "strip";
    this.canvas.height = height;
    this.height = height;
    this.hover = null;
    this.small = 1000;
    this.waiting = 0;
    /** Everything that stays while it plays, and what it was made of. */
    this.picture = document.createElement("canvas");
    this.made = "";
    const canvas = this.canvas;
    canvas.tabIndex = 0;
    canvas.setAttribute("role", "slider");
    canvas.setAttribute("aria-label", name);
    canvas.setAttribute("aria-valuemin", "0");
    canvas.setAttribute("aria-valuemax", String(Math.round(of.duration / 1000)));
    parent.prepend(canvas);
    new ResizeObserver(() => this.soon()).observe(canvas);
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      canvas.setPointerCapture(event.pointerId);
      this.pointed(event);
    });
    canvas.addEventListener("pointermove", (event) => {
      this.hover = this.time(event);
      if (canvas.hasPointerCapture(event.pointerId)) this.pointed(event);
      this.soon();
    });
    canvas.addEventListener("pointerleave", () => { this.hover = null; this.soon(); });
    canvas.addEventListener("keydown", (event) => this.pressed(event));
    this.value();
  }

  time(event) {
    const box = this.canvas.getBoundingClientRect();
    const part = Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
    return this.from + part * (this.to - this.from);
  }

  pointed(event) { seek(this.time(event)); }

  /** Lengths of a step and of a large step of the keys. */
  steps() { return [5000, Math.max(30_000, of.duration / 50)]; }

  pressed(event) {
    if (event.ctrlKey || event.altKey || event.metaKey || event.shiftKey) return;
    const [small, large] = this.steps();
    const to = {
      ArrowLeft: of.at - small, ArrowDown: of.at - small, ArrowRight: of.at + small, ArrowUp: of.at + small,
      PageDown: of.at - large, PageUp: of.at + large, Home: 0, End: of.duration,
    }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    seek(Math.min(of.duration, Math.max(0, to)));
  }

  /** The value for screen readers. Not while it plays: they would say each of them. */
  value() {
    this.canvas.setAttribute("aria-valuenow", String(Math.round(of.at / 1000)));
    this.canvas.setAttribute("aria-valuetext", described(of.at));
  }

  soon() {
    if (!this.waiting) this.waiting = requestAnimationFrame(() => { this.waiting = 0; this.draw(); });
  }

  x(ms) { return (ms - this.from) / (this.to - this.from) * this.width; }

  draw() {
    const ratio = devicePixelRatio || 1, width = this.canvas.clientWidth;
    if (!width) return;
    this.width = width;
    const wide = Math.round(width * ratio), high = Math.round(this.height * ratio);
    const wanted = [this.from, this.to, wide, high, of.version].join();
    if (this.made !== wanted) {
      this.made = wanted;
      for (const one of [this.canvas, this.picture]) { one.width = wide; one.height = high; }
      const pen = this.picture.getContext("2d");
      pen.setTransform(ratio, 0, 0, ratio, 0, 0);
      this.drawPicture(pen);
    }
    const pen = this.canvas.getContext("2d");
    pen.setTransform(1, 0, 0, 1, 0, 0);
    pen.drawImage(this.picture, 0, 0);
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.font = FONT;
    this.drawPlace(pen, this.height - AXIS - TAIL);
  }

  drawPicture(pen) {
    pen.fillStyle = colours.faint;
    pen.fillRect(0, 0, this.width, this.height);
    pen.font = FONT;
    const low = this.height - AXIS - TAIL;
    this.drawGaps(pen, low);
    this.drawWave(pen, HEAD, low - 2 * BAND);
    this.drawBand(pen, of.sound, colours.heard, low - 2 * BAND + 2);
    // Of a long recording, the list of the server leaves out short pauses: the lines have them.
    this.drawBand(pen, timesWithin(this.from, this.to, MOST_LINES) ?? of.speech, colours.spoken, low - BAND + 2);
    this.drawAxis(pen);
    for (const [ms, kind] of of.cuts) if (ms >= this.from && ms <= this.to) this.drawCut(pen, this.x(ms), kind, low);
    this.drawHits(pen, low);
  }

  drawWave(pen, top, bottom) {
    const middle = (top + bottom) / 2, half = (bottom - top) / 2;
    const each = (this.to - this.from) / this.width;
    if (!of.coarse) return;
    const level = of.fine && each < of.coarse.stepMs ? of.fine : of.coarse;
    level.want?.(this.from, this.to);
    pen.fillStyle = colours.wave;
    for (let x = 0; x < this.width; x++) {
      const begin = this.from + x * each;
      const found = level.range(begin, begin + each) ?? of.coarse.range(begin, begin + each);
      // A line, also in silence.
      const [lowest, highest] = found ?? [0, 0];
      const up = middle - highest / 128 * half;
      pen.fillRect(x, up, 1, Math.max(1, middle - lowest / 128 * half - up));
    }
  }

  drawBand(pen, parts, colour, top) {
    pen.fillStyle = colour;
    for (const [begin, end] of parts) {
      if (end < this.from || begin > this.to) continue;
      const x = Math.max(0, this.x(begin));
      pen.fillRect(x, top, Math.max(1, Math.min(this.width, this.x(end)) - x), BAND - 3);
    }
  }

  drawGaps(pen, bottom) {
    for (const [begin, end] of of.gaps) {
      if (end < this.from || begin > this.to) continue;
      const x = Math.max(0, this.x(begin)), width = Math.max(2, Math.min(this.width, this.x(end)) - x);
      pen.save();
      pen.beginPath();
      pen.rect(x, 0, width, bottom);
      pen.clip();
      pen.strokeStyle = colours.gap;
      pen.lineWidth = 1;
      pen.beginPath();
      for (let line = x - bottom; line < x + width; line += 7) { pen.moveTo(line, bottom); pen.lineTo(line + bottom, 0); }
      pen.stroke();
      pen.restore();
      pen.strokeStyle = colours.gap;
      pen.strokeRect(x + 0.5, 0.5, width - 1, bottom - 1);
      if (width > 90) {
        pen.fillStyle = colours.page;
        pen.fillRect(x + width / 2 - 40, bottom / 2 - 8, 80, 16);
        pen.fillStyle = colours.gap;
        pen.textAlign = "center";
        pen.textBaseline = "middle";
        pen.fillText("no transcript", x + width / 2, bottom / 2);
      }
    }
  }

  /** A line with a head: filled triangle, open diamond, or cross on a dashed line. */
  drawCut(pen, x, kind, bottom) {
    const colour = kind === "forced" ? colours.warn : colours.text;
    pen.strokeStyle = colour;
    pen.fillStyle = colour;
    pen.lineWidth = kind === "forced" ? 2 : 1;
    pen.setLineDash(kind === "forced" ? [4, 3] : []);
    pen.beginPath();
    pen.moveTo(x, HEAD - 2);
    pen.lineTo(x, bottom);
    pen.stroke();
    pen.setLineDash([]);
    pen.beginPath();
    if (kind === "forced") {
      pen.moveTo(x - 4, 1); pen.lineTo(x + 4, 9); pen.moveTo(x + 4, 1); pen.lineTo(x - 4, 9);
      pen.stroke();
    } else if (kind === "tight") {
      pen.moveTo(x, 0.5); pen.lineTo(x + 4.5, 5); pen.lineTo(x, 9.5); pen.lineTo(x - 4.5, 5); pen.closePath();
      pen.stroke();
    } else {
      pen.moveTo(x - 4.5, 1); pen.lineTo(x + 4.5, 1); pen.lineTo(x, 9); pen.closePath();
      pen.fill();
    }
    pen.lineWidth = 1;
  }

  drawHits(pen, low) {
    const mark = (ms, size) => {
      const x = this.x(ms);
      pen.moveTo(x, low);
      pen.lineTo(x + size / 2, low + size);
      pen.lineTo(x - size / 2, low + size);
      pen.closePath();
    };
    pen.fillStyle = colours.hit;
    pen.beginPath();
    let before = -9;
    for (const ms of of.hits) {
      // Thousands of hits on a few hundred pixels are drawn once each pixel.
      if (ms < this.from || ms > this.to || this.x(ms) - before < 1) continue;
      before = this.x(ms);
      mark(ms, 6);
    }
    pen.fill();
    const chosen = of.hits[of.hit];
    if (chosen === undefined || chosen < this.from || chosen > this.to) return;
    pen.beginPath();
    mark(chosen, 9);
    pen.fill();
    pen.strokeStyle = colours.hit;
    pen.beginPath();
    pen.moveTo(this.x(chosen), HEAD);
    pen.lineTo(this.x(chosen), low);
    pen.stroke();
  }

  drawAxis(pen) {
    const length = (this.to - this.from) / 1000;
    const step = TICKS_S.find((one) => length / one <= this.width / 70) ?? 28800;
    pen.fillStyle = colours.soft;
    pen.textBaseline = "alphabetic";
    for (let at = Math.ceil(this.from / 1000 / step) * step; at * 1000 <= this.to; at += step) {
      const x = this.x(at * 1000);
      pen.textAlign = x < 20 ? "left" : x > this.width - 24 ? "right" : "center";
      pen.fillRect(Math.min(this.width - 1, x), this.height - AXIS, 1, 3);
      pen.fillText(clock(at * 1000), x, this.height - 3);
    }
  }

  drawPlace(pen, low) {
    const line = (ms, colour, width) => {
      pen.fillStyle = colour;
      pen.fillRect(this.x(ms) - width / 2, 0, width, low);
    };
    if (of.window && this.from === 0 && this.to === of.duration && of.window !== this) {
      // What the other strip shows.
      const x = this.x(of.window.from);
      pen.strokeStyle = colours.at;
      pen.strokeRect(x + 0.5, HEAD - 0.5, Math.max(3, this.x(of.window.to) - x - 1), low - HEAD);
    }
    if (of.at >= this.from && of.at <= this.to) {
      line(of.at, colours.at, 2);
      pen.beginPath();
      pen.arc(Math.min(this.width - 5, Math.max(5, this.x(of.at))), 5, 5, 0, 7);
      pen.fill();
    }
    if (this.hover !== null) {
      line(this.hover, colours.soft, 1);
      const text = clock(this.hover), x = this.x(this.hover), right = x > this.width - 60;
      const wide = pen.measureText(text).width + 8;
      pen.fillStyle = colours.page;
      pen.fillRect(right ? x - wide - 2 : x + 2, HEAD, wide, 16);
      pen.fillStyle = colours.text;
      pen.textAlign = right ? "right" : "left";
      pen.textBaseline = "middle";
      pen.fillText(text, right ? x - 6 : x + 6, HEAD + 8);
    }
  }
}

/** The strip that can be zoomed. It turns to the next part when the player leaves it. */
class Zoomed extends Strip {
  constructor(parent) {
    super(parent, "Position in the recording, zoomed", 176);
    this.length = Math.min(of.duration, 60_000);
    this.centre(0);
  }

  steps() { return [Math.min(5000, this.length / 20), this.length / 2]; }

  centre(ms) {
    this.from = Math.min(Math.max(0, ms - this.length / 4), Math.max(0, of.duration - this.length));
    this.to = this.from + this.length;
    this.soon();
  }

  zoom(by) {
    const lengths = [...ZOOMS_MS.filter((one) => one < of.duration), of.duration];
    const now = lengths.findIndex((one) => one >= this.length);
    this.length = lengths[Math.min(lengths.length - 1, Math.max(0, now + by))];
    this.centre(of.at);
    return this.length;
  }

  show(ms) {
    const edge = this.length / 20;
    if (ms < this.from || ms > this.to - (this.to < of.duration ? edge : 0)) this.centre(ms);
  }

  pressed(event) {
    if (event.key === "+" || event.key === "-") {
      event.preventDefault();
      this.canvas.dispatchEvent(new CustomEvent("zoom", { detail: event.key === "+" ? -1 : 1 }));
    } else super.pressed(event);
  }
}

const begin = () => {
  const list = (name) => JSON.parse(wave.dataset[name]);
  of.duration = Number(wave.dataset.duration);
  of.cuts = list("cuts");
  of.sound = list("sound");
  of.speech = list("speech");
  of.gaps = list("gaps");
  readColours();
  const strips = [];
  const place = document.getElementById("overview");
  if (place) strips.push(new Strip(place, "Position in the recording", 92));
  const zoomed = new Zoomed(wave);
  strips.push(zoomed);
  of.window = zoomed;
  const all = () => { for (const strip of strips) strip.soon(); };
  const changed = () => { of.version += 1; all(); };

  const tools = document.createElement("div"), length = document.createElement("output");
  tools.className = "controls";
  const zoom = (by) => {
    length.textContent = `${clock(zoomed.zoom(by))} shown`;
    all();
  };
  for (const [text, name, by] of [["−", "Show more", 1], ["+", "Show less, in more detail", -1]]) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = text;
    button.setAttribute("aria-label", name);
    button.addEventListener("click", () => zoom(by));
    tools.append(button);
  }
  tools.append(length);
  zoomed.canvas.after(tools);
  zoomed.canvas.addEventListener("zoom", (event) => zoom(event.detail));
  length.textContent = `${clock(zoomed.length)} shown`;

  // The picture of the server is for readers without scripts: this one has the same and more.
  for (const picture of document.querySelectorAll("#sound > svg, #sound > .key")) picture.setAttribute("hidden", "");
  wave.hidden = false;

  document.addEventListener("steno:time", (event) => {
    const { ms, playing, moved } = event.detail;
    of.at = ms;
    zoomed.show(ms);
    if (moved || !playing) for (const strip of strips) strip.value();
    all();
  });
  document.addEventListener("steno:hits", (event) => {
    of.hits = event.detail.ms;
    of.hit = event.detail.current ?? -1;
    changed();
  });
  for (const query of [system, matchMedia("(prefers-color-scheme: dark)")]) {
    query.addEventListener("change", () => { readColours(); changed(); });
  }
  const url = wave.dataset.waveform;
  if (url) {
    overview(url).then((level) => {
      of.coarse = level;
      of.fine = detail(url, DETAIL_STEP_MS, of.duration, changed);
      changed();
    }, (error) => { length.textContent = `The waveform cannot be read: ${error.message}.`; });
  }
};

if (wave) begin();
