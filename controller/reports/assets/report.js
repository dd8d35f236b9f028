"use strict";
// What a reader can do without: go to a time, show some lines only. Text is only compared, never made into elements.
(() => {
  const tools = document.getElementById("tools");
  document.documentElement.classList.add("js");
  if (!tools) return;
  document.documentElement.classList.add("tooled");
  const lines = Array.from(document.querySelectorAll(".block li"));
  const blocks = Array.from(document.querySelectorAll(".block"));
  const seconds = (text) => text.trim().split(":").reduce((sum, part) => 60 * sum + Number(part || NaN), 0);
  const starts = lines.map((line) => seconds(line.firstElementChild.textContent));

  const goTo = (wanted) => {
    let low = 0, high = lines.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (starts[middle] <= wanted) low = middle + 1; else high = middle;
    }
    const line = lines[Math.max(0, low - 1)];
    if (!line || Number.isNaN(wanted)) return;
    location.replace("#" + line.id);
  };

  const find = document.getElementById("find"), unsure = document.getElementById("unsure");
  const shown = document.getElementById("shown");
  const filter = () => {
    const wanted = find.value.trim().toLocaleLowerCase();
    let count = 0;
    for (const line of lines) {
      const fits = (!wanted || line.querySelector("span").textContent.toLocaleLowerCase().includes(wanted))
        && (!unsure.checked || line.querySelector("u") !== null);
      line.hidden = !fits;
      count += fits;
    }
    const all = !wanted && !unsure.checked;
    for (const block of blocks) block.hidden = !all && !block.querySelector("li:not([hidden])");
    shown.textContent = all ? "" : count + " of " + lines.length + " lines";
  };

  let waiting = 0;
  const soon = () => { clearTimeout(waiting); waiting = setTimeout(filter, 150); };
  tools.addEventListener("submit", (event) => { event.preventDefault(); goTo(seconds(document.getElementById("go").value)); });
  find.addEventListener("input", soon);
  unsure.addEventListener("change", filter);
  const sound = document.querySelector("svg.sound");
  if (sound) sound.addEventListener("click", (event) => {
    const box = sound.getBoundingClientRect();
    goTo((event.clientX - box.left) / box.width * Number(sound.dataset.total) / 1000);
  });
  tools.hidden = false;
})();
