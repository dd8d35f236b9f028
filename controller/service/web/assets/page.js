// What every page does: keeps what the reader has opened, says when the service does not answer, and asks for nothing
// while nobody looks.
const message = document.getElementById("message");

export function say(text) {
  if (message.textContent !== text) message.textContent = text;
  message.hidden = !text;
}

// A part that comes again is as the server makes it. Only the reader opens and closes things.
window.Idiomorph.defaults.callbacks.beforeAttributeUpdated = (name, element) =>
  !(name === "open" && element instanceof HTMLDetailsElement);

document.addEventListener("htmx:beforeRequest", (event) => {
  if (document.hidden) event.preventDefault();
});
document.addEventListener("htmx:afterRequest", (event) => {
  if (event.detail.successful) say("");
  else if (event.detail.xhr.status === 404) say("This is not there any more: it was deleted.");
  else if (event.detail.xhr.status) say("The service cannot show this now. It is tried again.");
  else say("The service does not answer. It is tried again.");
});

// What came now may be what a script works on. One that has begun is not begun again.
document.addEventListener("htmx:afterSettle", () => {
  for (const place of document.querySelector("[data-modules]")?.dataset.modules.trim().split(" ") ?? []) import(place);
});

// What was done by the form of the page before is said once, not again when the page is loaded again.
const place = new URL(location.href);
if (place.searchParams.has("did")) {
  place.searchParams.delete("did");
  history.replaceState(history.state, "", place);
}
