// Plays the sound. Others ask by the event steno:seek, and are told by steno:time where the player is.

const audio = document.getElementById("audio");
const player = document.getElementById("player");
const said = document.getElementById("said");
const STEP_MS = 5000;
const AROUND_MS = 5000;

/** Where the sound is, also where there is none to play. */
let at = 0;
/** Where a part ends that is played by itself; 0: nowhere. */
let until = 0;
/** Where to continue when a link to the recording has ended. */
let retried = -1;

export const clock = (ms) => {
  const seconds = Math.floor(Math.max(0, ms) / 1000), two = (value) => String(value).padStart(2, "0");
  const minutes = Math.floor(seconds / 60);
  return minutes < 60 ? `${minutes}:${two(seconds % 60)}`
    : `${Math.floor(minutes / 60)}:${two(minutes % 60)}:${two(seconds % 60)}`;
};

export const seek = (ms, more = {}) =>
  document.dispatchEvent(new CustomEvent("steno:seek", { detail: { ms, ...more } }));

const tell = (moved) => {
  const playing = Boolean(audio) && !audio.paused && !audio.ended;
  document.dispatchEvent(new CustomEvent("steno:time", { detail: { ms: at, playing, moved } }));
};

const say = (text) => { if (said) said.textContent = text; };

/** Whether the focus is where text is written, or where a letter chooses something. */
export const writes = (target) =>
  target instanceof Element
  && target.closest('input:not([type="checkbox"]):not([type="range"]), textarea, select, [contenteditable]') !== null;

const WHY = {
  2: "the connection to the recording was lost",
  3: "this browser cannot decode the recording from here on",
  4: "this browser cannot play the recording, or it is not there any more",
};

const play = async () => {
  try {
    await audio.play();
  } catch (error) {
    // AbortError: something else was asked for before it began.
    if (error.name === "NotAllowedError") say("The browser asks for a press of its play button first.");
  }
};

const toggle = () => {
  until = 0;
  if (audio.paused) play(); else audio.pause();
};

const go = ({ ms, play: wanted, untilMs }) => {
  at = Math.max(0, ms);
  until = untilMs ?? 0;
  if (audio) {
    audio.currentTime = at / 1000;
    if (wanted && audio.paused) play();
  }
  tell(true);
};

const step = (ms) => go({ ms: Math.min(at + ms, audio && audio.duration ? audio.duration * 1000 : Infinity) });

const begin = () => {
  let frame = 0;
  const follow = () => {
    at = audio.currentTime * 1000;
    if (until && at >= until) {
      until = 0;
      audio.pause();
    }
    tell(false);
    frame = audio.paused ? 0 : requestAnimationFrame(follow);
  };
  const stop = () => {
    cancelAnimationFrame(frame);
    frame = 0;
    at = audio.currentTime * 1000;
    tell(false);
  };
  audio.addEventListener("play", () => { say(""); if (!frame) frame = requestAnimationFrame(follow); });
  audio.addEventListener("pause", stop);
  audio.addEventListener("ended", stop);
  // A page in the background gets no frames, but a part must end there too.
  audio.addEventListener("timeupdate", () => {
    at = audio.currentTime * 1000;
    if (until && at >= until && !audio.paused) { until = 0; audio.pause(); }
  });
  audio.addEventListener("seeking", () => {
    const now = audio.currentTime * 1000;
    // Somebody moves the player itself.
    if (Math.abs(now - at) > 300) { at = now; until = 0; tell(true); }
  });
  audio.addEventListener("error", () => {
    const place = at;
    // Links to objects end after an hour: a new one is asked for, once at each place.
    if (retried !== place && audio.error && audio.error.code === 2) {
      retried = place;
      audio.load();
      audio.currentTime = place / 1000;
      play();
      return;
    }
    say(`Stopped: ${WHY[audio.error ? audio.error.code : 4] ?? WHY[4]}.`);
  });
  if (audio.error) say(`Nothing to play: ${WHY[audio.error.code] ?? WHY[4]}.`);

  const speed = document.getElementById("speed");
  speed.addEventListener("change", () => { audio.playbackRate = Number(speed.value); });
  audio.addEventListener("ratechange", () => {
    if (Array.from(speed.options).some((one) => Number(one.value) === audio.playbackRate)) speed.value = String(audio.playbackRate);
  });
  for (const button of player.querySelectorAll("[data-step]")) {
    button.addEventListener("click", () => step(Number(button.dataset.step)));
  }
  document.addEventListener("click", (event) => {
    const button = event.target instanceof Element ? event.target.closest("[data-seam]") : null;
    if (!button) return;
    const ms = Number(button.dataset.seam);
    go({ ms: ms - AROUND_MS, play: true, untilMs: ms + AROUND_MS });
    say(`Plays from ${clock(ms - AROUND_MS)} to ${clock(ms + AROUND_MS)}.`);
  });
  for (const button of document.querySelectorAll("[data-seam]")) button.hidden = false;

  const media = navigator.mediaSession;
  if (media && "MediaMetadata" in window) {
    media.metadata = new MediaMetadata({ title: document.querySelector("h1")?.textContent ?? "" });
    media.setActionHandler("seekbackward", () => step(-STEP_MS));
    media.setActionHandler("seekforward", () => step(STEP_MS));
  }
};

const KEYS = { k: toggle, j: () => step(-STEP_MS), l: () => step(STEP_MS) };

const pressed = (event) => {
  if (event.defaultPrevented || event.isComposing || event.ctrlKey || event.altKey || event.metaKey) return;
  if (event.key === "F8") {
    event.preventDefault();
    if (event.shiftKey) step(-STEP_MS); else toggle();
    return;
  }
  const act = event.shiftKey ? undefined : KEYS[event.key.toLowerCase()];
  // A single letter acts only from where it is about the sound, so that it cannot be pressed by accident elsewhere.
  if (!act || writes(event.target) || !event.target.closest?.("#player, #sound, #transcript")) return;
  event.preventDefault();
  act();
};

if (player) {
  for (const part of player.querySelectorAll("[hidden]")) part.hidden = false;
  document.addEventListener("steno:seek", (event) => go(event.detail));
  if (audio) {
    begin();
    document.addEventListener("keydown", pressed);
  }
}
