// What every page does: says when the service does not answer, and asks for nothing while nobody looks.
const message = document.getElementById("message");

export function say(text) {
  message.textContent = text;
  message.hidden = !text;
}

document.addEventListener("htmx:beforeRequest", (event) => {
  if (document.hidden) event.preventDefault();
});
document.addEventListener("htmx:afterRequest", (event) => {
  if (event.detail.successful) say("");
  else if (event.detail.xhr && event.detail.xhr.status >= 400) say("The service cannot show this now. It is tried again.");
  else say("The service does not answer. It is tried again.");
});
